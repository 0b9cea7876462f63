"""Inputs: where every file lands, and what is said of each that cannot be taken."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubeq.actions.inputs import Inputs, collect_inputs, manifest_of
from kubeq.actions.parameters import read_parameters, read_table
from kubeq.core.digest import Digest
from kubeq.core.manifest import Remote
from kubeq.core.resources import Resources
from kubeq.core.spec import JobSpec, command_of
from kubeq.core.tables import Table
from kubeq.errors import AccessDenied, ObjectNotFound, UsageError
from kubeq.store.sources import Pinned

Make = Callable[..., None]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    base = tmp_path / "here"
    base.mkdir()
    return base


@pytest.fixture
def make(here: Path) -> Make:
    def write(*names: str, content: str | None = None) -> None:
        for name in names:
            path = here / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name if content is None else content)

    return write


def places(inputs: Inputs) -> dict[str, str]:
    return {source.destination: source.path.read_text() for source in inputs.shared}


def uploaded(here: Path, *texts: str) -> dict[str, str]:
    return places(collect_inputs(texts, ["true"], None, here))


def refusal(here: Path, *texts: str, words: tuple[str, ...] = ("true",), table: Table | None = None) -> UsageError:
    with pytest.raises(UsageError) as caught:
        collect_inputs(texts, words, table, here)
    assert "\n" not in caught.value.message
    return caught.value


def test_a_file_keeps_its_relative_path_and_loses_an_absolute_one(here: Path, make: Make) -> None:
    make("a.txt", "d/b.txt", "./d/c.txt")
    assert uploaded(here, "a.txt", "./d/b.txt", str(here / "d/c.txt")) == {
        "a.txt": "a.txt",
        "d/b.txt": "d/b.txt",
        "c.txt": "./d/c.txt",
    }


def test_a_destination_renames(here: Path, make: Make) -> None:
    make("a", "b:c", "d/e")
    assert uploaded(here, "a:x/y", "b:c:z", "d/e:in/", "d:dir") == {
        "x/y": "a",
        "z": "b:c",
        "in/e": "d/e",
        "dir/e": "d/e",
    }


def test_a_directory_is_taken_whole_with_hidden_files_and_without_empty_ones(here: Path, make: Make) -> None:
    make("d/a", "d/.hidden", "d/s/t/b", "d/s/empty file")
    (here / "d/empty/deeper").mkdir(parents=True)
    assert sorted(uploaded(here, "d")) == ["d/.hidden", "d/a", "d/s/empty file", "d/s/t/b"]
    assert sorted(uploaded(here, str(here / "d/s"))) == ["s/empty file", "s/t/b"]
    assert sorted(uploaded(here, "d/s:x/")) == ["x/empty file", "x/t/b"]
    assert sorted(uploaded(here, "d/s:.")) == ["empty file", "t/b"]
    assert sorted(uploaded(here, "d/")) == sorted(uploaded(here, "d"))


def test_the_current_directory_becomes_the_work_directory(here: Path, make: Make) -> None:
    make("a", "s/b", ".kubeq", "s/.kubeq")
    inputs = collect_inputs(["."], ["true"], None, here)
    assert sorted(places(inputs)) == ["a", "s/.kubeq", "s/b"]
    assert any("left out" in warning and ".kubeq" in warning for warning in inputs.warnings)


def test_a_pattern_takes_what_it_matches(here: Path, make: Make) -> None:
    make("d/a.csv", "d/b.csv", "d/.c.csv", "d/x.txt", "d/e/f.csv", "[x]")
    assert sorted(uploaded(here, "d/*.csv")) == ["d/a.csv", "d/b.csv"]
    assert sorted(uploaded(here, "d/*.csv:in")) == ["in/a.csv", "in/b.csv"]
    assert sorted(uploaded(here, "d/*.csv:.")) == ["a.csv", "b.csv"]
    assert sorted(uploaded(here, "**/*.csv")) == ["d/a.csv", "d/b.csv", "d/e/f.csv"]
    assert sorted(uploaded(here, f"{here}/d/?.csv")) == ["a.csv", "b.csv"]
    assert sorted(uploaded(here, "d/[e]:in")) == ["in/e/f.csv"]
    assert sorted(uploaded(here, "[x]")) == ["[x]"]


def test_only_the_executable_bit_travels(here: Path, make: Make) -> None:
    make("run", "data", "root")
    (here / "run").chmod(0o755)
    (here / "data").chmod(0o600)
    (here / "root").chmod(0o4755)
    inputs = collect_inputs(["run", "data", "root"], ["true"], None, here)
    assert [(source.destination, source.executable) for source in inputs.shared] == [
        ("run", True),
        ("data", False),
        ("root", True),
    ]
    assert inputs.warnings == (f"the set-user-id, set-group-id and sticky bits do not travel: {str(here / 'root')!r}",)


def test_an_empty_file_is_a_file(here: Path, make: Make) -> None:
    make("nothing", content="")
    assert uploaded(here, "nothing") == {"nothing": ""}


def test_all_missing_sources_are_named_at_once(here: Path, make: Make) -> None:
    make("there", "file")
    error = refusal(here, "a", "there", "file/below", *(f"m{number}" for number in range(12)))
    assert error.message.startswith("these inputs do not exist: -u 'a', -u 'file/below', -u 'm0'")
    assert error.message.endswith("-u 'm7' and 4 more")
    assert refusal(here, "a").message == "this input does not exist: -u 'a'"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no source"),
        (":x", "no source"),
        ("a:", "no destination"),
        ("@", "names no list"),
        ("ftp://h/x", "no input can be at a URL of the scheme 'ftp'"),
        ("file:///etc/passwd", "no input can be at a URL of the scheme 'file'"),
        ("http://h:80/x:", "no destination"),
        ("../up", "leaves the work directory"),
        ("d/../../up", "leaves the work directory"),
        ("a:../x", "leaves the work directory"),
        ("a:/abs", "relative path"),
        ("a:x/../../y", "leaves the work directory"),
        ("a:.", "is a directory"),
        ("a:x\ny", "control character"),
        ("a:" + "x" * 300, "too long"),
        ("a:" + "x/" * 600 + "y", "too long"),
        ("a:\udcff", "not valid UTF-8"),
        ("/", "relative path"),
        ("a:.kubeq", "reserved"),
        ("a:.kubeq/x", "reserved"),
        ("a:.kubeq-tmp", "reserved"),
        ("d:.kubeq", "reserved"),
        ("C:\\x", "does not exist"),
        ("~/x", "does not exist"),
        ("z*", "matches no file"),
        ("a\0b", "zero byte"),
        ("x" * 5000, "too long"),
        ("x" * 5000 + ":x", "does not exist"),
        ("@" + "x" * 5000, "File name too long"),
        ("@a\0", "zero byte"),
    ],
)
def test_a_bad_upload_is_refused(here: Path, make: Make, text: str, said: str) -> None:
    make("a", "d/x", "../up")
    error = refusal(here, text)
    assert said in error.message
    assert error.hint


def test_an_unknown_scheme_is_answered_with_all_that_there_are(here: Path) -> None:
    assert refusal(here, "ftp://h/x").hint == "the schemes are gs, http, https, kubeq, s3"


def test_a_colon_that_can_be_read_in_two_ways_is_refused_with_both(here: Path, make: Make) -> None:
    make("a", "a:b")
    error = refusal(here, "a:b")
    assert "can mean the file 'a:b', or 'a' with the destination 'b'" in error.message
    assert uploaded(here, "a:b:NAME") == {"NAME": "a:b"}
    assert uploaded(here, "a:./b") == {"b": "a"}


def test_results_names_are_allowed_as_inputs(here: Path, make: Make) -> None:
    make("stdout.txt", "result.json")
    assert sorted(uploaded(here, "stdout.txt", "result.json")) == ["result.json", "stdout.txt"]


@pytest.fixture
def listener(here: Path) -> Iterator[None]:
    (here / "d").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        old = Path.cwd()
        os.chdir(here)
        server.bind("d/sock")
        os.chdir(old)
        yield


def test_devices_sockets_and_fifos_are_refused_by_type(here: Path, listener: None) -> None:
    os.mkfifo(here / "fifo")
    os.mkfifo(here / "d/fifo")
    error = refusal(here, "fifo", "/dev/null", "d")
    assert error.message.startswith("these inputs are not regular files: -u 'fifo' (a FIFO), -u '/dev/null' (a device)")
    assert "d/fifo' (a FIFO)" in error.message and "d/sock' (a socket)" in error.message


def test_a_named_link_is_followed(here: Path, make: Make) -> None:
    make("../outside/f", "../outside/d/g")
    (here / "file").symlink_to("../outside/f")
    (here / "dir").symlink_to("../outside/d")
    assert uploaded(here, "file", "dir") == {"file": "../outside/f", "dir/g": "../outside/d/g"}


def test_a_link_inside_a_tree_is_taken_as_what_it_leads_to(here: Path, make: Make) -> None:
    make("t/a", "t/d/b")
    (here / "t/file").symlink_to("a")
    (here / "t/dir").symlink_to("d")
    (here / "t/d/absolute").symlink_to(here / "t/a")
    assert uploaded(here, "t") == {
        "t/a": "t/a",
        "t/file": "t/a",
        "t/d/b": "t/d/b",
        "t/d/absolute": "t/a",
        "t/dir/b": "t/d/b",
        "t/dir/absolute": "t/a",
    }


@pytest.mark.parametrize(
    ("link", "target", "said"),
    [
        ("t/out", "../outside", "leads out of the directory"),
        ("t/out", "/etc/hostname", "leads out of the directory"),
        ("t/out", "../t2/x", "leads out of the directory"),
        ("t/gone", "nowhere", "leads nowhere"),
        ("t/self", "self", "leads back"),
        ("t/up", ".", "leads back"),
        ("t/d/up", "..", "leads back"),
        ("named", "named", "leads back"),
        ("named", "nowhere", "leads nowhere"),
    ],
)
def test_a_link_that_cannot_be_taken_is_named(here: Path, make: Make, link: str, target: str, said: str) -> None:
    make("t/a", "t/d/b", "outside", "t2/x")
    (here / link).symlink_to(target)
    error = refusal(here, link.partition("/")[0])
    assert said in error.message
    assert link in error.message


def test_links_that_lead_to_each_others_directories_end(here: Path, make: Make) -> None:
    make("t/a/x", "t/b/y")
    (here / "t/a/l").symlink_to("../b")
    (here / "t/b/l").symlink_to("../a")
    assert "lead back" in refusal(here, "t").message


def test_a_directory_without_a_file_is_refused(here: Path) -> None:
    (here / "e/deeper").mkdir(parents=True)
    assert "this directory holds no file: -u 'e'" in refusal(here, "e").message


@pytest.fixture
def not_root(here: Path) -> Iterator[None]:
    """Root reads everything, so that it has to become somebody else for a while."""
    own = os.geteuid()
    for folder in (here, *here.parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(0o755)
    if own == 0:
        os.seteuid(65534)
    yield
    os.seteuid(own)


def test_unreadable_files_and_directories_are_all_named(here: Path, make: Make, request: pytest.FixtureRequest) -> None:
    make("t/a", "t/b", "t/c", "t/d/e", "f")
    for name in ("t/a", "t/c", "t/d", "f"):
        (here / name).chmod(0)
    request.getfixturevalue("not_root")
    error = refusal(here, "t", "f", "t/d/e")
    assert error.message.startswith("these inputs cannot be read: ")
    assert all(f"{name}'" in error.message for name in ("t/a", "t/c", "t/d", "f", "t/d/e"))
    assert "t/b" not in error.message


def test_a_directory_that_holds_kubeqs_own_state_is_refused(here: Path, make: Make) -> None:
    make("t/a", "t/state/queue.db")
    for text in ("t", "t/state"):
        with pytest.raises(UsageError, match="kubeq's own state"):
            collect_inputs([text], ["true"], None, here, own=[here / "t/state", here / "absent"])


def test_the_same_bytes_at_one_destination_are_one_input(here: Path, make: Make) -> None:
    make("a")
    make("b", content="a")
    assert uploaded(here, "a:x", "b:x", "a:x", "./a:./x") == {"x": "a"}


def test_different_bytes_at_one_destination_name_both_sources(here: Path, make: Make) -> None:
    make("a", "d/b")
    error = refusal(here, "a:x", "d/b:x")
    assert "two inputs have one destination: 'x'" in error.message
    assert "here/a'" in error.message and "d/b'" in error.message


def test_the_same_bytes_with_another_executable_bit_are_not_the_same_input(here: Path, make: Make) -> None:
    make("a", "b", content="x")
    (here / "a").chmod(0o755)
    assert "one destination" in refusal(here, "a:x", "b:x").message


@pytest.mark.parametrize("texts", [("a:x", "a:x/y"), ("a:x/y", "a:x"), ("a:x", "a:x/y/z"), ("a:x/y/z", "a:x")])
def test_a_destination_that_is_a_file_and_a_directory_is_refused(
    here: Path, make: Make, texts: tuple[str, ...]
) -> None:
    make("a")
    assert "one destination" in refusal(here, *texts).message


def test_two_unicode_forms_of_a_name_are_one_destination(here: Path, make: Make) -> None:
    make("e\u0301", "\xe9")
    assert "one destination" in refusal(here, "e\u0301", "\xe9").message


def test_a_list_is_like_one_upload_a_line(here: Path, make: Make) -> None:
    make("l/a", "l/d/b", "l/#c", "l/@d", "e")
    make("l/list", content="\ufeff# comment\r\n\r\na\r\nd:x\r\n   \r\n./#c\r\n./@d\r\n../e:e")
    assert sorted(uploaded(here, "@l/list")) == ["#c", "@d", "a", "e", "x/b"]


def test_lists_nest_relative_to_themselves_and_count_once(here: Path, make: Make) -> None:
    make("l/a", "l/m/b")
    make("l/one", content="a\n@m/two\n@m/two\n")
    make("l/m/two", content="b\n")
    assert sorted(uploaded(here, "@l/one", "@l/m/two")) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"@list\n", "the list names itself: list -> list"),
        (b"@sub/back\n", "the list names itself: list -> back -> list"),
        (b"ok\nmissing\n", "list:2 'missing'"),
        (b"ok\n-u ok\n", "list:2 begins with an option"),
        (b"ok\n@nolist\n", "list:2 '@nolist': the list does not exist"),
        (b"ok\n@sub\n", "cannot be read: Is a directory"),
        (b"ok\n\xff\n", "not valid UTF-8 at byte offset 3"),
        ("ok\n".encode("utf-16-le"), "zero byte at byte offset 1"),
        (b"ok:\n", "list:1 'ok:' has no destination"),
        (b"*.zip\n", "list:1 '*.zip'"),
        (b"ok\nftp://b/k\n", "no input can be at a URL of the scheme 'ftp'"),
    ],
)
def test_a_bad_list_is_refused_with_file_and_line(here: Path, make: Make, content: bytes, said: str) -> None:
    make("ok", "sub/x")
    make("sub/back", content="@../list\n")
    (here / "list").write_bytes(content)
    assert said in refusal(here, "@list").message


def test_lists_nest_thirty_two_deep_and_no_deeper(here: Path, make: Make) -> None:
    make("a")
    for number in range(32):
        make(f"l{number}", content=f"@l{number + 1}\n")
    make("l31", content="a\n")
    assert sorted(uploaded(here, "@l0")) == ["a"]
    make("l31", content="@l32\n")
    make("l32", content="a\n")
    assert "more than 32 deep" in refusal(here, "@l0").message


def test_a_list_that_names_nothing_is_refused(here: Path, make: Make) -> None:
    make("list", content="# nothing\n")
    assert "the list names nothing" in refusal(here, "@list").message


def test_a_word_with_a_caret_stages_its_file(here: Path, make: Make) -> None:
    make("run.py", "a b", "d/x", "{x}")
    inputs = collect_inputs([], ["python", "^run.py", "x^y", "^^z", "^a b", "^d", f"^{here}/d/x", "^{x}"], None, here)
    assert sorted(places(inputs)) == ["a b", "d/x", "run.py", "x", "{x}"]
    assert inputs.per_task is None


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("^", "the word '^', which names no file"),
        ("^gone", "stages a file that does not exist: '^gone'"),
        ("^../up", "leaves the work directory"),
        ("^.", "names no file"),
        ("^.kubeq", "reserved"),
    ],
)
def test_a_caret_at_nothing_is_refused(here: Path, make: Make, word: str, said: str) -> None:
    make("../up", ".kubeq")
    error = refusal(here, words=("run", word))
    assert said in error.message
    if "exist" in said or word == "^":
        assert "'^^'" in str(error.hint)


def test_all_missing_words_are_named_at_once(here: Path) -> None:
    assert "'^a', '^b'" in refusal(here, words=("run", "^a", "^b", "x")).message


def test_two_files_of_one_name_from_two_places_clash(here: Path, make: Make) -> None:
    make("d/x", "e/x")
    assert "one destination" in refusal(here, words=("run", f"^{here}/d/x", f"^{here}/e/x")).message


TABLE = Table(("f", "n"), [("d/a", "1"), ("d/b", "2"), ("d/a", "3")])


def test_each_row_gets_its_own_file(here: Path, make: Make) -> None:
    make("d/a", "d/b", "run.py", "{n}")
    inputs = collect_inputs([], ["^run.py", "^{f}", "{n}", "^{{n}"], TABLE, here)
    assert sorted(places(inputs)) == ["run.py", "{n}"]
    assert inputs.per_task is not None
    assert [[source.destination for source in own] for own in inputs.per_task] == [["d/a"], ["d/b"], ["d/a"]]
    assert [path.name for path in inputs.paths()] == ["run.py", "{n}", "a", "b"]


def test_the_staged_place_is_the_one_the_command_gets(here: Path, make: Make) -> None:
    make("d/a", "d/b/c", "run.py")
    words = ("^./run.py", "^{f}", "^d//b", f"^{here}/d/{{f}}")
    table = Table(("f",), [("d/a",)])
    with pytest.raises(UsageError):
        collect_inputs([], words, table, here)
    words = words[:3]
    inputs = collect_inputs([], words, table, here)
    spec = JobSpec(command=words, columns=table.columns, resources=Resources(), log_limit=1)
    assert inputs.per_task is not None
    staged = {source.destination for source in (*inputs.shared, *inputs.per_task[0])}
    assert command_of(spec, table.rows[0]) == ["./run.py", "d/a", "d/b"]
    assert staged == {"run.py", "d/a", "d/b/c"}


def test_a_row_may_name_a_directory_and_a_shared_file_is_not_repeated(here: Path, make: Make) -> None:
    make("d/a", "d/b", "run")
    inputs = collect_inputs(["run"], ["^{f}"], Table(("f",), [("d",), ("run",)]), here)
    assert inputs.per_task is not None
    assert [[source.destination for source in own] for own in inputs.per_task] == [["d/a", "d/b"], []]


def test_all_missing_row_files_are_named_with_their_rows(here: Path, make: Make) -> None:
    make("d/a")
    rows = [("d/a", ""), ("gone", ""), ("d/a", ""), ("gone", "")] + [("gone", "")] * 20
    message = refusal(here, words=("^{f}",), table=Table(("f", "n"), rows)).message
    assert "row 2: 'gone', row 4: 'gone', row 5" in message
    assert message.endswith("and 12 more")


def test_an_empty_cell_that_names_a_file_is_refused_with_row_and_column(here: Path, make: Make) -> None:
    make("d/a")
    table = Table(("f", "n"), [("d/a", ""), ("", "2")])
    assert "a cell that names a file is empty: row 2, column 'f'" in refusal(here, words=("^{f}",), table=table).message


def test_a_row_whose_file_clashes_is_named(here: Path, make: Make) -> None:
    make("d/a", "e/a", "d/b", "x/y")
    table = Table(("f", "g"), [("d/a", "d/b"), ("d/a", "e/a")])
    words = (f"^{here}/{{f}}", f"^{here}/{{g}}")
    assert "row 2: 'a'" in refusal(here, words=words, table=table).message
    shared = refusal(here, "d/b:d/a", words=("^{f}",), table=Table(("f",), [("d/b",), ("d/a",)]))
    assert "row 2: 'd/a'" in shared.message
    folder = refusal(here, "x/y:d/a/z", words=("^{f}",), table=Table(("f",), [("d/a",)]))
    assert "row 1: 'd/a'" in folder.message


def test_a_row_that_leaves_the_work_directory_is_named(here: Path, make: Make) -> None:
    make("../up")
    error = refusal(here, words=("^{f}",), table=Table(("f",), [("../up",)]))
    assert "leaves the work directory" in error.message and "row 1" in error.message


def test_secrets_in_a_tree_are_warned_of(here: Path, make: Make) -> None:
    make("t/.ssh/id_rsa", "t/.ssh/id_rsa.pub", "t/.aws/credentials", "t/app/.env", "t/a")
    (warning,) = collect_inputs(["t"], ["true"], None, here).warnings
    assert warning.startswith("the inputs seem to hold secrets")
    assert all(name in warning for name in ("id_rsa'", "credentials", ".env"))
    assert "id_rsa.pub" not in warning


def test_the_manifest_follows_from_sources_and_digests(here: Path, make: Make) -> None:
    make("a", "b")
    inputs = collect_inputs(["a:x", "b:y"], ["true"], None, here)
    manifest = manifest_of(inputs.shared, {path: Digest.of(path.read_bytes()) for path in inputs.paths()})
    assert [(entry.path, entry.digest) for entry in manifest.entries] == [
        ("x", Digest.of(b"a")),
        ("y", Digest.of(b"b")),
    ]


def test_many_rows_with_a_file_each_are_collected_quickly(here: Path) -> None:
    (here / "d").mkdir()
    for number in range(2000):
        (here / f"d/{number}").touch()
    table = Table(("f",), [(f"d/{number}",) for number in range(2000)])
    begun = time.perf_counter()
    inputs = collect_inputs([], ["^{f}"], table, here)
    assert inputs.per_task is not None and len(inputs.per_task) == 2000
    assert time.perf_counter() - begun < 20.0, "in time that grows as the rows do: else it is minutes"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    text=st.lists(
        st.sampled_from(
            ["a", "b", "c/d", "/.", "/", ":", "@", "*", "^", "[", "]", "~", "-", "#", " ", "\0", "é", "{a}"]
        ),
        max_size=5,
    ).map("".join)
)
def test_any_upload_or_word_is_taken_or_refused(here: Path, text: str) -> None:
    if text.lstrip("@^").startswith("/") or ":/" in text:
        return  # the whole machine is not a test's input
    for name in ("a", "b"):
        (here / name).write_text(name)
    for uploads, words in (([text], ["true"]), ([], [text, "^" + text])):
        try:
            inputs = collect_inputs(uploads, words, None, here)
        except UsageError:
            continue
        for source in inputs.shared:
            assert not source.destination.startswith(("/", "../", ".kubeq"))
            assert ".." not in source.destination.split("/")


def test_parameter_files_are_read_and_multiplied(here: Path, make: Make) -> None:
    make("p.csv", content="a\n1\n2\n")
    make("q.jsonl", content='{"b": "x"}\n')
    table = read_parameters([here / "p.csv", here / "q.jsonl"], "2")
    assert table is not None
    assert list(table.rows) == [("1", "x", "1"), ("1", "x", "2"), ("2", "x", "1"), ("2", "x", "2")]
    assert read_parameters([], None) is None


@pytest.mark.parametrize(("name", "said"), [("gone.csv", "does not exist"), (".", "is a directory")])
def test_a_parameter_file_that_cannot_be_read_is_named(here: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_table(here / name)


def test_a_parameter_table_may_come_from_a_pipe() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"a\n1\n")
    os.close(writing)
    assert list(read_table(Path(f"/dev/fd/{reading}")).rows) == [("1",)]
    os.close(reading)


SHELF = {
    "gs://b/file.txt": [Pinned(url="gs://b/file.txt", pin="generation:1", size=5)],
    "s3://b/t": [
        Pinned(url=f"s3://b/t/{name}", pin=f'etag:"{name}"', size=1, name=name) for name in ("a", "d/c", "run.sh")
    ],
    "gs://b": [Pinned(url="gs://b/x", pin="generation:2", size=1, name="x")],
    "http://h:8080/p/f%20ile?key=secret": [Pinned(url="http://h:8080/p/f%20ile?key=secret", pin='etag:"x"', size=9)],
    "https://h/": [Pinned(url="https://h/", pin='etag:"x"', size=9)],
    "kubeq://demo/3": [
        Pinned(url="kubeq://demo-1/3/2/out/p", pin="sha256:" + "0" * 64, size=1, name="out/p", executable=True)
    ],
}


def look(url: str) -> list[Pinned]:
    if url.endswith("absent"):
        raise ObjectNotFound(f"there is nothing at {url}")
    if url.endswith("forbidden"):
        raise AccessDenied("could not look: the permission is not granted", hint="kubeq setup --dry-run shows them")
    return SHELF[url]


def landed(here: Path, *texts: str) -> dict[str, str]:
    inputs = collect_inputs(texts, ["true"], None, here, look=look)
    assert inputs.shared == ()
    return {remote.path: remote.url for remote in inputs.remotes}


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("gs://b/file.txt", ["file.txt"]),
        ("gs://b/file.txt:other", ["other"]),
        ("gs://b/file.txt:in/", ["in/file.txt"]),
        ("gs://b/file.txt:./in//x", ["in/x"]),
        ("s3://b/t", ["t/a", "t/d/c", "t/run.sh"]),
        ("s3://b/t:data", ["data/a", "data/d/c", "data/run.sh"]),
        ("s3://b/t:data/", ["data/a", "data/d/c", "data/run.sh"]),
        ("s3://b/t:.", ["a", "d/c", "run.sh"]),
        ("gs://b", ["b/x"]),
        ("http://h:8080/p/f%20ile?key=secret", ["f ile"]),
        ("http://h:8080/p/f%20ile?key=secret:x", ["x"]),
        ("https://h/:index.html", ["index.html"]),
        ("kubeq://demo/3", ["3/out/p"]),
        ("kubeq://demo/3:before", ["before/out/p"]),
    ],
)
def test_what_a_url_names_lands_under_its_last_component(here: Path, text: str, places: list[str]) -> None:
    assert sorted(landed(here, text)) == places


def test_a_remote_keeps_where_it_is_its_pin_its_size_and_its_executable_bit(here: Path) -> None:
    assert collect_inputs(["kubeq://demo/3"], ["true"], None, here, look=look).remotes == (
        Remote("3/out/p", "kubeq://demo-1/3/2/out/p", "sha256:" + "0" * 64, 1, True),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gs://b/file.txt:.", "is a directory"),
        ("gs://b/file.txt:../x", "leaves the work directory"),
        ("gs://b/file.txt:/x", "relative path"),
        ("gs://b/file.txt:.kubeq", "reserved"),
        ("s3://b/t:..", "leaves the work directory"),
        ("https://h/", "https://h/ names no file"),
        ("gs://b/absent", "there is nothing at this URL: -u 'gs://b/absent'"),
    ],
)
def test_a_url_that_cannot_be_placed_is_refused(here: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        collect_inputs([text], ["true"], None, here, look=look)
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_all_urls_that_name_nothing_are_named_at_once_and_without_their_keys(here: Path) -> None:
    texts = ["gs://b/absent", "s3://b/t", "https://h/x?signature=secret&absent"]
    with pytest.raises(UsageError) as caught:
        collect_inputs(texts, ["true"], None, here, look=look)
    assert caught.value.message == "there is nothing at these URLs: -u 'gs://b/absent', 'https://h/x'"


def test_a_source_that_refuses_is_named_and_setup_is_not_the_remedy(here: Path) -> None:
    with pytest.raises(AccessDenied) as caught:
        collect_inputs(["gs://b/forbidden"], ["true"], None, here, look=look)
    assert caught.value.message == (
        "the source gs://b/forbidden cannot be used: could not look: the permission is not granted"
    )
    assert caught.value.hint == "check the URL, and that you may read there"


def test_urls_and_files_stand_in_each_others_way_like_files(here: Path, make: Make) -> None:
    make("file.txt", "b", "d/x")
    for texts, said in (
        (["file.txt", "gs://b/file.txt"], "two inputs have one destination: 'file.txt'"),
        (["gs://b/file.txt", "file.txt"], "'gs://b/file.txt' and "),
        (["b", "gs://b"], "below it, and 'b' is the file"),
        (["d", "gs://b/file.txt:d"], "a directory, and the file 'gs://b/file.txt'"),
        (["http://h:8080/p/f%20ile?key=secret:file.txt", "file.txt"], "'http://h:8080/p/f%20ile' and "),
    ):
        with pytest.raises(UsageError) as caught:
            collect_inputs(texts, ["true"], None, here, look=look)
        assert said in caught.value.message, texts
    assert list(landed(here, "gs://b/file.txt", "gs://b/file.txt")) == ["file.txt"]


def test_a_list_may_name_urls(here: Path, make: Make) -> None:
    make("list", content="gs://b/file.txt:one\n# s3://b/absent\ns3://b/t:two\n")
    assert sorted(landed(here, "@list")) == ["one", "two/a", "two/d/c", "two/run.sh"]


def test_every_url_is_asked_once(here: Path) -> None:
    asked: list[str] = []

    def counting(url: str) -> list[Pinned]:
        asked.append(url)
        return look(url)

    collect_inputs(["gs://b/file.txt:a", "gs://b/file.txt:b"], ["true"], None, here, look=counting)
    assert asked == ["gs://b/file.txt"]


def test_a_job_whose_tasks_have_files_of_their_own_gives_each_the_remote_ones_too(here: Path, make: Make) -> None:
    make("one")
    inputs = collect_inputs(["gs://b/file.txt"], ["^{f}"], Table(("f",), [("one",)]), here, look=look)
    assert [remote.path for remote in inputs.remotes] == ["file.txt"]
    assert inputs.per_task is not None
    assert [source.destination for source in inputs.per_task[0]] == ["one"]
