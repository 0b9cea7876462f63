"""Selectors, filters and conditions against real jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeq.actions.finding import Choice, find_chosen, find_job, find_jobs, find_one, tasks_of
from kubeq.actions.journal import Journal, Step
from kubeq.actions.session import Session
from kubeq.actions.unused_blobs import find_unused
from kubeq.actions.where import parse_where
from kubeq.core.model import Exit, JobId, Reason, Task, TaskId, TaskState
from kubeq.core.selectors import Filters
from kubeq.errors import Conflict, KubeqError, NotFound, UsageError, VersionMismatch
from kubeq.queue.base import Change
from kubeq.queue.rows import entry_row, job_row
from tests.jobs import Work


def indexes(session: Session, text: str, **choice: object) -> list[int]:
    where = choice.pop("where", None)
    wanted = Choice(filters=Filters(**choice), where=where)  # type: ignore[arg-type]
    return [task.id.index for task in tasks_of(session, find_one(session, text), wanted)]


def test_the_newest_job_of_a_name_is_meant(work: Work, session: Session) -> None:
    older = work.submit()
    work.clock.advance(60)
    newer = work.submit()
    assert find_job(session, "demo").id == newer.id
    assert find_job(session, older.id).id == older.id


def test_a_job_of_a_newer_kubeq_is_left_out_of_lists_and_told_of_when_it_is_asked_for(
    work: Work, session: Session
) -> None:
    newer, job = work.submit(name="theirs"), work.submit(name="ours")
    table = session.queue._table
    for key in (job_row(newer).key, entry_row(newer).key):
        row = table.get([key])[0]
        assert row is not None
        body = row.body.replace('"schema":1', '"schema":2')
        table.swap([Change(key, row.version, "newer", row.tally, row.claimable_at, body)])
        assert find_jobs(session, []) == [job] == find_jobs(session, ["ou*"])
        for ask in (find_job, find_one):
            with pytest.raises(VersionMismatch):
                ask(session, newer.id)
        for ask_many in (find_jobs, find_chosen):
            with pytest.raises(VersionMismatch):
                ask_many(session, [newer.id])
    with pytest.raises(NotFound):
        find_job(session, "nobody")
    with pytest.raises(VersionMismatch):
        find_unused(session)


def test_last_is_the_last_submission_of_this_machine(work: Work, session: Session) -> None:
    first, _ = work.submit(), work.submit()
    journal = Journal(Path(session.config.state_dir), session.config.queue_url)
    journal.write(first.id, Step.SEALED, first.name, 1.0)
    assert find_job(session, "LAST").id == first.id


def test_last_without_a_submission_is_not_found(work: Work, session: Session) -> None:
    work.submit()
    with pytest.raises(NotFound, match="LAST"):
        find_job(session, "LAST")


def test_without_a_text_every_job_is_meant_newest_first(work: Work, session: Session) -> None:
    older = work.submit()
    work.clock.advance(1)
    newer = work.submit(name="other")
    assert [job.id for job in find_jobs(session, [])] == [newer.id, older.id]


def test_without_any_job_every_job_is_none(session: Session) -> None:
    assert find_jobs(session, []) == []


def test_a_glob_finds_several_jobs_and_each_once(work: Work, session: Session) -> None:
    jobs = [work.submit(name=name) for name in ("sweep-a", "sweep-b", "other")]
    assert {job.id for job in find_jobs(session, ["sweep-*", "*-a"])} == {jobs[0].id, jobs[1].id}


def test_a_glob_where_one_job_is_needed_is_a_conflict(work: Work, session: Session) -> None:
    work.submit(name="a1"), work.submit(name="a2")
    with pytest.raises(Conflict, match="2 jobs"):
        find_job(session, "a*")


def test_a_task_where_a_job_is_needed_is_a_usage_error(work: Work, session: Session) -> None:
    work.submit()
    with pytest.raises(UsageError, match="whole job"):
        find_job(session, "demo/1")


def test_a_task_number_beyond_the_job_is_found_before_anything_is_done(work: Work, session: Session) -> None:
    work.submit([("1",), ("2",)], ["x"])
    with pytest.raises(NotFound, match="no task 3"):
        find_chosen(session, ["demo/1-3"])


def test_tasks_are_read_by_number_and_in_order(work: Work, session: Session) -> None:
    work.submit([(str(n),) for n in range(1, 31)], ["x"])
    assert indexes(session, "demo/20-22,3") == [3, 20, 21, 22]


def test_filters_and_conditions_are_a_conjunction(work: Work, session: Session) -> None:
    work.submit([(str(n / 10),) for n in range(10)], ["x"])
    work.run(4, Exit(code=3))
    work.run(4)
    failed = frozenset({TaskState.FAILED})
    assert indexes(session, "demo", states=failed) == [1, 2, 3, 4]
    assert indexes(session, "demo", states=failed, where="x >= 0.2") == [3, 4]
    assert indexes(session, "demo", exit_codes=frozenset({0})) == [5, 6, 7, 8]
    assert indexes(session, "demo", reasons=frozenset({Reason.EXIT}), where="index < 3") == [1, 2]
    assert indexes(session, "demo", where="exit == None") == [9, 10]


TASK = Task(id=TaskId(JobId("j"), 7), values=("0.5", "a b", "", "abc"), claimable_at=None, attempt=2)
COLUMNS = ("x", "name", "empty", "my col")


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("x > 0.4 and x < 0.6", True),
        ("0.4 < x <= 0.5", True),
        ("x == 0.50", True),
        ("x == '0.5'", True),
        ("x == '0.50'", False),
        ("name == 'a b'", True),
        ("'a' in name", True),
        ("name in ('c', 'a b')", True),
        ("x in (1, 0.5)", True),
        ("name not in ['a b']", False),
        ("not name == 'c'", True),
        ("state == 'pending' or x > 100", True),
        ("exit == 0", False),
        ("exit != 0", False),
        ("exit == None", True),
        ("empty != '' and empty > 1", False),
        ("param['my col'] == 'abc'", True),
        ("param.x < 1 and index == 7 and attempt >= 2", True),
        ("True", True),
        ("x == -0.5", False),
    ],
)
def test_a_condition_holds_as_its_words_say(text: str, holds: bool) -> None:
    assert parse_where(text, COLUMNS).admits(TASK) is holds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("y > 1", "'y'"),
        ("x >", "cannot be read"),
        ("", "cannot be read"),
        ("x", "neither true nor false"),
        ("x + 1 > 2", "'x \\+ 1'"),
        ("__import__('os').system('true') == 0", "not understood"),
        ("param.nothing == 1", "'nothing'"),
        ("x.real > 1", "'x.real'"),
        ("[y for y in (1,)] == 1", "not understood"),
        ("(x := 1) == 1", "not understood"),
        ("x is None", "'is'"),
        ("f'{x}' == '1'", "not understood"),
        ("state = 'failed'", "cannot be read"),
        ("x > 0.5; import os", "cannot be read"),
        ("\x00", "cannot be read"),
        ("not " * 400 + "True", "nested too deeply"),
        ("x > 1 and " * 300 + "True", "2,0"),
    ],
)
def test_a_condition_that_is_not_understood_names_what(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_where(text, COLUMNS)


@pytest.mark.parametrize(
    ("text", "said"),
    [("name > 3", "'name'"), ("state > 3", "'pending'"), ("3 in x", "list or a text"), ("(1, 2) > x", "a list")],
)
def test_a_comparison_that_makes_no_sense_names_the_field(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_where(text, COLUMNS).admits(TASK)


words = st.sampled_from(
    [
        "x",
        "name",
        "state",
        "exit",
        "param",
        "param.x",
        "param['my",
        "col']",
        "and",
        "or",
        "not",
        "in",
        "==",
        "!=",
        "<",
        ">",
        ">=",
        "(",
        ")",
        "[",
        "]",
        ",",
        "0.5",
        "1",
        "-1",
        "'a'",
        "None",
        "True",
        "lambda",
        ":",
        "{",
        "}",
        "**",
        "'",
        '"',
        "\\",
        "#",
        ":",
        ";",
        "@",
        "...",
        "await",
        "1e999",
        "0x1",
        "b'a'",
        "f'{x}'",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.lists(words, max_size=14).map(" ".join), st.text(max_size=60)))
def test_no_text_makes_a_condition_crash(text: str) -> None:
    try:
        parse_where(text, COLUMNS).admits(TASK)
    except KubeqError as error:
        assert error.exit_code == 2
