"""JOB and TASK selectors: what each text means, and what is said when it means nothing or too much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeq.core.model import Attempt, Exit, JobId, NodeName, Reason, Task, TaskId, TaskState
from kubeq.core.selectors import Filters, Indexes, JobRef, match_jobs, match_one_job, parse_task_selector
from kubeq.errors import Conflict, NotFound, UsageError

JOBS = [
    JobRef(JobId("20260101-aaaa"), "demo", 1.0),
    JobRef(JobId("20260102-bbbb"), "demo", 2.0),
    JobRef(JobId("20260102-bccc"), "sweep", 3.0),
    JobRef(JobId("20260103-dddd"), "20260101-aaaa", 4.0),
    JobRef(JobId("2026"), "short", 0.5),
]


def ids(text: str, last: str | None = None) -> list[str]:
    return [job.id for job in match_jobs(text, JOBS, JobId(last) if last else None)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20260102-bbbb", "20260102-bbbb"),
        ("20260102-bb", "20260102-bbbb"),
        ("20260103", "20260103-dddd"),
        ("demo", "20260102-bbbb"),
        ("sweep", "20260102-bccc"),
        ("20260101-aaaa", "20260101-aaaa"),
        ("2026", "2026"),
    ],
)
def test_a_job_is_named_by_id_name_or_the_beginning_of_an_id(text: str, expected: str) -> None:
    assert ids(text) == [expected]


def test_last_is_the_last_submission_of_this_machine() -> None:
    assert ids("LAST", "20260101-aaaa") == ["20260101-aaaa"]


@pytest.mark.parametrize(("last", "said"), [(None, "nothing was submitted"), ("gone", "not there any more")])
def test_last_without_a_job_is_not_found(last: str | None, said: str) -> None:
    with pytest.raises(NotFound, match=said):
        ids("LAST", last)


def test_a_glob_matches_ids_and_names_newest_first() -> None:
    assert ids("*") == ["20260103-dddd", "20260102-bccc", "20260102-bbbb", "20260101-aaaa", "2026"]
    assert ids("de?o") == ["20260102-bbbb", "20260101-aaaa"]
    assert ids("20260102-b[bc]*") == ["20260102-bccc", "20260102-bbbb"]


@pytest.mark.parametrize("text", ["nope*", "[", "?"])
def test_a_glob_without_a_match_is_not_found(text: str) -> None:
    with pytest.raises(NotFound, match="no job matches"):
        ids(text)


@pytest.mark.parametrize(("text", "hint"), [("dem", "demo"), ("sweeep", "sweep"), ("", "status"), ("zzz", "status")])
def test_an_unknown_job_is_not_found_and_the_nearest_is_named(text: str, hint: str) -> None:
    with pytest.raises(NotFound) as caught:
        ids(text)
    assert hint in str(caught.value.hint)


def test_the_beginning_of_several_ids_is_a_conflict_that_lists_them() -> None:
    with pytest.raises(Conflict) as caught:
        ids("20260102")
    assert "20260102-bccc (sweep), 20260102-bbbb (demo)" in caught.value.message


def test_one_job_is_one_job() -> None:
    assert match_one_job("swe*", JOBS, None).name == "sweep"
    with pytest.raises(Conflict, match="matches 2 jobs"):
        match_one_job("demo*", JOBS, None)


def test_a_conflict_lists_ten_candidates_and_counts_the_rest() -> None:
    jobs = [JobRef(JobId(f"j{number:03}"), "n", float(number)) for number in range(30)]
    with pytest.raises(Conflict, match=r"j020 \(n\) and 20 more"):
        match_one_job("*", jobs, None)


@pytest.mark.parametrize(
    ("text", "job", "expected"),
    [
        ("demo", "demo", ()),
        ("demo/17", "demo", (range(17, 18),)),
        ("demo/1-10,20", "demo", (range(1, 11), range(20, 21))),
        ("LAST/20,1-3,2-5,4", "LAST", (range(1, 6), range(20, 21))),
        ("d/1,1,1", "d", (range(1, 2),)),
        ("d/1,2,3", "d", (range(1, 4),)),
    ],
)
def test_a_task_selector_is_a_job_and_ranges(text: str, job: str, expected: tuple[range, ...]) -> None:
    found = parse_task_selector(text)
    assert (found.job, found.indexes.ranges) == (job, expected)


@pytest.mark.parametrize(
    "text",
    [
        "d/0",
        "d/-1",
        "d/1e9",
        "d/01",
        "d/5-2",
        "d/",
        "d/1,,2",
        "d/1-",
        "d/99999999",
        "d/1-10000001",
        "d/x",
        "d/1/2",
        "/1",
        "",
        "d/٣",
    ],
)
def test_a_bad_task_selector_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_task_selector(text)
    assert caught.value.hint


def test_indexes_are_held_to_the_job() -> None:
    assert list(Indexes().of("j", 3)) == [1, 2, 3]
    assert list(parse_task_selector("j/2-3").indexes.of("j", 3)) == [2, 3]
    with pytest.raises(NotFound, match="job j has no task 4"):
        list(parse_task_selector("j/2-5").indexes.of("j", 3))
    with pytest.raises(NotFound, match="job j has no task 7"):
        list(parse_task_selector("j/7").indexes.of("j", 3))


def test_membership_follows_the_ranges() -> None:
    assert 5 in Indexes()
    chosen = parse_task_selector("j/2-3,9").indexes
    assert [index for index in range(12) if index in chosen] == [2, 3, 9]


@given(st.text(max_size=20) | st.text("0123456789-,/j", max_size=20))
def test_any_selector_is_understood_or_refused(text: str) -> None:
    try:
        found = parse_task_selector(text)
    except UsageError:
        return
    assert found.job
    assert all(len(chosen) for chosen in found.indexes.ranges)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), min_size=1, max_size=8))
def test_ranges_mean_the_union_of_what_was_typed(parts: list[tuple[int, int]]) -> None:
    text = ",".join(f"{first}-{first + more}" for first, more in parts)
    wanted = {index for first, more in parts for index in range(first, first + more + 1)}
    assert list(parse_task_selector(f"j/{text}").indexes.of("j", 100)) == sorted(wanted)


def task(state: TaskState, reason: Reason | None = None, code: int | None = None) -> Task:
    attempt = Attempt(number=1, node=NodeName("n"), nonce="x", claimed_at=0.0, exit=Exit(code=code))
    return Task(id=TaskId(JobId("j"), 1), state=state, reason=reason, claimable_at=None, attempts=(attempt,))


def test_filters_of_one_kind_are_alternatives_and_the_kinds_must_agree() -> None:
    failed = task(TaskState.FAILED, Reason.EXIT, 3)
    assert Filters().admits(failed) and Filters().empty
    assert Filters(states=frozenset({TaskState.FAILED, TaskState.PENDING})).admits(failed)
    assert not Filters(states=frozenset({TaskState.PENDING})).admits(failed)
    assert Filters(exit_codes=frozenset({2, 3})).admits(failed)
    assert not Filters(exit_codes=frozenset({2})).admits(failed)
    assert Filters(reasons=frozenset({Reason.EXIT}), exit_codes=frozenset({3})).admits(failed)
    assert not Filters(reasons=frozenset({Reason.LOST}), exit_codes=frozenset({3})).admits(failed)


def test_a_task_that_never_ran_has_no_exit_code() -> None:
    waiting = Task(id=TaskId(JobId("j"), 1), claimable_at=0.0)
    assert not Filters(exit_codes=frozenset({0})).admits(waiting)
    assert not Filters(exit_codes=frozenset({0})).admits(task(TaskState.FAILED, Reason.SIGNAL, None))
