"""What is true of the SQLite file and not of tables at large; the rows themselves are in tests/contract."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kubeq.core.model import Policy
from kubeq.errors import AccessDenied, BackendError, VersionMismatch
from kubeq.machine import NETWORK_FILE_SYSTEMS, network_file_system
from kubeq.queue import sqlite as statements
from kubeq.queue.base import Change, Key, Partition, Row, Tally
from kubeq.queue.sqlite import SqliteTable
from kubeq.queue.sqlite_errors import explain
from kubeq.queue.swaps import insist

PARTITION = Partition("tasks:job")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk or to become somebody else")


def row(name: str, body: str = "{}") -> Row:
    return Row(Key(PARTITION, name), 1, f"mark-{name}", Tally("pending"), 1.0, body)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "queue.sqlite"


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that knows `table`, the table of its first argument, and talks on its pipes."""
    head = (
        "import os, sys\nfrom pathlib import Path\nfrom kubeq.queue.sqlite import SqliteTable\n"
        "from kubeq.queue.base import Key, Row\ntable = SqliteTable(Path(sys.argv[1]))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


WRITE_ONE_AND_STAY = """
table.insert([Row(Key("tasks:job", "child"), 1, "mark-child", "pending", 1.0, "{}")])
print("written", flush=True)
sys.stdin.read()
"""


# the file


def test_nothing_is_made_before_the_first_call(path: Path) -> None:
    SqliteTable(path)
    assert not path.parent.exists()


def test_only_the_owner_can_read_the_queue(path: Path) -> None:
    before = os.umask(0)
    try:
        table = SqliteTable(path)
        table.insert([row("a")])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert set(modes) >= {"queue.sqlite", "queue.sqlite-wal", "queue.sqlite.lock"}
    assert set(modes.values()) == {0o600}


def test_commits_are_durable_and_readers_do_not_block_writers(path: Path) -> None:
    table = SqliteTable(path)
    table.insert([row("a")])
    session = table._session()
    assert session.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert session.connection.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"


def test_rows_are_there_for_the_next_process(path: Path) -> None:
    SqliteTable(path).insert([row("a")])
    child = start("print([each.key.name for each in table.list('tasks:job', None, 10).rows])", path)
    assert child.communicate() == ("['a']\n", "")


def test_a_file_of_a_newer_schema_is_refused_and_left_as_it_is(path: Path) -> None:
    SqliteTable(path).insert([row("a")])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(VersionMismatch, match="schema 99") as refused:
        SqliteTable(path).insert([row("b")])
    assert refused.value.hint
    assert path.read_bytes() == before


def test_an_sqlite_file_of_another_program_is_refused_and_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(BackendError, match="not a kubeq queue"):
        SqliteTable(path).list(PARTITION, None, 10)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_with_its_name_and_the_way_to_recover(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"This is a letter to my aunt. " * 500)
    with pytest.raises(BackendError) as refused:
        SqliteTable(path).list(PARTITION, None, 10)
    assert str(path) in refused.value.message
    assert ".recover" in (refused.value.hint or "")
    assert path.read_bytes().startswith(b"This is a letter")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_network_file_system_is_told_by_the_mount_that_a_folder_is_on(tmp_path: Path, kind: str) -> None:
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    other = "22 28 0:999 / /other rw,relatime shared:7 - nfs server:/export rw\n"
    line = f"36 35 {os.major(device)}:{os.minor(device)} / /home rw,noatime master:1 - {kind} server:/home rw\n"
    mounts.write_text(other + line)
    assert kind in NETWORK_FILE_SYSTEMS
    assert network_file_system(tmp_path, mounts) == kind
    mounts.write_text(other + line.replace(kind, "ext4"))
    assert network_file_system(tmp_path, mounts) is None


def _refusal_met_by_a_common_user(path: Path) -> str:
    """What a process that is not root is told when it uses the table; empty if it is let in."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setuid(65534)  # nobody
        try:
            SqliteTable(path).list(PARTITION, None, 1)
        except AccessDenied as error:
            os.write(writer, f"{error.message} | {error.hint}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


def test_a_folder_that_is_not_writable_is_named() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        folder.chmod(0o555)
        for path in (folder / "queue.sqlite", folder / "sub" / "queue.sqlite"):
            message, _, hint = _refusal_met_by_a_common_user(path).partition(" | ")
            assert message.startswith(f"the queue cannot be opened for writing in the folder {path.parent}: ")
            assert "sqlite:PATH" in hint
        assert list(folder.iterdir()) == []


def test_a_queue_that_belongs_to_somebody_else_is_refused() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "state"
        SqliteTable(folder / "queue.sqlite").insert([row("a")])
        Path(name).chmod(0o755)
        folder.chmod(0o755)
        for file in folder.iterdir():
            file.chmod(0o444)
        assert f"in the folder {folder}: " in _refusal_met_by_a_common_user(folder / "queue.sqlite")


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(AccessDenied, match="state"):
        SqliteTable(tmp_path / "state" / "queue.sqlite").list(PARTITION, None, 10)


@pytest.mark.parametrize("place", ["/dev/null", "/"])
def test_a_path_that_is_no_file_is_named(place: str) -> None:
    with pytest.raises(BackendError, match=f"the queue {place} is no file"):
        SqliteTable(Path(place)).list(PARTITION, None, 10)


def test_a_folder_in_which_nobody_can_make_anything_is_named() -> None:
    with pytest.raises(AccessDenied, match="in the folder /proc: nothing can be made there"):
        SqliteTable(Path("/proc/kubeq.db")).list(PARTITION, None, 10)


# the file taken away


def test_a_deleted_file_is_an_error_at_the_next_write_and_not_an_empty_queue(path: Path) -> None:
    table = SqliteTable(path)
    table.insert([row("a")])
    path.unlink()
    with pytest.raises(BackendError, match="deleted or replaced"):
        table.insert([row("b")])
    assert not path.exists()


def test_a_replaced_file_is_an_error_at_the_next_write(path: Path, tmp_path: Path) -> None:
    table = SqliteTable(path)
    table.insert([row("a")])
    other = SqliteTable(tmp_path / "other" / "queue.sqlite")
    other.insert([row("z")])
    (tmp_path / "other" / "queue.sqlite").rename(path)
    with pytest.raises(BackendError, match="deleted or replaced"):
        table.swap([Change(row("a").key, 1, "m", None, None, "{}")])


def test_a_deleted_wal_is_an_error_at_the_next_write(path: Path) -> None:
    table = SqliteTable(path)
    table.insert([row("a")])
    Path(f"{path}-wal").unlink()
    with pytest.raises(BackendError, match="deleted or replaced"):
        table.insert([row("b")])


def test_another_process_does_not_start_an_empty_queue_where_one_in_use_was_deleted(path: Path) -> None:
    table = SqliteTable(path)
    table.insert([row("a")])
    path.unlink()
    child = start("table.list('tasks:job', None, 10)", path)
    assert "was deleted while other processes use it" in child.communicate()[1]
    assert not path.exists()


# damage and crashes


def _damage(path: Path) -> None:
    """Overwrite the pages from the sixth on, which hold rows."""
    with path.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 20 * 4096)


def test_damaged_pages_are_named_when_they_are_met(path: Path) -> None:
    table = SqliteTable(path)
    table.insert([row(f"{index:05d}", "x" * 200) for index in range(1000)])
    del table
    _damage(path)
    with pytest.raises(BackendError, match="damaged") as met:
        SqliteTable(path).list(PARTITION, None, 1000)
    assert str(path) in met.value.message


def test_all_pages_are_looked_at_after_an_unclean_end(path: Path) -> None:
    table = SqliteTable(path)
    table.insert([row(f"{index:05d}", "x" * 200) for index in range(1000)])
    del table
    child = start(WRITE_ONE_AND_STAY, path)
    assert child.stdout is not None
    assert child.stdout.readline() == "written\n"
    killed(child)
    _damage(path)
    with pytest.raises(BackendError, match="damaged"):
        SqliteTable(path).get([Key(PARTITION, "no such row")])


def test_a_queue_left_by_a_killed_process_opens_with_all_it_acknowledged(path: Path) -> None:
    child = start(WRITE_ONE_AND_STAY, path)
    assert child.stdout is not None
    assert child.stdout.readline() == "written\n"
    killed(child)
    assert [each.key.name for each in SqliteTable(path).list(PARTITION, None, 10).rows] == ["child"]


def test_a_process_killed_at_any_moment_loses_no_acknowledged_row(path: Path) -> None:
    program = """
first = int(sys.argv[2])
for number in range(first, first + 1_000_000):
    batch = [Row(Key("tasks:job", f"{number:08d}-{each}"), 1, "m", "pending", 1.0, "x" * 500) for each in range(20)]
    assert table.insert(batch) == [None] * 20
    print(number, flush=True)
"""
    acknowledged: set[int] = set()
    for attempt in range(20):
        child = start(program, path, attempt * 1_000_000)
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(1 + attempt * 3)]
        child.kill()
        rest = child.stdout.read().splitlines(
            keepends=True
        )  # `communicate` would pass over what is buffered, half lines too
        child.wait()
        acknowledged |= {int(line) for line in (*lines, *rest) if line.endswith("\n")}
    table = SqliteTable(path)
    stored: dict[int, int] = {}
    for each in table.list(PARTITION, None, 1_000_000).rows:
        number = int(each.key.name.partition("-")[0])
        stored[number] = stored.get(number, 0) + 1
    assert len(acknowledged) >= 20
    assert acknowledged <= stored.keys()
    assert set(stored.values()) == {20}, "a batch was torn"


def test_a_file_that_another_makes_in_the_moment_of_opening_is_used(path: Path) -> None:
    class Late(type(path)):  # type: ignore[misc]
        """Tells once that there is no file, and then there is one."""

        def exists(self) -> bool:
            if self.name == path.name and not path.exists():
                SqliteTable(path).insert([row("theirs")])
                return False
            return path.exists() if self.name == path.name else bool(super().exists())

    table = SqliteTable(Late(path))
    assert table.insert([row("ours")]) == [None]
    found = table.get([row("theirs").key, row("ours").key])
    assert [standing.key.name for standing in found if standing] == ["theirs", "ours"]


def test_eight_processes_can_make_the_same_new_file_at_once(path: Path) -> None:
    program = """
sys.stdin.readline()
table.insert([Row(Key("tasks:job", sys.argv[2]), 1, "m" + sys.argv[2], "pending", 1.0, "{}")])
"""
    children = [start(program, path, number) for number in range(8)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [child.communicate()[1] for child in children] == [""] * 8
    assert [each.key.name for each in SqliteTable(path).list(PARTITION, None, 10).rows] == list("01234567")


# the disk and the neighbours


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@as_root
def test_a_full_disk_is_one_sentence_and_the_queue_works_again_when_there_is_space(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 300_000)
    table = SqliteTable(small_disk / "queue.sqlite")
    table.insert([row("before")])
    with pytest.raises(BackendError, match="disk is full") as refused:
        table.insert([row(f"{index:05d}", "x" * 1000) for index in range(2000)])
    assert "free some space" in (refused.value.hint or "")
    assert not refused.value.transient
    assert [each.key.name for each in table.list(PARTITION, None, 10).rows] == ["before"]
    ballast.unlink()
    assert list(table.insert([row("later")])) == [None]


HOLD_THE_TURN = """
table.list('p', None, 1)
with table._session().turn():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_holder_that_does_not_let_go_is_named_after_the_patience_has_ended(path: Path) -> None:
    child = start(HOLD_THE_TURN, path)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    table = SqliteTable(path, patience_s=0.05)
    assert not table.list(PARTITION, None, 10).rows, "reading needs no turn"
    with pytest.raises(BackendError, match=f"locked by process {child.pid} ") as refused:
        table.insert([row("a")])
    assert refused.value.transient
    killed(child)
    assert list(table.insert([row("a")])) == [None], "a dead holder holds nothing"


def test_a_table_that_waited_in_vain_is_not_asked_again(path: Path) -> None:
    child = start(HOLD_THE_TURN, path)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    table, calls = SqliteTable(path, patience_s=0.05), 0

    def write() -> None:
        nonlocal calls
        calls += 1
        table.insert([row("a")])

    with pytest.raises(BackendError, match="locked by process"):
        insist(write)
    killed(child)
    with closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendError, match="locked by another program"):
            insist(write)
    assert calls == 2


