"""A node on which tasks fail one after another is told from tasks that fail everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from kubeq.core.model import Attempt, Ending, JobId, NodeName, Policy, Reason, Task
from kubeq.core.transitions import Report
from kubeq.queue.claims import Final, Grant
from kubeq_consumer.strikes import Strikes

HERE, THERE = NodeName("n1"), NodeName("n2")
Grants = Callable[..., list[Grant]]


@pytest.fixture
def granted(grants: Grants) -> list[Grant]:
    return grants(8, Policy(strikes=3))


def ended(grant: Grant, ending: Ending = Ending.FAILED) -> Final:
    reason = Reason.EXIT if ending is Ending.FAILED else None
    return Final(grant=grant, ending=ending, reason=reason, report=Report(ended_at=1.0, message="exit code 1"))


def failed_before(grant: Grant, node: NodeName) -> Grant:
    """The grant of a task that has failed on that node before."""
    task: Task = grant.task
    before = Attempt(number=1, node=node, nonce="x", claimed_at=0.0, ended_at=0.5, ending=Ending.FAILED)
    current = replace(task.attempts[-1], number=2)
    return replace(grant, task=replace(task, attempt=2, attempts=(before, current), failures=1))


def test_a_node_is_struck_out_when_the_limit_is_reached_and_is_told_why(granted: list[Grant]) -> None:
    strikes = Strikes(HERE)
    assert [strikes.count(ended(grant)) for grant in granted[:2]] == [None, None]
    why = strikes.count(ended(granted[2]))
    assert why == "3 tasks in a row of job j1 failed here, the last one: exit code 1"


def test_a_success_in_between_begins_the_row_anew(granted: list[Grant]) -> None:
    strikes = Strikes(HERE)
    for grant in granted[:2]:
        strikes.count(ended(grant))
    strikes.count(ended(granted[2], Ending.SUCCEEDED))
    assert [strikes.count(ended(grant)) for grant in granted[3:5]] == [None, None]


@pytest.mark.parametrize("ending", [Ending.RELEASED, Ending.CANCELLED])
def test_what_says_nothing_about_the_node_neither_counts_nor_clears(granted: list[Grant], ending: Ending) -> None:
    strikes = Strikes(HERE)
    for grant in granted[:2]:
        strikes.count(ended(grant))
        assert strikes.count(ended(grant, ending)) is None
    assert strikes.count(ended(granted[2])) is not None


def test_one_task_counts_once_however_often_it_is_tried_again(granted: list[Grant]) -> None:
    strikes = Strikes(HERE)
    tries = [granted[0], *[failed_before(granted[0], HERE)] * 9]
    assert [strikes.count(ended(grant)) for grant in tries] == [None] * 10


def test_a_task_that_has_failed_elsewhere_says_nothing_about_this_node(granted: list[Grant]) -> None:
    strikes = Strikes(HERE)
    assert [strikes.count(ended(failed_before(grant, THERE))) for grant in granted] == [None] * 8


def test_a_poison_task_costs_a_whole_pool_one_strike(grants: Grants) -> None:
    (poison,) = grants(1, Policy(strikes=1, retries=9))
    nodes = [NodeName(f"n{number}") for number in range(5)]
    struck, grant = 0, poison
    for node in nodes:
        struck += Strikes(node).count(ended(grant)) is not None
        grant = failed_before(poison, nodes[0])
    assert struck == 1


def test_jobs_are_counted_by_themselves_and_by_their_own_limits(granted: list[Grant]) -> None:
    strikes = Strikes(HERE)
    other = [
        replace(grant, job=replace(grant.job, id=JobId("j2"), policy=Policy(strikes=0)))  # it never asks for it
        for grant in granted
    ]
    assert [strikes.count(ended(grant)) for grant in other] == [None] * 8
    assert [strikes.count(ended(grant)) for grant in granted[:2]] == [None, None]
    assert strikes.count(ended(other[0], Ending.SUCCEEDED)) is None
    assert strikes.count(ended(granted[2])) is not None


def test_a_node_that_stays_although_it_was_struck_out_has_a_new_row(granted: list[Grant]) -> None:
    strikes = Strikes(HERE)
    answers = [strikes.count(ended(grant)) is not None for grant in granted]
    assert answers == [False, False, True, False, False, True, False, False]
