"""Results come whole, once, beneath the destination and nowhere else."""

from __future__ import annotations

import io
import json
import os
import resource
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeq.actions.changing import ResetRequest, kill, reset
from kubeq.actions.fetch import Fetched, FetchRequest, default_destination, fetch_job, index_list
from kubeq.actions.finding import Choice
from kubeq.actions.session import Session
from kubeq.core.digest import Digest
from kubeq.core.manifest import Entry, Manifest, clean_destination
from kubeq.core.model import Exit, Job, JobId, Task, TaskId, TaskState
from kubeq.core.selectors import Filters, parse_indexes
from kubeq.errors import BackendError, Conflict, IntegrityError, TasksFailed, UsageError
from kubeq.queue.rows import Outcome
from tests.jobs import FakeClock, Work, session_in


def rows(count: int) -> list[tuple[str]]:
    return [(str(n),) for n in range(count)]


def fetch(session: Session, job: Job, destination: Path, **more: Any) -> Fetched:
    return fetch_job(session, session.queue.refresh(job), FetchRequest(destination=destination, **more))


def tree(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_each_task_has_a_folder_with_its_files_its_output_and_its_result(
    work: Work, session: Session, out: Path
) -> None:
    job = work.submit(rows(2), ["n"])
    work.run(2, files={"plot.png": b"picture", "deep/er/data.csv": b"1,2"}, stdout=b"hello\n")
    done = fetch(session, job, out)
    found = tree(out)
    assert set(found) == {
        f"{index}/{name}" for index in (1, 2) for name in ("plot.png", "deep/er/data.csv", "stdout.txt", "result.json")
    }
    assert found["1/plot.png"] == b"picture" and found["2/stdout.txt"] == b"hello\n"
    assert json.loads(found["2/result.json"])["task"] == f"{job.id}/2"
    assert [(task.index, task.attempt, task.files, task.bytes) for task in done.tasks] == [(1, 1, 3, 16), (2, 1, 3, 16)]
    assert done.error() is None


def test_names_that_the_task_uses_itself_get_a_prefix_on_our_side(work: Work, session: Session, out: Path) -> None:
    job = work.submit()
    mine = {"stdout.txt": b"mine", "result.json": b"{}", "kubeq.stdout.txt": b"mine too"}
    work.run(1, files=mine, stdout=b"printed")
    for _ in range(2):
        assert fetch(session, job, out).error() is None
        found = tree(out / "1")
        assert set(found) == {*mine, "kubeq.kubeq.stdout.txt", "kubeq.result.json"}
        assert found["stdout.txt"] == b"mine" and found["kubeq.kubeq.stdout.txt"] == b"printed"


def test_a_second_fetch_moves_nothing(work: Work, session: Session, out: Path) -> None:
    job = work.submit()
    work.run(1, files={"a": b"a", "b": b"b"}, stdout=b"x")
    assert fetch(session, job, out).tasks[0].moved == 3
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = fetch(session, job, out).tasks[0]
    assert (again.moved, again.new) == (0, False)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def test_a_fetch_that_was_interrupted_moves_only_the_rest(work: Work, session: Session, out: Path) -> None:
    job = work.submit()
    work.run(1, files={"a": b"a", "b": b"b"}, stdout=b"x")
    fetch(session, job, out)
    (out / "1" / "result.json").unlink()
    (out / "1" / "b").unlink()
    (out / ".kubeq-part").mkdir()
    (out / ".kubeq-part" / "999999999-3").write_bytes(b"half of a fi")
    kept = (out / "1" / "a").stat().st_ino
    done = fetch(session, job, out)
    assert (done.error(), done.tasks[0].moved, done.tasks[0].new) == (None, 1, True)
    assert set(tree(out)) == {"1/a", "1/b", "1/stdout.txt", "1/result.json"}
    assert (out / "1" / "a").stat().st_ino == kept
    assert not (out / ".kubeq-part").exists()


def test_a_newer_attempt_replaces_what_an_earlier_fetch_wrote(work: Work, session: Session, out: Path) -> None:
    job = work.submit()
    work.run(1, files={"same": b"same", "changed": b"old", "gone/old": b"x"}, stdout=b"one")
    fetch(session, job, out)
    reset(session, ["demo/1"], ResetRequest())
    work.run(1, files={"same": b"same", "changed": b"new", "result.json": b"[]"}, stdout=b"two")
    assert fetch(session, job, out).error() is None
    found = tree(out / "1")
    assert found.pop("kubeq.result.json")
    assert found == {"same": b"same", "changed": b"new", "result.json": b"[]", "stdout.txt": b"two"}
    assert not (out / "1" / "gone").exists()


def test_a_file_that_somebody_changed_is_never_overwritten(work: Work, session: Session, out: Path) -> None:
    job = work.submit(rows(2), ["n"])
    work.run(2, files={"a": b"a"})
    fetch(session, job, out)
    (out / "1" / "a").write_bytes(b"my notes")
    done = fetch(session, job, out)
    error = done.error()
    assert isinstance(error, Conflict) and "1/a" in error.message and [task.index for task in done.tasks] == [2]
    reset(session, ["demo/1"], ResetRequest())
    work.run(1, files={"a": b"b"})
    assert isinstance(fetch(session, job, out).error(), Conflict)
    assert (out / "1" / "a").read_bytes() == b"my notes"


def test_results_of_two_jobs_are_not_mixed(work: Work, session: Session, out: Path) -> None:
    first, second = work.submit(name="first"), work.submit(name="second")
    work.run(1, files={"a": b"1"}), work.run(1, files={"b": b"2"})
    fetch(session, first, out)
    error = fetch(session, second, out).error()
    assert isinstance(error, Conflict) and first.id in error.message
    assert "1/b" not in tree(out)


def test_tasks_without_results_are_listed_and_the_error_says_so(work: Work, session: Session, out: Path) -> None:
    job = work.submit(rows(4), ["n"])
    work.run(1, files={"a": b"a"})
    work.run(1, Exit(code=2), stdout=b"failed")
    work.run(1, Exit(never_started="no such image"), publish=False)
    done = fetch(session, job, out)
    assert [task.index for task in done.tasks] == [1, 2]
    assert [(task.index, task.state) for task in done.missing] == [(3, TaskState.FAILED), (4, TaskState.PENDING)]
    assert "no such image" in done.missing[0].why and done.missing[1].why == "pending"
    error = done.error()
    assert isinstance(error, TasksFailed) and error.exit_code == 3 and "2 tasks" in error.message


def test_filters_numbers_and_patterns_choose_what_comes(work: Work, session: Session, out: Path) -> None:
    job = work.submit(rows(5), ["n"])
    work.run(2, Exit(code=1), files={"log": b"l", "a/x.png": b"p"})
    work.run(3, files={"log": b"l", "a/x.png": b"p"})
    only_failed = Choice(filters=Filters(states=frozenset({TaskState.FAILED})))
    fetch(session, job, out, choice=only_failed, indexes=parse_indexes("2-5", "x"), results=("*.png",))
    assert set(tree(out)) == {"2/a/x.png", "2/result.json"}
    fetch(session, job, out, choice=only_failed)
    assert set(tree(out / "2")) == {"a/x.png", "log", "result.json", "stdout.txt"}


def test_an_earlier_attempt_can_be_fetched(work: Work, session: Session, out: Path) -> None:
    job = work.submit(rows(2), ["n"], retries=1)
    work.run(1, Exit(code=1), files={"a": b"first"})
    work.clock.advance(60)
    work.run(2, files={"a": b"second"})
    done = fetch(session, job, out, attempt=1, indexes=parse_indexes("1", "x"))
    assert (out / "1/a").read_bytes() == b"first" and done.tasks[0].attempt == 1
    fetch(session, job, out)
    assert (out / "1/a").read_bytes() == b"second"


def test_flat_names_say_which_task_a_file_is_from(work: Work, session: Session, out: Path) -> None:
    job = work.submit(rows(10), ["n"])
    work.run(10, files={"a/b.png": b"p"}, stdout=b"s")
    for _ in range(2):
        assert fetch(session, job, out, flat=True).error() is None
    assert set(tree(out)) >= {"01-a-b.png", "01-stdout.txt", "01-result.json", "10-a-b.png"}
    assert len(tree(out)) == 30


def test_flat_refuses_two_files_of_one_name(work: Work, session: Session, out: Path) -> None:
    job = work.submit()
    work.run(1, files={"a/b": b"1", "a-b": b"2"})
    error = fetch(session, job, out, flat=True).error()
    assert isinstance(error, Conflict) and "'1-a-b'" in error.message
    assert tree(out) == {}


def test_the_executable_bit_comes_along_and_nothing_else_does(work: Work, session: Session, out: Path) -> None:
    job = work.submit()
    work.run(1, files={"run": b"#!", "text": b"t"}, executable=["run"])
    fetch(session, job, out)
    assert os.access(out / "1/run", os.X_OK) and not os.access(out / "1/text", os.X_OK)


def test_wrong_bytes_in_the_store_are_refused_and_the_others_come(work: Work, session: Session, out: Path) -> None:
    job = work.submit(rows(2), ["n"])
    work.run(2, files={"a": b"good"})
    replace_object(session, f"results/{job.id}/1/1/a", b"evil")
    done = fetch(session, job, out)
    error = done.error()
    assert isinstance(error, IntegrityError) and "task 1" in error.message
    assert not (out / "1" / "a").exists() and (out / "2" / "a").read_bytes() == b"good"
    assert list((out / "1").iterdir()) == []


def test_a_result_that_vanished_is_told_apart_from_one_that_never_was(work: Work, session: Session, out: Path) -> None:
    job = work.submit()
    work.run(1)
    session.store.delete([f"results/{job.id}/1/1.result.json"])
    assert isinstance(fetch(session, job, out).error(), IntegrityError)


def replace_object(session: Session, key: str, content: bytes) -> None:
    session.store.delete([key])
    session.store.put(key, lambda: io.BytesIO(content), len(content), Digest.of(content).sha256)


def spoil(session: Session, task: TaskId, change: Callable[[dict[str, Any]], None]) -> None:
    """The task's result document as a hostile task might have written it."""
    key = f"results/{task.job}/{task.index}/1.result.json"
    with session.store.get(key) as stream:
        document = json.loads(stream.read())
    change(document)
    replace_object(session, key, json.dumps(document).encode())


HOSTILE = [
    "../escaped",
    "/etc/escaped",
    "a/../../escaped",
    "..",
    "a\x00b",
    "a\nb",
    "",
    "a//b",
    "./a",
    ".",
    "a/",
    "x" * 300,
    "\ud800",
    7,
    None,
    ["a"],
]


@pytest.mark.parametrize("name", HOSTILE, ids=[repr(name)[:20] for name in HOSTILE])
def test_a_hostile_name_in_a_result_is_refused_and_the_others_come(
    work: Work, session: Session, out: Path, tmp_path: Path, name: object
) -> None:
    job = work.submit(rows(2), ["n"])
    work.run(2, files={"a": b"a"})
    spoil(session, TaskId(job.id, 1), lambda document: document["files"][0].update(path=name))
    outside = set(tree(tmp_path))
    done = fetch(session, job, out)
    error = done.error()
    assert isinstance(error, IntegrityError) and f"{job.id}/1" in error.message
    assert [task.index for task in done.tasks] == [2]
    assert {path for path in set(tree(tmp_path)) - outside if not path.startswith("out/2/")} == set()


def test_a_result_that_names_a_file_twice_or_below_itself_is_refused(work: Work, session: Session, out: Path) -> None:
    job = work.submit(rows(3), ["n"])
    work.run(3, files={"a": b"a"})
    spoil(session, TaskId(job.id, 1), lambda document: document["files"].append(document["files"][0]))
    spoil(
        session, TaskId(job.id, 2), lambda document: document["files"].append({**document["files"][0], "path": "a/b"})
    )
    done = fetch(session, job, out)
    assert [index for index, _ in done.refused] == [1, 2] and [task.index for task in done.tasks] == [3]


def test_a_link_in_the_destination_is_not_followed(work: Work, session: Session, out: Path, tmp_path: Path) -> None:
    job = work.submit(rows(2), ["n"])
    work.run(2, files={"sub/a": b"a"})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(), (out / "2").mkdir(parents=True)
    (out / "1").symlink_to(elsewhere)
    (out / "2" / "sub").symlink_to(elsewhere)
    done = fetch(session, job, out)
    assert {type(error) for _, error in done.refused} == {Conflict} and len(done.refused) == 2
    assert list(elsewhere.iterdir()) == []


def test_a_link_at_a_files_place_is_not_written_through(
    work: Work, session: Session, out: Path, tmp_path: Path
) -> None:
    job = work.submit()
    work.run(1, files={"a": b"a"})
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    (out / "1").mkdir(parents=True)
    (out / "1" / "a").symlink_to(target)
    assert isinstance(fetch(session, job, out).error(), Conflict)
    assert target.read_bytes() == b"precious"


def test_fetching_into_a_file_is_refused_and_leaves_it(work: Work, session: Session, out: Path) -> None:
    job = work.submit()
    work.run(1, files={"a": b"a"})
    out.write_text("a file")
    with pytest.raises(UsageError, match="is not a directory"):
        fetch(session, job, out)
    assert out.read_text() == "a file"


def test_fetching_where_nothing_may_be_written_is_refused(work: Work, session: Session) -> None:
    job = work.submit()
    work.run(1, files={"a": b"a"})
    with pytest.raises((UsageError, BackendError), match="/proc/self/kubeq could not be written") as error:
        fetch(session, job, Path("/proc/self/kubeq"))
    assert error.value.hint is not None and "directory" in error.value.hint


def test_a_disk_without_space_leaves_nothing_half(work: Work, session: Session, out: Path) -> None:
    job = work.submit()
    work.run(1, files={"big": b"x" * 200_000})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # EFBIG: the nearest thing to a full disk
    try:
        with pytest.raises(BackendError, match="200,000 bytes were wanted"):
            fetch(session, job, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert tree(out) == {}


def test_an_incomplete_job_has_nothing_to_fetch(work: Work, session: Session, out: Path) -> None:
    job = work.submit(rows(3), ["n"], written=1)
    with pytest.raises(Conflict, match="incomplete"):
        fetch(session, job, out)
    assert not out.exists()


def test_follow_goes_on_until_everything_has_ended(work: Work, session: Session, out: Path) -> None:
    job = work.submit(rows(3), ["n"])
    work.run(1, files={"a": b"1"})

    def rest() -> None:
        work.run(1, files={"a": b"2"})
        work.run(1, files={"a": b"3"})

    later = threading.Timer(0.2, rest)
    later.start()
    done = fetch(session, job, out, follow=True)
    later.join()
    assert done.error() is None and [task.index for task in done.tasks] == [1, 2, 3]


def test_follow_lists_the_job_twice_and_reads_in_between_only_what_was_unfinished(
    work: Work, session: Session, out: Path
) -> None:
    job = work.submit(rows(40), ["n"])
    work.run(30)
    listed, read = [0], list[int]()
    tasks, tasks_at = session.queue.tasks, session.queue.tasks_at

    def counted(id: JobId) -> Iterator[Task]:
        listed[0] += 1
        return tasks(id)

    def noted(id: JobId, indexes: Sequence[int]) -> list[Task]:
        read.extend(indexes)
        return tasks_at(id, indexes)

    session.queue.tasks, session.queue.tasks_at = counted, noted  # type: ignore[method-assign]

    def rest() -> None:
        for _ in range(10):
            work.run(1)

    later = threading.Timer(0.1, rest)
    later.start()
    done = fetch(session, job, out, follow=True)
    later.join()
    assert done.error() is None and len(done.tasks) == 40
    assert listed[0] == 2
    assert set(read) == set(range(31, 41))


def test_a_fetch_that_follows_nothing_counts_nothing(work: Work, session: Session, out: Path) -> None:
    job = work.submit(rows(3), ["n"])
    work.run(3)
    counted: list[JobId] = []
    session.queue.outcomes = counted.append  # type: ignore[assignment,method-assign]
    assert len(fetch(session, job, out).tasks) == 3
    assert counted == []


def test_follow_fetches_what_ran_again_after_it_was_fetched(work: Work, session: Session, out: Path) -> None:
    job = work.submit(rows(2), ["n"])
    work.run(1, files={"a": b"first"})

    def again() -> None:
        reset(session, [f"{job.id}/1"], ResetRequest())
        work.run(2, files={"a": b"second"})

    later = threading.Timer(0.1, again)
    later.start()
    done = fetch(session, job, out, follow=True)
    later.join()
    assert [(task.index, task.attempt) for task in done.tasks] == [(1, 2), (2, 1)]
    assert tree(out)["1/a"] == b"second"


def test_follow_reads_a_huge_job_less_often_than_it_changes(work: Work, session: Session, out: Path) -> None:
    job = work.submit(rows(60), ["n"])
    clock, reads, tasks_at = work.clock, [0], session.queue.tasks_at

    def slow(id: JobId, indexes: Sequence[int]) -> list[Task]:
        reads[0] += 1
        clock.advance(1.0)
        return tasks_at(id, indexes)

    session.queue.tasks_at = slow  # type: ignore[method-assign]
    count = session.queue.outcomes

    def counted(id: JobId, *, consistent: bool = False) -> Mapping[Outcome, int]:
        work.run(1)  # a task ends between any two looks
        clock.advance(0.001)
        return count(id, consistent=consistent)

    session.queue.outcomes = counted  # type: ignore[method-assign]
    session.queue.wait = lambda seconds: None  # type: ignore[method-assign]
    done = fetch(session, job, out, follow=True)
    assert done.error() is None and len(done.tasks) == 60
    assert reads[0] <= 3


def test_a_killed_job_gives_what_it_had(work: Work, session: Session, out: Path) -> None:
    job = work.submit(rows(3), ["n"])
    work.run(1, files={"a": b"1"})
    kill(session, ["demo"])
    done = fetch(session, job, out)
    assert [task.index for task in done.tasks] == [1]
    assert [task.why for task in done.missing] == ["cancelled"] * 2


def test_an_older_job_of_the_same_name_goes_to_a_folder_of_its_id(work: Work, session: Session) -> None:
    older = work.submit()
    newer = work.submit()
    assert default_destination(session, newer) == Path("demo")
    assert default_destination(session, older) == Path(older.id)


def test_many_indexes_are_shown_as_ranges() -> None:
    assert index_list([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
    assert index_list(range(1, 40, 2), most=2) == "1, 3 and 18 more ranges"


names = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/"), min_size=1, max_size=12)
special = st.sampled_from(["stdout.txt", "result.json", "a", "b/c", "kubeq.result.json"])
paths = special | st.lists(names.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3).map("/".join)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        paths,
        st.binary(max_size=20),
        max_size=5,
    )
)
def test_whatever_a_task_stored_is_there_afterwards(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes]
) -> None:
    directory = tmp_path_factory.mktemp("fetch")
    clean = {clean_destination(path): content for path, content in contents.items()}
    try:
        Manifest.of(Entry(path, Digest.of(content)) for path, content in clean.items())
    except UsageError:
        return
    clock = FakeClock()
    session = session_in(directory, clock)
    work = Work(session, clock)
    job = work.submit()
    work.run(1, files=clean, stdout=b"out")
    for _ in range(2):
        assert fetch(session, job, directory / "out").error() is None
        found = tree(directory / "out" / "1")
        assert {path: found.get(path) for path in clean} == clean
        assert len(found) == len(clean) + 2
