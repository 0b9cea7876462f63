"""The examples: each script does what its README says, without kubeq."""

import csv
import json
import shutil
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
MANDELBROT = EXAMPLES / "mandelbrot"
LICENCES = EXAMPLES / "licences"
WIDTH, HEIGHT = 48, 36  # small pictures show the same regions


def run(script: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A finished example script, isolated from this project's packages."""
    command = [sys.executable, "-I", str(script), *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def pixels(path: Path) -> tuple[int, int, bytes]:
    """Width, height and raw lines of a PNG file, read by the PNG specification and with every checksum verified."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, packed, kinds = 8, b"", []
    header = b""
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert int.from_bytes(data[at + 8 + size : at + 12 + size], "big") == zlib.crc32(kind + body)
        kinds.append(kind)
        header = body if kind == b"IHDR" else header
        packed += body if kind == b"IDAT" else b""
        at += 12 + size
    assert (kinds[0], kinds[-1]) == (b"IHDR", b"IEND")
    assert header[8:] == bytes((8, 2, 0, 0, 0))
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    lines = zlib.decompress(packed)
    assert len(lines) == height * (3 * width + 1)
    return width, height, lines


def parameters() -> list[dict[str, str]]:
    with (MANDELBROT / "params.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `kubeq fetch` would leave after the sweep: a small picture in a directory for each row."""
    out = tmp_path_factory.mktemp("sweep")
    for index, row in enumerate(parameters(), start=1):
        directory = out / str(index)
        directory.mkdir()
        size = (str(WIDTH), str(HEIGHT))
        done = run(MANDELBROT / "mandelbrot.py", *row.values(), *size, cwd=directory)
        assert done.returncode == 0, done.stderr
        (directory / "stdout.txt").write_text(done.stdout)
    return out


# ---- mandelbrot ----


def test_parameters_are_at_least_24_different_regions() -> None:
    rows = parameters()
    assert len(rows) >= 24
    assert list(rows[0]) == ["x_scale", "y_scale", "zoom"]
    assert len({tuple(row.values()) for row in rows}) == len(rows)
    assert all(float(row["zoom"]) >= 1 for row in rows)


def test_every_region_shows_something(swept: Path) -> None:
    for index in range(1, len(parameters()) + 1):
        width, height, lines = pixels(swept / str(index) / "mandelbrot.png")
        assert (width, height) == (WIDTH, HEIGHT)
        stride = 3 * width + 1
        colours = [lines[y * stride + 1 + 3 * x : y * stride + 4 + 3 * x] for y in range(height) for x in range(width)]
        commonest = max(colours.count(colour) for colour in set(colours))
        assert len(set(colours)) > 200, f"row {index} is nearly one colour"
        assert commonest < 0.5 * len(colours), f"row {index} is mostly one colour"


def test_a_picture_has_its_full_size_unless_told_otherwise(tmp_path: Path) -> None:
    done = run(MANDELBROT / "mandelbrot.py", "-0.75", "0", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert pixels(tmp_path / "mandelbrot.png")[:2] == (320, 240)


def test_the_same_parameters_give_the_same_bytes(tmp_path: Path, swept: Path) -> None:
    done = run(MANDELBROT / "mandelbrot.py", *parameters()[0].values(), str(WIDTH), str(HEIGHT), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mandelbrot.png").read_bytes() == (swept / "1" / "mandelbrot.png").read_bytes()


def test_a_task_prints_its_progress_and_a_metric(swept: Path) -> None:
    text = (swept / "1" / "stdout.txt").read_text()
    assert f"{HEIGHT} of {HEIGHT} lines\n" in text
    assert "\n::metric inside=0." in text


def test_zoom_one_holds_the_whole_set(tmp_path: Path) -> None:
    run(MANDELBROT / "mandelbrot.py", "-0.75", "-0.0", "1e0", "33", "25", cwd=tmp_path)
    width, height, lines = pixels(tmp_path / "mandelbrot.png")
    stride, black = 3 * width + 1, bytes(3)

    def pixel(x: int, y: int) -> bytes:
        return lines[y * stride + 1 + 3 * x : y * stride + 4 + 3 * x]

    border = [(x, y) for x in range(width) for y in range(height) if x in (0, width - 1) or y in (0, height - 1)]
    assert all(pixel(x, y) != black for x, y in border)
    assert pixel(width // 2, height // 2) == black


@pytest.mark.parametrize(
    "words", [[], ["1", "2"], ["1", "2", "x"], ["0", "0", "0"], ["0", "0", "-1"], ["0", "0", "nan"], ["0", "0", "inf"],
              ["0", "0", "1", "320"], ["0", "0", "1", "0", "10"]]
)  # fmt: skip
def test_bad_parameters_are_refused_with_the_usage(tmp_path: Path, words: list[str]) -> None:
    done = run(MANDELBROT / "mandelbrot.py", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "python3 mandelbrot.py X_SCALE Y_SCALE ZOOM" in done.stderr
    assert not list(tmp_path.iterdir())


class References(HTMLParser):
    """The files that a page names."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names |= {value for name, value in attrs if name in ("href", "src") and value}


def test_the_sheet_and_the_page_show_every_picture(swept: Path) -> None:
    done = run(MANDELBROT / "contact_sheet.py", str(swept), cwd=swept)
    assert (done.returncode, done.stderr) == (0, "")
    rows = len(parameters())
    width, height, lines = pixels(swept / "contact-sheet.png")
    assert width == 6 * (WIDTH // 2 + 8) + 8
    assert height == -(-rows // 6) * (HEIGHT // 2 + 8) + 8
    assert len(set(lines)) > 100

    page = References()
    page.feed((swept / "index.html").read_text())
    assert {f"{index}/mandelbrot.png" for index in range(1, rows + 1)} <= page.names
    assert all((swept / name).is_file() for name in page.names), "the page opens without a network"


def test_the_sheet_leaves_a_gap_for_a_failed_task_and_says_so(swept: Path, tmp_path: Path) -> None:
    out = shutil.copytree(swept, tmp_path / "out")
    (out / "2" / "mandelbrot.png").unlink()
    done = run(MANDELBROT / "contact_sheet.py", str(out), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "no picture of task 2\n")
    assert pixels(out / "contact-sheet.png")[0] > 0
    page = (out / "index.html").read_text()
    assert "2/mandelbrot.png" not in page.replace("12/", "").replace("22/", "")
    assert "no picture" in page


def test_a_sheet_of_nothing_is_refused(tmp_path: Path) -> None:
    done = run(MANDELBROT / "contact_sheet.py", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("no picture in ")
    assert not list(tmp_path.iterdir())


# ---- licences ----


def test_make_params_lists_each_real_file_once(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "B").write_text("b")
    (texts / "A, quoted").write_text("a")
    (texts / "link").symlink_to("B")
    (texts / "folder").mkdir()
    done = run(LICENCES / "make_params.py", "texts", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "params.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["file"], [str(texts / "A, quoted")], [str(texts / "B")]]


@pytest.mark.parametrize("directory", ["nosuch", "empty"])
def test_make_params_of_nothing_is_refused(tmp_path: Path, directory: str) -> None:
    (tmp_path / "empty").mkdir()
    done = run(LICENCES / "make_params.py", directory, cwd=tmp_path)
    assert done.returncode == 1
    assert not (tmp_path / "params.csv").exists()


@pytest.mark.skipif(not Path("/usr/share/common-licenses").is_dir(), reason="not a Debian: no licence texts")
def test_make_params_finds_the_licences_of_this_machine(tmp_path: Path) -> None:
    assert run(LICENCES / "make_params.py", cwd=tmp_path).returncode == 0
    names = [Path(row).name for row in (tmp_path / "params.csv").read_text().splitlines()[1:]]
    assert len(names) == len(set(names)) >= 5
    assert "Apache-2.0" in names
    assert "GPL" not in names


def test_words_counts_a_text(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("The cat sees the dog. The dog's cat sleeps!\n\nA cat")
    done = run(LICENCES / "words.py", "text", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "text: 11 words, 7 distinct, 3.7 a sentence\n")
    found = json.loads((tmp_path / "words.json").read_text())
    assert (found["file"], found["words"], found["distinct"], found["sentences"]) == ("text", 11, 7, 3)
    assert found["top"][0] == {"word": "cat", "count": 3}
    assert "the" not in {entry["word"] for entry in found["top"]}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", "ünïcödé".encode("latin-1")])
def test_words_of_no_text_are_none_or_few_and_no_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text").write_bytes(content)
    assert run(LICENCES / "words.py", "text", cwd=tmp_path).returncode == 0


def test_words_of_a_missing_file_is_an_error(tmp_path: Path) -> None:
    done = run(LICENCES / "words.py", "nosuch", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "nosuch: No such file or directory\n")


def test_summarise_shows_a_line_a_text_the_longest_first(tmp_path: Path) -> None:
    for index, text in enumerate(("one licence", "a longer licence, at last"), start=1):
        directory = tmp_path / "out" / str(index)
        directory.mkdir(parents=True)
        (directory / f"text{index}").write_text(text)
        assert run(LICENCES / "words.py", f"text{index}", cwd=directory).returncode == 0
    done = run(LICENCES / "summarise.py", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["file", "text2", "text1"]
    assert lines[-1] == "2 texts, 7 words; 'licence' is among the ten most frequent of 2 texts"


def test_summarise_of_nothing_is_an_error(tmp_path: Path) -> None:
    assert run(LICENCES / "summarise.py", str(tmp_path), cwd=tmp_path).returncode == 1


def demo(root: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The demo in a checkout where `kubeq` only notes what it is asked and submits `the-id`; and what it was asked."""
    shutil.copytree(MANDELBROT, root / "examples" / "mandelbrot")
    programs = {
        "images/engine.sh": "exit 1",
        ".venv/bin/kubeq": 'echo "$@" >>"$0.asked"; [ "$1" != sub ] || echo the-id',
    }
    for name, body in programs.items():
        path = root / name
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    script = root / "examples" / "mandelbrot" / "demo.sh"
    done = subprocess.run([str(script), *words], capture_output=True, text=True, timeout=120)
    asked = root / ".venv" / "bin" / "kubeq.asked"
    return done, asked.read_text().splitlines() if asked.exists() else []


def test_the_demo_fetches_its_own_job_whatever_was_submitted_last(tmp_path: Path) -> None:
    _, asked = demo(tmp_path)
    assert asked[0].startswith("sub -n demo -i none ") and asked[1:] == [f"fetch the-id {tmp_path}/demo-out"]


def test_the_demo_touches_no_directory_that_holds_something(tmp_path: Path) -> None:
    mine = tmp_path / "pictures" / "mine"
    mine.parent.mkdir()
    mine.write_text("precious")
    done, asked = demo(tmp_path, str(mine.parent))
    assert (done.returncode, asked, mine.read_text()) == (2, [], "precious")
    assert "is not empty" in done.stderr