def test_what_is_left_of_the_patience_is_what_sqlite_may_wait(path: Path) -> None:
    table = SqliteTable(path, patience_s=2.0)
    table.insert([row("a")])
    session = table._session()
    holder = os.open(f"{path}.lock", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    release = threading.Timer(0.5, os.close, [holder])
    release.start()
    table.insert([row("b")])
    release.join()
    assert 500 <= session.connection.execute("PRAGMA busy_timeout").fetchone()[0] <= 1550


def test_the_patience_is_a_sixth_of_the_default_lease() -> None:
    assert Policy().lease_s / 6 >= statements.PATIENCE_S


@pytest.mark.parametrize(
    ("name", "transient"),
    [
        ("BUSY", True),
        ("LOCKED", True),
        ("PROTOCOL", True),
        ("NOMEM", True),
        ("INTERRUPT", True),
        ("FULL", False),
        ("IOERR_FSYNC", False),
        ("CORRUPT", False),
        ("READONLY", False),
        ("ERROR", False),
        ("MISUSE", False),
    ],
)
def test_whatever_sqlite_says_becomes_an_error_that_names_the_queue(path: Path, name: str, transient: bool) -> None:
    path.parent.mkdir()
    error = sqlite3.OperationalError("it said no")
    error.sqlite_errorcode = getattr(sqlite3, f"SQLITE_{name}")
    explained = explain(error, path)
    assert explained.transient is transient
    assert str(path.parent) in explained.message


def test_an_interrupted_statement_and_a_want_of_memory_are_passing_troubles(path: Path) -> None:
    table = SqliteTable(path)
    table.insert([row("a")])
    connection = table._session().connection
    connection.set_progress_handler(lambda: 1, 1)
    with pytest.raises(BackendError, match="interrupted") as refused:
        table.list(PARTITION, None, 10)
    assert refused.value.transient
    connection.set_progress_handler(None, 0)
    assert explain(MemoryError(), path).transient


def test_a_bug_in_a_statement_is_still_an_error_of_ours(path: Path) -> None:
    table = SqliteTable(path)
    table.insert([row("a")])
    table._session().connection.close()
    with pytest.raises(BackendError, match="closed"):
        table.list(PARTITION, None, 10)


def test_a_folder_that_became_a_file_is_an_error_of_ours(path: Path) -> None:
    table = SqliteTable(path)
    table.insert([row("a")])
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.write_text("")
    with pytest.raises(BackendError, match="Not a directory"):
        table.insert([row("b")])


FEW_FILES = """
import resource
from kubeq.errors import BackendError
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.dup(0))
except OSError:
    pass
for descriptor in taken[: int(sys.argv[2])]:
    os.close(descriptor)
try:
    table.list("p", None, 1)
except BackendError as error:
    print(type(error).__name__, error.transient, error.message)
"""


@pytest.mark.parametrize("free", range(4))
def test_too_many_open_files_are_a_passing_trouble(path: Path, free: int) -> None:
    SqliteTable(path).insert([row("a")])
    output, errors = start(FEW_FILES, path, free).communicate()
    assert errors == ""
    assert output.startswith("BackendError True "), output
    assert "Too many open files" in output


def test_another_program_that_holds_the_database_is_a_passing_trouble(path: Path) -> None:
    table = SqliteTable(path, patience_s=0.05)
    table.insert([row("a")])
    with closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendError, match="locked by another program") as refused:
            table.insert([row("b")])
        assert refused.value.transient
        shell.execute("ROLLBACK")
    assert list(table.insert([row("b")])) == [None]


