"""Machines that nobody needs: which are found, whose, and how they end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubeq.actions.fleet import BOOT_LIMIT_S, SILENT_S
from kubeq.actions.launching import add_nodes, observe_pool, pool_of_request
from kubeq.actions.nodes import list_nodes
from kubeq.actions.orphans import chosen, find_orphans, stop_orphans
from kubeq.actions.session import Session
from kubeq.cli.output import Mode, Output
from kubeq.cli.shown import warn_of_orphans
from kubeq.cli.views_nodes import OrphansView
from kubeq.core.model import GoneReason, NodeName, NodeState, Pool
from kubeq.errors import NotFound
from tests.jobs import FakeClock, Work
from tests.providers import FakeCloud
from tests.unit.actions.test_machines import configured


@pytest.fixture
def cloud(clock: FakeClock) -> FakeCloud:
    cloud = FakeCloud()
    cloud.made_at = clock.now()
    return cloud


@pytest.fixture
def far(session: Session, cloud: FakeCloud) -> Session:
    return configured(session, cloud)


@pytest.fixture
def pool(far: Session) -> Pool:
    return pool_of_request(far, private=False)


def why(session: Session) -> dict[str, str]:
    return {orphan.owned.name.rpartition("-")[2]: orphan.why for orphan in find_orphans(session)}


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), ""),
        (("p-1",), "warning: 1 machine stands although its node has left, and may cost money: kubeq nodes --orphans\n"),
        (("p-1", "p-2"), "warning: 2 machines stand although their nodes have left, and may cost money: "),
    ],
)
def test_orphans_are_told_in_one_line(capsys: pytest.CaptureFixture[str], names: tuple[str, ...], told: str) -> None:
    warn_of_orphans(Output(Mode.QUIET), [NodeName(name) for name in names])
    said = capsys.readouterr().err
    assert said.startswith(told) and said.count("\n") == bool(names)


def test_what_works_boots_or_lingers_is_no_orphan_and_what_nobody_needs_is(
    far: Session, cloud: FakeCloud, work: Work, pool: Pool, clock: FakeClock
) -> None:
    working, left, silent, _ = add_nodes(far, pool, 4)
    job = work.submit([("1",)], ["n"], pool=pool.id)
    for name in (working, left, silent):
        work.report_node(name=name, pool=pool.id)
    rows = {node.name: node for node in far.queue.peers(pool.id)}
    gone = replace(rows[left], state=NodeState.GONE, gone=GoneReason.IDLE, ended_at=clock.now())
    far.queue.report(gone)
    assert why(far) == {}, "each has just come or gone"
    clock.advance(BOOT_LIMIT_S + SILENT_S + 1)
    far.queue.report(replace(rows[working], seen_at=clock.now()))
    assert why(far) == {
        "2": "its node left 20m01s ago",
        "3": "its node has said nothing for 20m01s",
        "4": "it has never reported itself in 20m01s",
    }
    facts = {facts.node.name: facts for facts in list_nodes(far)}
    assert facts[left].because == "its machine is still up: kubeq nodes --orphans"
    assert [name for name, each in facts.items() if each.orphaned] == [left]
    assert observe_pool(far, pool.id).orphaned == (left,), "whoever waits knows it too"
    far.queue.cancel_job(job)
    assert "1" not in why(far)
    clock.advance(far.config.linger_s + SILENT_S + 1)
    far.queue.report(replace(rows[working], seen_at=clock.now()))
    assert why(far)["1"] == "its pool has had no work for 15m01s"


def test_what_is_somebody_elses_is_left_alone_and_a_pool_of_nowhere_is_told(
    far: Session, cloud: FakeCloud, pool: Pool, clock: FakeClock
) -> None:
    mine, theirs = add_nodes(far, pool, 2)
    cloud.owners[theirs] = "somebody-else"
    far.queue.forget_pool(pool.id)
    (orphan,) = found = find_orphans(far)
    unknown = f"its pool {pool.id} is not in this queue, maybe in another one"
    assert (orphan.owned.name, orphan.why) == (mine, unknown)
    view = OrphansView(found, clock.now() + 7200)
    line, last = [" ".join(line.split()) for line in view.text()][1:]
    assert line == f"{mine} running m.small eu-1a 2h00m 0.2 {unknown}"
    assert last == "$0.2 an hour; kubeq nodes --orphans --stop all ends those of this queue"
    assert view.json()["orphans"][0]["price_per_hour"] == 0.2
    with pytest.raises(NotFound, match="there is no orphan 'x'"):
        chosen(found, "x")
    assert chosen(found, "all") == [], "it may be at work for another queue"
    stop_orphans(chosen(found, mine))
    assert [cloud.nodes[name][1].alive for name in (mine, theirs)] == [False, True]
    assert list(OrphansView(find_orphans(far), clock.now()).text()) == ["no machine of yours is up that no job needs"]


def test_where_neither_the_configuration_nor_a_pool_knows_of_a_cloud_none_is_asked(
    far: Session, session: Session, cloud: FakeCloud, pool: Pool, work: Work
) -> None:
    add_nodes(far, pool, 1)
    far.queue.forget_pool(pool.id)
    assert find_orphans(session) == []
    assert len(find_orphans(far)) == 1
