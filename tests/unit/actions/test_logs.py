"""What was printed comes whole, in order and readable, live or stored."""

from __future__ import annotations

import threading

import pytest

from kubeq.actions.finding import find_one
from kubeq.actions.lines import parse_pattern
from kubeq.actions.logs import (
    Piece,
    follow_output,
    pick_task,
    read_output,
)
from kubeq.actions.session import Session
from kubeq.core.model import Exit
from kubeq.errors import NotFound, UsageError
from kubeq.store.logs import LogWriter
from tests.jobs import Work


def rows(count: int) -> list[tuple[str]]:
    return [(str(n),) for n in range(count)]


def joined(pieces: list[Piece]) -> bytes:
    return b"".join(piece.content for piece in pieces)


def test_stored_output_comes_as_it_was_printed(work: Work, session: Session) -> None:
    job = work.submit()
    printed = bytes(range(256)) * 5000
    work.run(1, stdout=printed)
    task = session.queue.tasks_at(job.id, [1])[0]
    pieces = list(read_output(session, task))
    assert joined(pieces) == printed and max(len(piece.content) for piece in pieces) <= 2**20


def test_output_of_an_earlier_attempt_is_chosen_by_number(work: Work, session: Session) -> None:
    job = work.submit(retries=1)
    work.run(1, Exit(code=1), stdout=b"first")
    work.clock.advance(60)
    work.run(1, stdout=b"second")
    task = session.queue.tasks_at(job.id, [1])[0]
    assert joined(list(read_output(session, task))) == b"second"
    assert joined(list(read_output(session, task, 1))) == b"first"
    with pytest.raises(NotFound, match="no attempt 3"):
        list(read_output(session, task, 3))


def test_output_of_a_task_that_never_ran_is_not_found(work: Work, session: Session) -> None:
    job = work.submit()
    with pytest.raises(NotFound, match="has not run yet"):
        list(read_output(session, session.queue.tasks_at(job.id, [1])[0]))


def test_output_of_a_running_attempt_is_what_it_printed_so_far(work: Work, session: Session) -> None:
    job = work.submit()
    (grant,) = work.claim(1)
    writer = LogWriter(session.store, grant.task.id, 1)
    writer.append(b"one\n"), writer.append(b"two\n")
    assert joined(list(read_output(session, session.queue.tasks_at(job.id, [1])[0]))) == b"one\ntwo\n"


def test_following_loses_nothing_and_repeats_nothing(work: Work, session: Session) -> None:
    job = work.submit()
    printed = "zwölf Boxkämpfer\n".encode() * 50

    def agent() -> None:
        (grant,) = work.claim(1)
        writer = LogWriter(session.store, grant.task.id, 1)
        for start in range(0, 500, 7):
            writer.append(printed[start : min(start + 7, 500)])
        work.end(grant, stdout=printed)
        writer.delete()

    thread = threading.Timer(0.1, agent)
    thread.start()
    assert joined(list(follow_output(session, job, 1))) == printed
    thread.join()


def test_following_goes_on_with_the_next_attempt(work: Work, session: Session) -> None:
    job = work.submit(retries=1)
    work.run(1, Exit(code=1), stdout=b"first ")
    work.clock.advance(60)

    def agent() -> None:
        work.run(1, stdout=b"second")

    pieces = follow_output(session, job, 1)
    first = next(piece for piece in pieces if piece.content)
    thread = threading.Timer(0.1, agent)
    thread.start()
    rest = [piece for piece in pieces if piece.content]
    thread.join()
    assert (first.content, first.attempt) == (b"first ", 1)
    assert [(piece.content, piece.attempt) for piece in rest] == [(b"second", 2)]


def test_following_one_attempt_ends_with_it(work: Work, session: Session) -> None:
    job = work.submit(retries=5)
    work.run(1, Exit(code=1), stdout=b"first")
    assert joined(list(follow_output(session, job, 1, attempt=1))) == b"first"


def test_following_a_lost_attempt_ends_with_what_was_shipped(work: Work, session: Session) -> None:
    job = work.submit(loss_limit=0)
    (grant,) = work.claim(1)
    LogWriter(session.store, grant.task.id, 1).append(b"last words")
    work.clock.advance(200)
    work.claim(1)
    assert joined(list(follow_output(session, job, 1))) == b"last words"


def test_of_several_tasks_the_first_that_runs_then_the_first_that_failed_is_picked(
    work: Work, session: Session
) -> None:
    job = work.submit(rows(5), ["n"])

    def picked() -> tuple[int, str | None]:
        task, why = pick_task(session, find_one(session, "demo"))
        return task.id.index, why

    assert picked() == (1, "the first")
    work.run(1), work.run(1, Exit(code=1))
    assert picked() == (2, "the first that failed")
    work.claim(1)
    assert picked() == (3, "the first that runs")
    assert pick_task(session, find_one(session, "demo/5"))[0].id.index == 5
    with pytest.raises(UsageError, match="2 tasks"):
        pick_task(session, find_one(session, f"{job.id}/1-2"))


def test_a_broken_regular_expression_is_named_with_the_place() -> None:
    with pytest.raises(UsageError, match="at character 3"):
        parse_pattern("ab(")
