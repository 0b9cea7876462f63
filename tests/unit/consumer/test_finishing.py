"""Outcomes are delivered in batches, kept while the queue is away, and never lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kubeq.core.model import Ending, Exit, Reason, Task, TaskState, Usage
from kubeq.core.transitions import Report
from kubeq.errors import AccessDenied, BackendError
from kubeq.queue.claims import Final, Grant
from kubeq.queue.queue import Queue
from kubeq_consumer.finishing import Finisher
from kubeq_consumer.spool import Spool

REPORT = Report(
    started_at=1.0,
    ended_at=2.5,
    exit=Exit(code=3),
    usage=Usage(wall_s=1.5, cpu_s=1.0, peak_memory_bytes=7),
    outputs=2,
    message="exit code 3",
)


class Flaky:
    """The queue's `finish`, out of reach for the first calls."""

    def __init__(self, queue: Queue, failures: int) -> None:
        self._queue = queue
        self.failures = failures
        self.batches: list[int] = []

    def finish(self, finals: Sequence[Final]) -> Sequence[Task | None]:
        if self.failures:
            self.failures -= 1
            raise BackendError("the queue is away", transient=True)
        self.batches.append(len(finals))
        return self._queue.finish(finals)


def final(grant: Grant) -> Final:
    return Final(grant=grant, ending=Ending.FAILED, reason=Reason.EXIT, report=REPORT)


def test_outcomes_that_end_together_are_one_call(
    queue: Queue, grants: Callable[..., list[Grant]], tmp_path: Path
) -> None:
    claims = Flaky(queue, 0)
    finisher = Finisher(claims, Spool(tmp_path / "spool"))  # type: ignore[arg-type]
    answers: list[Task | None] = []
    for grant in grants(7):
        finisher.hand_over(final(grant), answers.append)
    finisher.start()
    assert finisher.stop(10)
    assert claims.batches == [7]
    assert [task.state for task in answers if task] == [TaskState.FAILED] * 7


def test_an_outcome_waits_on_disk_while_the_queue_is_away_and_is_delivered_then(
    queue: Queue, grants: Callable[..., list[Grant]], tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool")
    finisher = Finisher(Flaky(queue, 1), spool)  # type: ignore[arg-type]
    (grant,) = grants(1)
    done = threading.Event()
    spooled: list[int] = []

    def recorded(task: Task | None) -> None:
        spooled.append(len(list(spool.load())))
        done.set()

    finisher.start()
    finisher.hand_over(final(grant), recorded)
    assert done.wait(10)
    assert finisher.stop(10)
    assert spooled == [0], "what has been delivered is no longer in the spool"
    (task,) = queue.tasks_at(grant.job.id, [1])
    assert (task.state, task.attempts[-1].exit) == (TaskState.FAILED, Exit(code=3))


def test_what_a_dead_agent_left_in_its_spool_can_be_delivered_by_another(
    queue: Queue, grants: Callable[..., list[Grant]], tmp_path: Path
) -> None:
    (grant,) = grants(1)
    Spool(tmp_path / "spool").save(final(grant))
    (loaded,) = Spool(tmp_path / "spool").load()
    assert loaded == final(grant)
    assert queue.finish([loaded])[0] is not None


def test_a_spooled_outcome_of_a_superseded_attempt_changes_nothing(
    queue: Queue, grants: Callable[..., list[Grant]], tmp_path: Path
) -> None:
    (grant,) = grants(1)
    Spool(tmp_path / "spool").save(final(grant))
    queue.reset(grant.job, [1], force=True)
    (loaded,) = Spool(tmp_path / "spool").load()
    assert queue.finish([loaded]) == [None]
    assert queue.tasks_at(grant.job.id, [1])[0].state is TaskState.PENDING


def test_a_spooled_file_that_cannot_be_read_is_passed_over(grants: Callable[..., list[Grant]], tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.save(final(grants(1)[0]))
    whole = next((tmp_path / "spool").glob("*.json")).read_text()
    for length in range(0, len(whole), 37):
        (tmp_path / "spool" / "cut.json").write_text(whole[:length])
        assert len(list(spool.load())) == 1


class Choosy(Flaky):
    """A queue that takes no outcome of one task."""

    def __init__(self, queue: Queue, refused: int) -> None:
        super().__init__(queue, 0)
        self._refused = refused

    def finish(self, finals: Sequence[Final]) -> Sequence[Task | None]:
        if any(final.grant.task.id.index == self._refused for final in finals):
            raise AccessDenied("that is another node's")
        return super().finish(finals)


def test_an_outcome_that_may_not_be_told_holds_up_no_other_and_stays_in_its_spool(
    queue: Queue, grants: Callable[..., list[Grant]], tmp_path: Path
) -> None:
    finisher = Finisher(Choosy(queue, 2), Spool(tmp_path / "spool"))  # type: ignore[arg-type]
    told: list[Task | None] = []
    for grant in grants(3):
        finisher.hand_over(final(grant), told.append, own=grant.task.id.index != 2)
    finisher.start()
    assert finisher.stop(10)
    assert [task.id.index for task in told if task] == [1, 3]


class Away(Flaky):
    """A queue whose first answer, a failure, comes when the test says."""

    def __init__(self, queue: Queue) -> None:
        super().__init__(queue, 1)
        self.asked, self.go_on = threading.Event(), threading.Event()

    def finish(self, finals: Sequence[Final]) -> Sequence[Task | None]:
        self.asked.set()
        assert self.go_on.wait(10)
        return super().finish(finals)


def test_an_agent_told_to_stop_while_the_queue_is_away_knows_when_all_is_delivered(
    queue: Queue, grants: Callable[..., list[Grant]], tmp_path: Path
) -> None:
    claims = Away(queue)
    finisher = Finisher(claims, Spool(tmp_path / "spool"))  # type: ignore[arg-type]
    finisher.hand_over(final(grants(1)[0]), lambda _: None)
    finisher.start()
    assert claims.asked.wait(10)
    with ThreadPoolExecutor(1) as threads:
        stopped = threads.submit(finisher.stop, 10)
        while finisher._waiting.empty():  # the order to stop, which is taken together with what waits for the queue
            threading.Event().wait(0.01)
        claims.go_on.set()
        assert stopped.result()
    assert claims.batches == [1]
