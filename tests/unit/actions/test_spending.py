"""What machines would cost, have cost, and why those that are up are used or are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kubeq.actions.launching import ensure_nodes, pool_of_request
from kubeq.actions.nodes import list_nodes, write_addresses
from kubeq.actions.plan import make_plan
from kubeq.actions.preflight import preflight
from kubeq.actions.preview import quote_for
from kubeq.actions.session import Session
from kubeq.actions.spending import Quote, spent_on
from kubeq.actions.status import summarize
from kubeq.actions.warm import why_not_warm
from kubeq.cli.spending import quote_lines, quote_record
from kubeq.cli.views_jobs import job_record, spent_text
from kubeq.cli.views_nodes import NodesView
from kubeq.core.machines import Machine
from kubeq.core.model import GoneReason, NodeState
from tests.jobs import FakeClock, Work
from tests.providers import FakeCloud
from tests.unit.actions.test_machines import configured


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud()


@pytest.fixture
def far(session: Session, cloud: FakeCloud) -> Session:
    return configured(
        session,
        cloud,
        nodes=3,
        runtime="process",
        allow_node_credentials=True,
        seq="10",
        timeout_s=1800.0,
        lifetime_s=7200.0,
    )


def quoted(session: Session, cloud: FakeCloud) -> Quote:
    plan = make_plan(["echo", "{index}"], session.config, cloud)
    return quote_for(session, plan, pool_of_request(session, private=False), preflight(session, plan))


def test_a_launch_is_priced_by_the_hour_by_its_lifetime_and_by_the_time_limits(far: Session, cloud: FakeCloud) -> None:
    quote = quoted(far, cloud)
    assert (quote.count, quote.warm) == (3, 0)
    assert quote.per_hour == pytest.approx(0.6)
    assert quote.at_most == pytest.approx(1.2)
    assert quote.work_s == 3600.0, "ten tasks of half an hour on three machines of two cores are two rounds"
    assert quote.work == pytest.approx(0.6)
    lines = [" ".join(line.split()) for line in quote_lines(quote)]
    assert lines[1:] == [
        "m.small eu-1a on demand 3 0.2 0.6 $1.20 in 2h00m",
        "with every task at its time limit: $0.60 in 1h00m",
    ]
    unknown = replace(quote, offer=replace(quote.offer, price=None))
    assert [" ".join(line.split()) for line in quote_lines(unknown)][1:] == [
        "m.small eu-1a on demand 3 ? ? an unknown amount in 2h00m",
        "the price is not known here; kubeq prices --refresh asks for it",
    ]
    assert quote_record(unknown)["at_most"] is None


def test_machines_that_are_up_are_not_started_again_and_others_are_told_apart(
    far: Session, session: Session, cloud: FakeCloud, work: Work
) -> None:
    pool = pool_of_request(far, private=False)
    assert why_not_warm(far, pool) is None
    for name in ensure_nodes(far, pool, 2):
        work.report_node(name=name, pool=pool.id)
    quote = quoted(far, cloud)
    assert (quote.count, quote.warm) == (1, 2)
    other = configured(
        session,
        cloud,
        machine_type=("m.small",),
        boot_disk=10**11,
        seq="10",
        runtime="process",
        allow_node_credentials=True,
    )
    assert why_not_warm(other, pool_of_request(other, private=False)) == (
        "2 machines are up in another pool, which differs in the machine types, the boot disk, the lifetime"
    )


def test_what_was_spent_is_counted_from_rows_while_the_job_was_open(
    far: Session, cloud: FakeCloud, work: Work, clock: FakeClock
) -> None:
    pool = pool_of_request(far, private=False)
    (early,) = ensure_nodes(far, pool, 1)
    work.report_node(name=early, pool=pool.id, machine=cloud.nodes[early][1].machine)
    clock.advance(3600)
    job = work.submit([("1",)], ["n"], pool=pool.id)
    (late,) = ensure_nodes(far, pool, 2)
    clock.advance(1800)
    row = next(node for node in far.queue.peers(pool.id) if node.name == late)
    far.queue.record_end(replace(row, state=NodeState.GONE, gone=GoneReason.PREEMPTED, ended_at=clock.now()))
    clock.advance(1800)
    (summary,) = summarize(far, [job])
    assert summary.spent is not None
    assert summary.spent.dollars == pytest.approx(0.2 + 0.1)
    assert summary.spent.per_hour == pytest.approx(0.2)
    assert spent_text(summary.spent) == "$0.30, $0.2 more an hour"
    assert job_record(summary)["spent"] == pytest.approx(0.3)
    closed = spent_on(far.queue.peers(pool.id), replace(job, closed_at=clock.now() - 1800), clock.now() + 9999)
    assert closed is not None
    assert (closed.dollars, closed.per_hour) == (pytest.approx(0.2), 0.0)
    assert spent_on([], job, clock.now()) is None


def test_a_machine_of_unknown_price_is_counted_apart(far: Session, work: Work, clock: FakeClock) -> None:
    job = work.submit()
    machine = Machine(type="x", zone="y", spot=True)
    node = work.report_node(pool=job.pool, machine=machine)
    clock.advance(60)
    spent = spent_on([node], job, clock.now())
    assert spent is not None
    assert spent_text(spent) == "$0.00, besides 1 machine of unknown price"


def test_nodes_show_what_their_machines_are(far: Session, cloud: FakeCloud, work: Work, clock: FakeClock) -> None:
    pool = pool_of_request(far, private=False)
    ensure_nodes(far, pool, 1)
    view = NodesView(list_nodes(far), clock.now(), numbered=True)
    header, line = (line.split() for line in view.text())
    assert header[:6] == ["no", "name", "class", "machine", "zone", "$/hour"]
    assert line[2:7] == ["ec2", "m.small", "eu-1a", "0.2", "requested"]
    (record,) = view.json()["nodes"]
    assert {name: record[name] for name in ("class", "machine_type", "zone", "price_per_hour")} == {
        "class": "ec2",
        "machine_type": "m.small",
        "zone": "eu-1a",
        "price_per_hour": 0.2,
    }


def test_addresses_of_machines_are_written_as_they_become_known(
    far: Session, cloud: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of_request(far, private=False)
    one, two = ensure_nodes(far, pool, 2)
    seen: list[str] = []

    def later(seconds: float) -> None:
        """The cloud gives one more address whenever somebody waits."""
        seen.append((tmp_path / "hosts").read_text())
        for name in (one, two)[: len(seen)]:
            owner, observed = cloud.nodes[name]
            cloud.nodes[name] = owner, replace(observed, address=f"10.0.0.{name[-1]}")

    monkeypatch.setattr(far.queue, "wait", later)
    assert write_addresses(far, pool.id, (one, two), tmp_path / "hosts") == ()
    assert seen == ["", "10.0.0.1\n"]
    assert (tmp_path / "hosts").read_text() == "10.0.0.1\n10.0.0.2\n"
