"""Submitting: what is stored in which order, with how many requests, and what a crash at any of them leaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kubeq.actions.drafts import STALE_S, read_draft
from kubeq.actions.existing import IfExists
from kubeq.actions.journal import journal_of
from kubeq.actions.launching import pool_of_request
from kubeq.actions.plan import Plan, make_plan
from kubeq.actions.resume import resume
from kubeq.actions.session import Session
from kubeq.actions.submit import Submitted, complete, submit
from kubeq.actions.submit_lock import one_at_a_time
from kubeq.config import with_flags
from kubeq.core.model import Job, NodeName, Reach, TaskId, TaskState
from kubeq.core.resources import Resources
from kubeq.core.wire import decode_spec
from kubeq.errors import Conflict, NotFound, VersionMismatch
from kubeq.queue.base import Change, RecordTable
from kubeq.queue.claims import Room
from kubeq.queue.memory import MemoryTable
from kubeq.queue.queue import Queue
from kubeq.queue.rows import job_row, task_key
from kubeq.store.base import ObjectStore
from kubeq.store.memory import MemoryStore
from tests.jobs import FakeClock, session_in
from tests.providers import FakeProvider
from tests.stand_ins.web import Web

PINNED = "python@sha256:" + "ab" * 32


class Killed(BaseException):
    """Stands for SIGKILL: nothing that is written for errors sees it."""


class Requests:
    """Passes every call on to a table or a store, counts them, and may end the world before or after one."""

    reach: ClassVar[Reach] = Reach.HOST

    def __init__(self, inner: Any, calls: list[str], fatal: Callable[[str, bool], bool]) -> None:
        self._inner = inner
        self._calls = calls
        self._fatal = fatal

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if not callable(attribute) or name in ("clock_offset", "wait"):
            return attribute
        if name == "batch":
            return self._batch

        def call(*arguments: Any, **more: Any) -> Any:
            self._calls.append(name)
            if self._fatal(name, False):
                raise Killed
            answer = attribute(*arguments, **more)
            if self._fatal(name, True):
                raise Killed
            return answer

        return call

    @contextmanager
    def _batch(self) -> Iterator[Requests]:
        """Puts that become durable together, at the end of the block."""
        with self._inner.batch() as inner:
            yield Requests(inner, self._calls, self._fatal)
            if self._fatal("batch", False):
                raise Killed


class World:
    """One table, one store and one home, seen by as many sessions as there are processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.table, self.blobs = MemoryTable(), MemoryStore()
        self.clock = FakeClock()
        self.calls: list[str] = []
        self.provider = FakeProvider()

    def session(self, fatal: Callable[[str, bool], bool] = lambda name, after: False, **flags: Any) -> Session:
        table: RecordTable = Requests(self.table, self.calls, fatal)  # type: ignore[assignment]
        store: ObjectStore = Requests(self.blobs, self.calls, fatal)  # type: ignore[assignment]
        session = session_in(self.root, self.clock, Session)
        session = Session(with_flags(session.config, flags), self.clock)
        session.queue = Queue(table, self.clock)  # type: ignore[misc]
        session.store = store  # type: ignore[misc]
        session.provider = self.provider  # type: ignore[misc]
        return session

    def write(self, name: str, content: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def plan_of(session: Session, *command: str) -> Plan:
    return make_plan(command, session.config, session.provider)


def submitted(session: Session, *command: str, if_exists: IfExists | None = None) -> Submitted:
    pool = pool_of_request(session, private=session.config.local)
    plan = plan_of(session, *command)
    return submit(session, plan, pool, if_exists=if_exists, pinned=PINNED)


def sweep_of(world: World, rows: int = 25) -> dict[str, Any]:
    world.write("work.py", "print('work')")
    world.write("shared.txt", "for all")
    lines = [f"{n},in/{n % 3}.txt" for n in range(rows)]
    for n in range(3):
        world.write(f"in/{n}.txt", f"input {n}")
    world.write("params.csv", "\n".join(["n,file", *lines]) + "\n")
    return {"name": "sweep", "params": [str(world.root / "params.csv")], "upload": ["shared.txt"]}


SWEEP = ("python3", "^work.py", "{n}", "^{file}")


def test_a_sealed_job_has_every_task_with_its_values_and_verified_inputs(world: World) -> None:
    session = world.session(**sweep_of(world))
    done = submitted(session, *SWEEP)
    tasks = list(session.queue.tasks(done.job.id))
    assert [task.values for task in tasks] == [(str(n), f"in/{n % 3}.txt") for n in range(25)]
    assert done.job.sealed_at is not None
    assert (done.upload.files, done.upload.already) == (5, 0)
    for n, task in enumerate(tasks):
        assert task.inputs is not None
        manifest = session.blobs.read_manifest(task.inputs)
        assert [entry.path for entry in manifest.entries] == [f"in/{n % 3}.txt", "shared.txt", "work.py"]
        assert session.blobs.read(manifest.entries[0].digest) == f"input {n % 3}".encode()
    assert len({task.inputs for task in tasks}) == 3
    spec = decode_spec(session.blobs.read(done.job.spec))
    assert (spec.image_digest, spec.inputs) == (PINNED, None)


def test_tasks_with_the_same_inputs_share_one_manifest_in_the_spec(world: World) -> None:
    world.write("work.py", "print('work')")
    session = world.session(seq="3")
    job = submitted(session, "python3", "^work.py", "{index}").job
    spec = decode_spec(session.blobs.read(job.spec))
    assert spec.inputs is not None
    assert [task.inputs for task in session.queue.tasks(job.id)] == [None] * 3


def test_a_second_submission_sends_none_of_what_the_store_has(world: World) -> None:
    flags = sweep_of(world)
    submitted(world.session(**flags), *SWEEP)
    world.calls.clear()
    again = submitted(world.session(**flags), *SWEEP, if_exists=IfExists.NEW)
    assert again.created
    assert (again.upload.files, again.upload.size, again.upload.already) == (0, 0, 5)
    assert "put" not in world.calls


def test_a_submission_makes_the_stated_number_of_requests(world: World) -> None:
    flags = {**sweep_of(world, rows=3 * MemoryTable.batch + 1), "name": None}
    submitted(world.session(**flags), *SWEEP)
    calls = world.calls
    assert calls.count("insert") + calls.count("swap") == 2 + 4
    assert calls.count("get") + calls.count("list") + calls.count("count") + calls.count("due") == 0
    assert calls.count("stat") == 1
    assert calls.count("put") == 5 + 3 + 1, "the files, the manifests, the spec"
    assert len(calls) == 6 + 1 + 9


def test_a_job_tells_every_machine_what_its_submission_had_asked_for_before_the_seal(tmp_path: Path) -> None:
    clock = FakeClock()
    session = session_in(tmp_path, clock)
    (tmp_path / "work.py").write_text("print('work')")
    before = session.requests
    job = submitted(session, "python3", "^work.py").job
    elsewhere = Queue(session.table, clock).job(job.id)
    assert (before.queue, before.store) == ({}, {})
    assert elsewhere.requests == job.requests is not None
    assert job.requests.queue["write"] == session.requests.queue["write"] - 1, "all but the seal itself"
    assert job.requests.store == session.requests.store == {"stat": 1, "put": 3}


def test_whoever_completes_a_submission_tells_what_that_took(world: World) -> None:
    job = killed_at(world, "put", **sweep_of(world))
    assert world.session().queue.refresh(job).requests is None
    done = resume(world.session(), job).job
    assert done.requests is not None and done.requests.store == world.blobs.requests


def test_the_row_of_the_job_stands_before_the_store_is_asked_and_the_seal_comes_last(world: World) -> None:
    submitted(world.session(**sweep_of(world)), *SWEEP, if_exists=IfExists.NEW)
    assert world.calls[:2] == ["insert", "stat"]
    assert world.calls[-2:] == ["insert", "swap"]


def crashes(world_of: Callable[[], World]) -> list[tuple[World, Sequence[str], BaseException | None]]:
    """The same submission, killed before its first request, after it, before its second one, and so on to the end."""
    outcomes = []
    for moment in range(1000):
        world, seen = world_of(), [0]

        def fatal(name: str, after: bool, seen: list[int] = seen, moment: int = moment) -> bool:
            seen[0] += 1
            return seen[0] == moment + 1

        flags = sweep_of(world)
        try:
            submitted(world.session(fatal, **flags), *SWEEP)
        except Killed as killed:
            outcomes.append((world, list(world.calls), killed))
        else:
            return outcomes
    raise AssertionError("a submission never came to its end")


def test_a_crash_at_any_request_leaves_a_job_that_can_be_completed_or_nothing(tmp_path: Path) -> None:
    worlds = iter(range(1000))
    outcomes = crashes(lambda: World(tmp_path / str(next(worlds))))
    assert len(outcomes) > 20
    completed = 0
    for world, calls, _ in outcomes:
        session = world.session()
        entries = session.queue.entries()
        claimed = session.queue.claim(
            pool_of_request(session, private=False).id,
            NodeName("n"),
            Room(free=Resources(cpu=99), total=Resources(cpu=99), starts=99),
        )
        jobs = session.queue.jobs(entries)
        if not jobs:
            assert claimed.grants == ()
            continue
        if jobs[0].sealed_at is None:
            assert claimed.grants == (), f"an unsealed job ran after {calls}"
        else:
            assert len(claimed.grants) == 25
        job = finish(world, jobs[0])
        assert job.id == jobs[0].id
        assert [task.id.index for task in session.queue.tasks(job.id)] == list(range(1, 26))
        assert session.queue.entries() == entries
        assert journal_of(session).last([job.id]) == job.id
        completed += 1
    assert completed > 20


def finish(world: World, job: Job) -> Job:
    """The job completed as `resume` does it, by another process."""
    session = world.session()
    if job.sealed_at is None:
        complete(session, read_draft(session, job))
    done = session.queue.refresh(job)
    assert done.sealed_at is not None
    return done


def killed_at(world: World, request: str, **flags: Any) -> Job:
    """An incomplete job whose submitter was killed before its first request of that name."""
    with pytest.raises(Killed):
        submitted(world.session(lambda name, after: name == request, **flags), *SWEEP)
    session = world.session()
    return session.queue.jobs(session.queue.entries())[0]


def test_a_job_is_completed_from_bytes_that_were_uploaded_although_the_files_are_gone(world: World) -> None:
    job = killed_at(world, "swap", **sweep_of(world))
    for path in world.root.glob("in/*.txt"):
        path.unlink()
    done = resume(world.session(), job)
    assert done.completed
    assert done.job.sealed_at is not None
    assert done.launched == tuple(world.provider.nodes)


@pytest.mark.parametrize("harm", ["changed", "removed", "emptied"])
def test_a_file_that_changed_before_it_was_uploaded_is_named_and_nothing_is_sealed(world: World, harm: str) -> None:
    job = killed_at(world, "stat", **sweep_of(world))
    path = world.root / "in/1.txt"
    match harm:
        case "changed":
            path.write_text("INPUT 1")
        case "removed":
            path.unlink()
        case _:
            path.write_text("")
    session = world.session()
    with pytest.raises(Conflict) as error:
        resume(session, job)
    assert str(path) in error.value.message
    assert error.value.hint is not None and f"kubeq clean {job.id}" in error.value.hint
    assert session.queue.refresh(job).sealed_at is None


def test_a_job_whose_draft_is_not_here_cannot_be_completed_here(world: World) -> None:
    job = killed_at(world, "stat", **sweep_of(world))
    draft = world.session().config.state_dir / "submissions" / f"{job.id}.jsonl"
    draft.write_bytes(draft.read_bytes()[:40])
    with pytest.raises(NotFound, match="cannot be read"):
        resume(world.session(), job)
    draft.unlink()
    with pytest.raises(NotFound, match="not on this machine"):
        resume(world.session(), job)


def test_two_that_complete_a_job_at_once_write_nothing_twice(world: World) -> None:
    job = killed_at(world, "put", **sweep_of(world))
    drafts = [read_draft(world.session(), job) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        done = [threads.submit(complete, world.session(), draft) for draft in drafts]
        assert {each.result().job.sealed_at is not None for each in done} == {True}
    tasks = list(world.session().queue.tasks(job.id))
    assert len(tasks) == 25
    assert {task.state for task in tasks} == {TaskState.PENDING}


def test_completing_late_returns_no_claimed_task_to_pending(world: World) -> None:
    job = killed_at(world, "put", **sweep_of(world))
    late = read_draft(world.session(), job)
    session = world.session()
    complete(session, read_draft(session, job))
    room = Room(free=Resources(cpu=99), total=Resources(cpu=99), starts=25)
    granted = session.queue.claim(job.pool, NodeName("n"), room).grants
    world.session().queue.add_tasks(late.job, ['{"schema":1,"state":"pending","values":["0","x"]}'] * 25)
    assert {task.state for task in session.queue.tasks(job.id)} == {TaskState.CLAIMED}
    assert len(granted) == 25


def test_a_submission_leaves_no_draft_and_no_lock_behind(world: World) -> None:
    session = world.session(**sweep_of(world))
    submitted(session, *SWEEP)
    assert list((session.config.state_dir / "submissions").iterdir()) == []
    submitted(world.session(**sweep_of(world)), *SWEEP, if_exists=IfExists.NEW)


# -- what others do meanwhile -----------------------------------------------------------------------------------------


def test_bytes_that_were_cleaned_away_meanwhile_are_sent_again_before_the_seal(world: World) -> None:
    flags = sweep_of(world)
    older = world.session(**flags)
    end_all(older, submitted(older, *SWEEP).job)
    seen = [0]

    def cleaned(name: str, after: bool) -> bool:
        if name == "insert" and not after:
            seen[0] += 1
            if seen[0] == 2:  # the rows of the tasks: the store has been asked already
                world.blobs.delete([stored.key for stored in world.blobs.list("blobs/")])
        return False

    done = submitted(world.session(cleaned, **flags), *SWEEP)
    assert done.created
    assert done.upload.already == 5, "the store had everything when it was asked first"
    session = world.session()
    for task in session.queue.tasks(done.job.id):
        assert task.inputs is not None
        for entry in session.blobs.read_manifest(task.inputs).entries:
            assert session.blobs.read(entry.digest)
    assert decode_spec(session.blobs.read(done.job.spec))


def test_bytes_that_the_store_had_are_made_durable_before_the_seal(world: World) -> None:
    flags = sweep_of(world)
    first = world.session(**flags)
    end_all(first, submitted(first, *SWEEP).job)
    with pytest.raises(Killed):
        submitted(world.session(lambda name, after: name == "batch", **flags), *SWEEP)
    session = world.session()
    newest = max(session.queue.jobs(session.queue.entries()), key=lambda job: job.sealed_at is None)
    assert newest.sealed_at is None


def test_a_job_that_is_removed_while_it_is_submitted_leaves_neither_rows_nor_draft(world: World) -> None:
    job = killed_at(world, "stat", **sweep_of(world))
    session = world.session()
    draft = read_draft(session, job)
    session.queue.forget(job)
    with pytest.raises(NotFound, match="removed while it was being submitted"):
        complete(session, draft)
    assert session.queue.outcomes(job.id) == {}
    assert not draft.path.exists()


def drafts(world: World) -> set[str]:
    return {path.name for path in (world.session().config.state_dir / "submissions").iterdir()}


def test_a_draft_that_never_became_a_job_is_removed_a_day_later_and_no_other(world: World) -> None:
    flags = {**sweep_of(world), "name": None}
    with pytest.raises(Killed):
        submitted(world.session(lambda name, after: name == "insert", **flags), *SWEEP)
    (stray,) = drafts(world)
    folder = world.session().config.state_dir / "submissions"
    with pytest.raises(Killed):
        submitted(world.session(lambda name, after: name == "put", **flags), *SWEEP)
    (incomplete,) = drafts(world) - {stray}
    (folder / "20260101-aaaa.jsonl").write_text("of another queue")
    (folder / "20260101-bbbb.new").write_text("cut off")
    now = world.clock.now()
    for path in folder.iterdir():
        os.utime(path, (now - STALE_S + 60, now - STALE_S + 60))
    submitted(world.session(**flags), *SWEEP)
    assert len(drafts(world)) == 4
    world.clock.advance(120)
    submitted(world.session(**flags), *SWEEP)
    assert drafts(world) == {incomplete, "20260101-aaaa.jsonl"}


def test_a_submission_that_does_not_let_go_is_named(world: World) -> None:
    session = world.session()
    with one_at_a_time(session), pytest.raises(Conflict) as error:  # noqa: SIM117
        with one_at_a_time(session, patience_s=0.05):
            raise AssertionError("two at once")
    assert f"process {os.getpid()} " in error.value.message
    assert error.value.hint == f"see what it does: ps -fp {os.getpid()}"
    with one_at_a_time(session, patience_s=0.0):
        pass


# -- the same name again -----------------------------------------------------------------------------------------------


def end_all(session: Session, job: Job) -> None:
    session.queue.cancel_job(job)
    assert not session.queue.refresh(job).open


def test_while_a_job_is_under_way_an_equal_one_of_its_name_is_the_same_job(world: World) -> None:
    flags = sweep_of(world)
    first = submitted(world.session(**flags), *SWEEP)
    again = submitted(world.session(**flags), *SWEEP)
    assert not again.created
    assert again.job.id == first.job.id
    assert len(world.session().queue.entries()) == 1


@pytest.mark.parametrize("difference", ["command", "values", "bytes", "retries", "resources", "environment"])
def test_while_a_job_is_under_way_another_one_of_its_name_is_a_conflict(world: World, difference: str) -> None:
    flags = sweep_of(world)
    submitted(world.session(**flags), *SWEEP)
    command: tuple[str, ...] = SWEEP
    match difference:
        case "command":
            command = (*SWEEP, "more")
        case "values":
            lines = (world.root / "params.csv").read_text().replace("24,in/0.txt", "99,in/0.txt")
            world.write("params.csv", lines)
        case "bytes":
            world.write("in/2.txt", "INPUT 2")
        case "retries":
            flags["retries"] = "1"
        case "resources":
            flags["resources"] = "cpu=0.5"
        case _:
            flags["env"] = ["X=1"]
    with pytest.raises(Conflict, match="under way"):
        submitted(world.session(**flags), *command)
    assert len(world.session().queue.entries()) == 1


@pytest.mark.parametrize("gone", [[3], [25], list(range(1, 26))])
def test_a_job_that_is_half_removed_is_another_one(world: World, gone: list[int]) -> None:
    flags = sweep_of(world)
    session = world.session(**flags)
    older = submitted(session, *SWEEP).job
    world.table.delete([task_key(TaskId(older.id, index)) for index in gone])
    with pytest.raises(Conflict, match="under way"):
        submitted(session, *SWEEP)
    end_all(session, older)
    assert submitted(session, *SWEEP, if_exists=IfExists.SKIP).created


def test_a_job_of_a_newer_kubeq_is_in_the_way_of_its_own_name_only(world: World) -> None:
    session = world.session(name="theirs")
    newer = submitted(session, "true").job
    row = world.table.get([job_row(newer).key])[0]
    assert row is not None
    body = row.body.replace('"schema":1', '"schema":2')
    world.table.swap([Change(row.key, row.version, "newer", row.tally, row.claimable_at, body)])
    assert submitted(world.session(name="ours"), "true").created
    with pytest.raises(VersionMismatch):
        submitted(session, "true")


def test_the_image_moving_does_not_make_an_equal_job_another_one(world: World) -> None:
    session = world.session(name="demo")
    first = submitted(session, "true")
    plan = plan_of(session, "true")
    pool = pool_of_request(session, private=False)
    again = submit(session, plan, pool, pinned=PINNED.replace("ab", "cd"))
    assert again.job.id == first.job.id


def test_a_name_is_free_again_once_its_job_has_ended(world: World) -> None:
    session = world.session(name="demo")
    first = submitted(session, "true")
    end_all(session, first.job)
    assert submitted(session, "true").job.id != first.job.id


def test_skip_is_content_with_an_equal_job_that_has_ended_and_makes_a_new_one_otherwise(world: World) -> None:
    session = world.session(name="demo")
    first = submitted(session, "true")
    end_all(session, first.job)
    assert submitted(session, "true", if_exists=IfExists.SKIP).job.id == first.job.id
    assert submitted(session, "false", if_exists=IfExists.SKIP).created


def test_abort_never_makes_a_second_job_of_a_name(world: World) -> None:
    session = world.session(name="demo")
    end_all(session, submitted(session, "true", if_exists=IfExists.ABORT).job)
    with pytest.raises(Conflict, match="has ended"):
        submitted(session, "true", if_exists=IfExists.ABORT)


def test_a_name_that_nobody_chose_is_in_nobodys_way(world: World) -> None:
    session = world.session()
    assert submitted(session, "sleep", "1").created
    assert submitted(session, "sleep", "2").created


def test_an_incomplete_job_of_the_name_is_a_conflict_that_says_what_to_do(world: World) -> None:
    flags = sweep_of(world)
    job = killed_at(world, "put", **flags)
    with pytest.raises(Conflict, match="incomplete") as error:
        submitted(world.session(**flags), *SWEEP)
    assert error.value.hint is not None and f"kubeq resume {job.id}" in error.value.hint


def test_of_two_submissions_of_one_name_at_once_one_wins(world: World) -> None:
    sessions = [world.session(name="demo") for _ in range(6)]
    results: list[str] = []

    def run(number: int) -> None:
        try:
            submitted(sessions[number], "echo", str(number))
            results.append("won")
        except Conflict:
            results.append("conflict")

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(run, range(6)))
    assert sorted(results) == ["conflict"] * 5 + ["won"]


def test_paths_that_are_not_utf8_are_uploaded_and_survive_a_crash(world: World) -> None:
    strange = os.fsdecode(b"odd\xff.bin")
    (world.root / strange).write_text("odd")
    with pytest.raises(Killed):
        submitted(world.session(lambda name, after: name == "stat", upload=[f"{strange}:odd.bin"]), "true")
    session = world.session()
    job = session.queue.jobs(session.queue.entries())[0]
    assert resume(session, job).completed


def test_sources_by_url_are_in_every_manifest_and_nothing_of_them_is_sent(world: World, web: Web) -> None:
    url = web.put("/data.bin", b"from elsewhere" * 1000)
    for name, content in (("a", "A"), ("b", "B"), ("t.csv", "f\na\nb\n")):
        world.write(name, content)
    session = world.session(params=[str(world.root / "t.csv")], upload=[url, f"{url}:again"])
    done = submitted(session, "cat", "^{f}", "data.bin")
    assert (done.upload.files, done.upload.size) == (2, 2)
    for task in session.queue.tasks(done.job.id):
        assert task.inputs is not None
        manifest = session.blobs.read_manifest(task.inputs)
        assert [(remote.path, remote.url, remote.size) for remote in manifest.remotes] == [
            ("again", url, 14_000),
            ("data.bin", url, 14_000),
        ]
        assert len(manifest.entries) == 1
    assert len(web.asked) == 1


def test_a_job_with_nothing_but_sources_by_url_is_equal_as_long_as_they_are_pinned_alike(
    world: World, web: Web
) -> None:
    url = web.put("/data.bin", b"one")
    session = world.session(upload=[url])
    first = submitted(session, "cat", "data.bin")
    assert submitted(session, "cat", "data.bin", if_exists=IfExists.SKIP).created is False
    web.put("/data.bin", b"two")
    second = submitted(session, "cat", "data.bin", if_exists=IfExists.SKIP)
    assert second.created
    assert first.job.spec != second.job.spec