def test_a_wait_ends_when_another_process_writes(path: Path) -> None:
    table = SqliteTable(path)
    table.list(PARTITION, None, 10)
    child = start(WRITE_ONE_AND_STAY, path)
    while not table.list(PARTITION, None, 10).rows:
        table.wait(30.0)
    assert child.communicate("")[1] == ""


# the statements


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    SqliteTable(path).insert([row(f"{index:04d}") for index in range(1000)])
    with closing(sqlite3.connect(path)) as connection:
        yield connection


def plan(connection: sqlite3.Connection, statement: str) -> str:
    arguments = (1,) * statement.count("?")
    return " | ".join(found[3] for found in connection.execute(f"EXPLAIN QUERY PLAN {statement}", arguments))


def test_counting_reads_the_tally_index_and_nothing_else(connection: sqlite3.Connection) -> None:
    assert plan(connection, statements.COUNT) == "SEARCH rows USING COVERING INDEX tallies (partition=? AND tally>?)"


@pytest.mark.parametrize("statement", [statements.DUE, statements.DUE_FIRST])
def test_due_is_a_range_of_its_index_without_sorting(connection: sqlite3.Connection, statement: str) -> None:
    assert plan(connection, statement).startswith("SEARCH rows USING INDEX due (partition=? AND ")
    assert "TEMP B-TREE" not in plan(connection, statement)


@pytest.mark.parametrize("statement", [statements.LIST, statements.LIST_FIRST, statements.GET, statements.UPDATE])
def test_lists_and_single_rows_go_by_the_primary_key(connection: sqlite3.Connection, statement: str) -> None:
    assert plan(connection, statement).startswith("SEARCH rows USING PRIMARY KEY (partition=?")
    assert "TEMP B-TREE" not in plan(connection, statement)
