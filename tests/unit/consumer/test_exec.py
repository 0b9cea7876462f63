"""`kubeq-exec`: every promise, kept by the shipped program and by one compiled here."""

import contextlib
import ctypes
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kubeq_consumer.runtimes.exec import exec_path

SOURCE = Path(__file__).resolve().parents[3] / "consumer" / "kubeq_consumer" / "runtimes" / "exec"
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
OTHER = {"x86_64": "aarch64", "aarch64": "x86_64"}.get(MACHINE, "")
NOBODY = 65534

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not OTHER, reason="kubeq-exec is for Linux on x86_64 and aarch64"
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def compiled(directory: Path) -> Path:
    """A program compiled on this machine by the Makefile beside the source; skips without a compiler."""
    if not shutil.which("gcc") or not shutil.which("make"):
        pytest.skip("no gcc and make here")
    for name in ("kubeq_exec.c", "Makefile"):
        shutil.copy(SOURCE / name, directory)
    name = f"kubeq-exec.{MACHINE}"
    subprocess.run(["make", "-s", "-C", directory, f"CC_{MACHINE}=gcc", name], check=True)
    return directory / name


@pytest.fixture(scope="module", params=["shipped", "compiled", "emulated"])
def program(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """How to call the program: in a directory that every user may read, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="kubeq-exec-test-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        prefix: list[str] = []
        if request.param == "compiled":
            path = compiled(directory)
        else:
            machine = MACHINE if request.param == "shipped" else OTHER
            shipped = exec_path(machine)
            assert shipped is not None
            path = Path(shutil.copy(shipped, directory))
            if request.param == "emulated":
                emulator = shutil.which(f"qemu-{OTHER}-static") or shutil.which(f"qemu-{OTHER}")
                if not emulator:
                    pytest.skip(f"no qemu-{OTHER} here")
                prefix = [emulator]
        path.chmod(0o755)
        yield [*prefix, str(path)]


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """An empty directory that every user may write to."""
    with tempfile.TemporaryDirectory(prefix="kubeq-exec-test-") as name:
        path = Path(name)
        path.chmod(0o777)
        yield path


def result(words: Sequence[str | bytes], **options: Any) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, **options)
    return done.returncode, done.stdout, done.stderr


def script(path: Path, text: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


# ---- which file ----


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("amd64", "kubeq-exec.x86_64"),
        ("x86_64", "kubeq-exec.x86_64"),
        ("arm64", "kubeq-exec.aarch64"),
        ("aarch64", "kubeq-exec.aarch64"),
    ],
)
def test_every_architecture_that_we_ship_has_a_small_executable_file(architecture: str, name: str) -> None:
    path = exec_path(architecture)
    assert path is not None
    assert path.name == name
    assert os.access(path, os.X_OK)
    assert path.read_bytes()[:4] == b"\x7fELF"
    assert path.stat().st_size < 16 * 1024


@pytest.mark.parametrize("architecture", ["", "s390x", "../x86_64", "arm"])
def test_an_architecture_that_we_do_not_ship_has_none(architecture: str) -> None:
    assert exec_path(architecture) is None


# ---- run ----

INTERLEAVED = """
import os
for i in range(200):
    os.write(1 + i % 2, b"%d\\n" % i)
"""


def test_run_puts_stdout_and_stderr_into_one_file_in_their_order(program: list[str]) -> None:
    code, out, err = result([*program, "run", "--", sys.executable, "-c", INTERLEAVED])
    assert (code, err) == (0, "")
    assert out.split() == [str(i) for i in range(200)]


def test_run_passes_every_word_and_the_environment_unchanged(program: list[str]) -> None:
    words = ["a b", "", "'\"$HOME*", "two\nlines", "--", "--cd", "ü", "{x}", os.fsdecode(b"\xff")]
    show = "import os, sys; print(repr((sys.argv[1:], os.environ['WORD'])))"
    environment = {**os.environ, "WORD": "a b\nü", "PYTHONIOENCODING": "utf-8"}
    code, out, _ = result([*program, "run", "--", sys.executable, "-c", show, *words], env=environment)
    assert code == 0
    assert out == repr((words, "a b\nü")) + "\n"


def test_run_ends_with_the_exit_code_of_the_command(program: list[str]) -> None:
    assert result([*program, "run", "--", "sh", "-c", "exit 41"])[0] == 41


def test_run_leaves_no_process_between_the_caller_and_the_command(program: list[str]) -> None:
    with subprocess.Popen([*program, "run", "--", "sh", "-c", "echo $$"], stdout=subprocess.PIPE, text=True) as started:
        out, _ = started.communicate(timeout=60)
    assert int(out) == started.pid


def test_run_changes_to_a_directory(program: list[str], open_directory: Path) -> None:
    assert result([*program, "run", "--cd", str(open_directory), "--", "pwd"])[1] == f"{open_directory.resolve()}\n"


def test_run_in_a_directory_that_is_not_there_is_126_and_runs_nothing(program: list[str]) -> None:
    code, out, _ = result([*program, "run", "--cd", "/nosuch/dir", "--", "echo", "ran"])
    assert (code, out) == (
        126,
        "kubeq: cannot change to directory '/nosuch/dir': no such file or directory\n",
    )


def test_run_opens_the_null_device_where_stdin_is_closed(program: list[str]) -> None:
    show = "import os; print(os.readlink('/proc/self/fd/0'))"
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *program, "run", "--", sys.executable, "-c", show]
    assert result(closed)[:2] == (0, "/dev/null\n")


def test_run_keeps_a_stdin_that_is_open(program: list[str]) -> None:
    assert result([*program, "run", "--", "cat"], input="asked for\n")[1] == "asked for\n"


# ---- run: the search ----


def test_search_takes_the_first_executable_in_the_order_of_path(program: list[str], open_directory: Path) -> None:
    script(open_directory / "one" / "tool", "#!/bin/sh\necho not executable", 0o644)
    (open_directory / "two" / "tool").mkdir(parents=True)
    script(open_directory / "three" / "tool", "#!/bin/sh\necho three")
    script(open_directory / "four" / "tool", "#!/bin/sh\necho four")
    path = ":".join(str(open_directory / d) for d in ("nosuch", "one", "two", "three", "four"))
    assert result([*program, "run", "--", "tool"], env={"PATH": path})[:2] == (0, "three\n")


@pytest.mark.parametrize("path", ["", ":/nosuch", "/nosuch:", "/nosuch::/nosuch"])
def test_search_takes_an_empty_element_as_the_current_directory(
    program: list[str], open_directory: Path, path: str
) -> None:
    script(open_directory / "tool", "#!/bin/sh\necho here")
    assert result([*program, "run", "--", "tool"], env={"PATH": path}, cwd=open_directory)[1] == "here\n"


def test_search_without_path_takes_the_usual_directories(program: list[str]) -> None:
    assert result([*program, "run", "--", "sh", "-c", "echo found"], env={})[:2] == (0, "found\n")


def test_search_does_not_look_for_a_word_with_a_slash(program: list[str], open_directory: Path) -> None:
    script(open_directory / "bin" / "tool", "#!/bin/sh\necho here")
    code, out, _ = result([*program, "run", "--", "./tool"], env={"PATH": str(open_directory / "bin")}, cwd="/")
    assert (code, out) == (127, "kubeq: cannot run './tool': no such file\n")


def test_search_survives_elements_longer_than_any_path(program: list[str]) -> None:
    environment = {"PATH": f"/{'x' * 9000}:/usr/bin:/bin"}
    assert result([*program, "run", "--", "sh", "-c", "echo found"], env=environment)[1] == "found\n"


# ---- run: what cannot be run ----


def test_a_command_that_is_nowhere_is_127(program: list[str]) -> None:
    assert result([*program, "run", "--", "foo"]) == (127, "kubeq: cannot run 'foo': not found in PATH\n", "")


def test_no_command_at_all_is_127(program: list[str]) -> None:
    assert result([*program, "run", "--", ""])[:2] == (127, "kubeq: cannot run '': not found in PATH\n")


def test_a_file_below_a_file_is_127(program: list[str]) -> None:
    assert result([*program, "run", "--", "/etc/passwd/x"])[0] == 127


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("#!/bin/sh\necho ran", 0o644, "is not executable for this user"),
        ("echo ran", 0o755, "is neither a program for this machine nor a script that begins with #!"),
        ("", 0o755, "is neither a program for this machine nor a script that begins with #!"),
        ("#!/nosuch/python3\n", 0o755, "needs an interpreter or loader that does not exist here"),
    ],
)
def test_a_file_that_cannot_be_executed_is_126_and_says_why(
    program: list[str], open_directory: Path, text: str, mode: int, message: str
) -> None:
    tool = script(open_directory / "tool", text, mode)
    code, out, _ = result([*program, "run", "--", str(tool)])
    assert (code, out) == (126, f"kubeq: cannot run '{tool}': {message}\n")
    code, out, _ = result([*program, "run", "--", "tool"], env={"PATH": f"/nosuch:{open_directory}"})
    assert (code, out) == (126, f"kubeq: cannot run 'tool': '{tool}' {message}\n")


def test_a_directory_is_126(program: list[str], open_directory: Path) -> None:
    code, out, _ = result([*program, "run", "--", str(open_directory)])
    assert (code, out) == (126, f"kubeq: cannot run '{open_directory}': is a directory\n")


def test_the_message_is_one_line_whatever_the_name_holds(program: list[str]) -> None:
    _, out, _ = result([*program, "run", "--", "two\nlines\x1b[31m"])
    assert out == "kubeq: cannot run 'two?lines?[31m': not found in PATH\n"
    code, out, _ = result([*program, "run", "--", "x" * 100_000])
    assert code == 126
    assert out.count("\n") == 1
    assert len(out) < 2_000


@pytest.mark.parametrize(
    "words",
    [[], ["run"], ["run", "--"], ["run", "true"], ["run", "--cd", "/", "true"], ["own", "1", "1"], ["pause", "x"],
     ["run", "--gate", "--", "true"], ["run", "--cd", "/", "--gate", "/x", "--", "true"], ["run", "--gate", "/x", "--"],
     ["own", "root", "0", "."], ["own", "-1", "0", "."], ["own", "4294967295", "0", "."], ["own", "", "0", "."]],
)  # fmt: skip
def test_wrong_usage_is_125_and_shows_the_usage(program: list[str], words: list[str]) -> None:
    code, out, _ = result([*program, *words])
    assert code == 125
    assert out.startswith("usage: kubeq-exec run")


# ---- own ----


def owners(root: Path) -> set[tuple[int, int]]:
    """The owners of everything at and below a directory."""
    return {(s.st_uid, s.st_gid) for s in (p.lstat() for p in [root, *root.rglob("*")])}


@as_root
def test_own_gives_everything_and_follows_no_link(program: list[str], open_directory: Path) -> None:
    outside = script(open_directory / "outside" / "file", "x")
    tree = open_directory / "tree"
    (tree / "locked").mkdir(parents=True)
    for i in range(500):
        (tree / "locked" / f"{i:03}-{'long' * 20}").write_text("")
    (tree / "locked").chmod(0)
    (tree / "link-to-file").symlink_to(outside)
    (tree / "link-to-directory").symlink_to(outside.parent)
    (tree / "dangling").symlink_to("nowhere")
    os.mkfifo(tree / "pipe")
    deep = tree
    for _ in range(300):
        deep = deep / "d"
    deep.mkdir(parents=True)

    assert result([*program, "own", "1234", "2345", str(tree)]) == (0, "", "")
    assert owners(tree) == {(1234, 2345)}
    assert owners(open_directory / "outside") == {(0, 0)}


@as_root
def test_own_leaves_what_is_right_already_untouched(program: list[str], open_directory: Path) -> None:
    tool = script(open_directory / "tool", "x", 0o4755)
    os.chown(tool, 1234, 2345)
    tool.chmod(0o4755)
    before = tool.stat()
    assert result([*program, "own", "1234", "2345", str(open_directory)])[0] == 0
    assert tool.stat().st_ctime_ns == before.st_ctime_ns
    assert stat.S_IMODE(tool.stat().st_mode) == 0o4755


@as_root
def test_own_leaves_other_mounts_alone(program: list[str], open_directory: Path) -> None:
    other, tree = open_directory / "other", open_directory / "tree"
    (tree / "mounted").mkdir(parents=True)
    script(other / "file", "x")
    mount = 'mount --bind "$0" "$1" && shift && exec "$@"'
    words = [
        "unshare",
        "-m",
        "sh",
        "-c",
        mount,
        other,
        tree / "mounted",
        *program,
        "own",
        "1234",
        "2345",
        tree,
    ]
    code, out, err = result([str(w) for w in words])
    if "unshare failed" in err or "mount:" in err:
        pytest.skip(f"no mounts of our own here: {err}")
    assert (code, out) == (0, "")
    assert owners(other) == {(0, 0)}


def test_own_of_a_link_or_of_nothing_is_refused(program: list[str], open_directory: Path) -> None:
    (open_directory / "link").symlink_to("/etc")
    for name, why in {"link": "not a directory", "nosuch": "no such file or directory"}.items():
        path = open_directory / name
        code, out, _ = result([*program, "own", "1234", "2345", str(path)])
        assert (code, out) == (1, f"kubeq: cannot open directory '{path}': {why}\n")


def test_own_without_the_right_to_says_what_it_could_not_do(program: list[str], open_directory: Path) -> None:
    for name in ("one", "two"):
        (open_directory / name).write_text("")
    options = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    code, out, _ = result([*program, "own", "1", "1", str(open_directory)], **options)
    assert code == 1
    assert out == (
        "kubeq: cannot change the owner of '': operation not permitted\nkubeq: 3 entries in all could not be changed\n"
    )


# ---- the gate ----


@pytest.fixture
def gate(open_directory: Path) -> Iterator[tuple[Path, int]]:
    """A named pipe, and a descriptor of its other end."""
    path = open_directory / "gate"
    os.mkfifo(path, 0o644)
    end = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    yield path, end
    with contextlib.suppress(OSError):
        os.close(end)


def test_a_command_waits_at_its_gate_until_a_byte_comes(
    program: list[str], gate: tuple[Path, int], open_directory: Path
) -> None:
    path, end = gate
    command = ["sh", "-c", "echo ran > ran; exit 5"]
    with started([*program, "run", "--gate", str(path), "--cd", str(open_directory), "--", *command]) as waiting:
        eventually(lambda: is_asleep(waiting.pid, program), "it waits")
        assert not (open_directory / "ran").exists()
        os.write(end, b"x")
        assert waiting.wait(20) == 5
    assert (open_directory / "ran").exists()


def test_a_gate_that_is_open_already_holds_nobody_up(program: list[str], gate: tuple[Path, int]) -> None:
    path, end = gate
    os.write(end, b"x")
    assert result([*program, "run", "--gate", str(path), "--", "echo", "ran"]) == (0, "ran\n", "")


def test_a_command_never_runs_when_nobody_is_there_to_open_its_gate(
    program: list[str], gate: tuple[Path, int], open_directory: Path
) -> None:
    path, end = gate
    words = [*program, "run", "--gate", str(path), "--", "touch", str(open_directory / "ran")]
    with started(words, stdout=subprocess.PIPE, text=True) as waiting:
        eventually(lambda: is_asleep(waiting.pid, program), "it waits")
        os.close(end)
        assert waiting.wait(20) == 126
        assert waiting.stdout is not None
        assert waiting.stdout.read() == f"kubeq: cannot pass the gate '{path}': whoever was to open it is gone\n"
    assert result(words)[0] == 126, "nor when there never was anybody"
    assert result([*program, "run", "--gate", "/no/such", "--", "true"])[:2] == (
        126,
        "kubeq: cannot open the gate '/no/such': no such file\n",
    )
    assert not (open_directory / "ran").exists()


def test_a_command_inherits_nothing_of_its_gate(program: list[str], gate: tuple[Path, int]) -> None:
    path, end = gate
    os.write(end, b"x")
    look = "import os; print(sorted(os.listdir('/proc/self/fd'))[:-1])"
    words = [sys.executable, "-c", look]
    assert result([*program, "run", "--gate", str(path), "--", *words])[1] == result([*program, "run", "--", *words])[1]


# ---- pause ----


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"not within 20 s: {what}"
        time.sleep(0.01)


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def is_asleep(pid: int, words: Sequence[str]) -> bool:
    """Whether a process has become the program and sleeps, seen ten times: it may also sleep in starting."""
    file = str(Path(words[0]).resolve())
    for _ in range(10):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state != "S" or str(Path(f"/proc/{pid}/exe").readlink()) != file:
            return False
        time.sleep(0.01)
    return True


@contextlib.contextmanager
def started(words: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the block."""
    process = subprocess.Popen(words, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_pause_lasts_until_it_is_told_to_end(program: list[str], number: signal.Signals) -> None:
    with started([*program, "pause"]) as pausing:
        eventually(lambda: is_asleep(pausing.pid, program), "pause sleeps")
        pausing.send_signal(number)
        assert pausing.wait(20) == 0


ORPHANS = """
import os, sys, time
for _ in range(3):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.2)
        os._exit(0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_pause_clears_away_children_that_lost_their_parent(program: list[str]) -> None:
    def adopt() -> None:
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what process 1 of a container is

    words = [sys.executable, "-c", ORPHANS, *program, "pause"]
    with started(words, preexec_fn=adopt) as pausing:
        eventually(lambda: is_asleep(pausing.pid, program), "pause sleeps")
        eventually(lambda: not children(pausing.pid), "no child is left")
        pausing.terminate()
        assert pausing.wait(20) == 0
