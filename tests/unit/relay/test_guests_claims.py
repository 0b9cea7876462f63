"""What a node behind a relay may do with the queue, and above all what it may not, however it asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kubeq.core import wire
from kubeq.core.model import (
    Ending,
    Exit,
    NodeName,
    NodeOrder,
    NodeState,
    PoolId,
    Reason,
    Task,
    TaskState,
)
from kubeq.core.model import Node as NodeRecord
from kubeq.core.resources import Resources
from kubeq.core.transitions import Report
from kubeq.errors import AccessDenied, BackendError
from kubeq.queue.claims import Final, Grant, Room
from kubeq.queue.wire import Hold, encode_hold, encode_room, hold_of
from kubeq.relay.node_rows import CHECKS, KNOWN_BETTER
from kubeq.relay_wire import Token
from tests.relays import POOL
from tests.unit.relay.conftest import BIG, TERM_S, House, Node

OTHER = PoolId("other")


def succeeded(grant: Grant, at: float = 1e9) -> Final:
    return Final(grant=grant, ending=Ending.SUCCEEDED, report=Report(ended_at=at, exit=Exit(code=0)))


def report_of(**changes: Any) -> dict[str, Any]:
    return {**wire.encode_report(Report(ended_at=1.0, exit=Exit(code=0))), **changes}


def end_of(grant: Grant, ending: str = "succeeded", reason: str | None = None, **report: Any) -> dict[str, Any]:
    return {"hold": encode_hold(hold_of(grant)), "ending": ending, "reason": reason, "report": report_of(**report)}


def tasks(house: House, grant: Grant) -> list[Task]:
    return list(house.queue.tasks(grant.job.id))


# -- who comes --------------------------------------------------------------------------------------------------------


def test_nobody_comes_without_the_token_of_a_node(house: House) -> None:
    node = house.node("n1")
    for stranger in (
        Token(node.name, "0" * 64),
        Token(NodeName("n2"), node.token.secret),
        Token(NodeName("nobody"), "0" * 64),
    ):
        with pytest.raises(AccessDenied, match="does not know this node"):
            house.relay.client(stranger).call("peers", {"pool": POOL})


def test_a_name_that_leads_elsewhere_names_no_node(house: House) -> None:
    house.node("n1")
    for name in ("../guests/n1", "/etc/passwd", ".", "..", "n1/../n1", "", "n\0", "a" * 300):
        with pytest.raises((AccessDenied, BackendError, ValueError)):
            house.relay.client(Token(NodeName(name), "0" * 64)).call("peers", {"pool": POOL})


def test_a_node_that_was_let_go_is_a_stranger_from_then_on(house: House) -> None:
    node = house.node("n1")
    assert node.claims.peers(POOL) == []
    house.relay.admissions.revoke(node.name, now=2.0)
    with pytest.raises(AccessDenied, match="has let it go"):
        node.claims.peers(POOL)
    house.relay.admissions.revoke(node.name, now=3.0)
    house.relay.admissions.revoke(NodeName("unknown"), now=3.0)


def test_a_node_that_is_admitted_again_has_a_new_token_and_the_old_one_is_worth_nothing(house: House) -> None:
    old = house.node("n1")
    new = house.node("n1")
    assert new.claims.peers(POOL) == []
    with pytest.raises(AccessDenied):
        old.claims.peers(POOL)


def test_a_node_that_has_gone_is_let_go(house: House) -> None:
    node = house.node("n1")
    record = NodeRecord(
        name=node.name, pool=POOL, number=1, provider="x", state=NodeState.ACTIVE, host="h", requested_at=1.0
    )
    node.claims.report(record)
    node.claims.report(replace(record, state=NodeState.GONE))
    with pytest.raises(AccessDenied):
        node.claims.peers(POOL)


def test_the_token_is_in_no_text_and_only_its_hash_on_disk(house: House) -> None:
    node = house.node("n1")
    secret = node.token.secret
    assert secret not in repr(node.token)
    assert secret not in repr(house.relay.admissions.get(node.name))
    files = [path for path in house.relay.folder.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


# -- whose pool and whose name ----------------------------------------------------------------------------------------


def test_a_node_claims_in_its_own_pool_and_name_only(house: House) -> None:
    house.submit(1, pool=OTHER)
    node = house.node("n1")
    room = encode_room(Room(free=BIG, total=BIG, starts=1))
    for pool, name in ((OTHER, "n1"), (POOL, "n2")):
        with pytest.raises(AccessDenied, match="this token is node n1's"):
            node.ask("claim", life="x", pool=pool, node=name, room=room, holding=[])
    with pytest.raises(AccessDenied):
        node.claims.peers(OTHER)
    assert node.claim(5) == []


def test_a_node_writes_its_own_row_and_nothing_in_it_that_others_know_better(house: House) -> None:
    node = house.node("n1")
    house.node("n2").claims.report(record("n2"))
    with pytest.raises(AccessDenied):
        node.claims.report(record("n2"))
    with pytest.raises(AccessDenied):
        node.claims.report(replace(record("n1"), pool=OTHER))
    lied = replace(
        record("n1"),
        number=99,
        provider="ec2",
        seen_at=9e9,
        started_at=9e9,
        requested_at=9e9,
        order=NodeOrder.RELEASE,
    )
    written = node.claims.report(lied)
    now = house.clock.now()
    assert (written.number, written.provider, written.order) == (1, "test", None)
    assert (written.seen_at, written.started_at, written.requested_at) == (now, now, now)
    assert [peer.number for peer in house.queue.peers(POOL)] == [1, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "h" * 5000},
        {"host": "\ud800"},
        {"note": 7},
        {"pid": -1},
        {"total": {"cpu": float("inf"), "memory": None}},
        {"total": {"cpu": "many", "memory": None}},
        {"tasks": [["j", -1]]},
        {"tasks": [["j" * 500, 1]]},
        {"tasks": 7},
        {"requested_at": "yesterday"},
        {"state": "happy"},
        {"requested_at": float("nan")},
        {"requests": {"queue": {"claim": "many"}, "store": {}}},
        {"requests": {"queue": {"x" * 500: 1}, "store": {}}},
        {"requests": {"queue": {}, "store": {str(number): 1 for number in range(500)}}},
    ],
    ids=lambda wrong: str(wrong)[:60],
)
def test_a_row_that_makes_no_sense_is_not_written(house: House, wrong: dict[str, Any]) -> None:
    node = house.node("n1")
    row = json.loads(wire.encode_node(record("n1"))) | wrong
    with pytest.raises((ValueError, BackendError)):
        node.ask("report", node="n1", row=json.dumps(row))
    assert house.queue.peers(POOL) == []


def test_every_field_of_a_row_is_checked_or_known_better() -> None:
    assert set(CHECKS) | KNOWN_BETTER == set(NodeRecord.__slots__)
    assert not set(CHECKS) & KNOWN_BETTER


def record(name: str) -> NodeRecord:
    return NodeRecord(
        name=NodeName(name), pool=POOL, number=1, provider="x", state=NodeState.ACTIVE, host="h", requested_at=1.0
    )


# -- whose attempts ---------------------------------------------------------------------------------------------------

Deed = Callable[[Node, Grant], object]
DEEDS: dict[str, Deed] = {
    "renew": lambda node, grant: node.claims.renew([grant], [None]),
    "finish": lambda node, grant: node.claims.finish([succeeded(grant)]),
    "look": lambda node, grant: node.claims.look(record(node.name), [grant]),
    "claim": lambda node, grant: node.ask(
        "claim",
        life="x",
        pool=node.pool,
        node=node.name,
        room=encode_room(Room(free=BIG, total=BIG, starts=1)),
        holding=[encode_hold(hold_of(grant))],
    ),
}


@pytest.fixture(params=sorted(DEEDS))
def deed(request: pytest.FixtureRequest) -> Deed:
    return DEEDS[request.param]


def test_nothing_can_be_done_with_the_attempt_of_another_node(house: House, deed: Deed) -> None:
    house.submit(2)
    victim, thief = house.node("n1"), house.node("n2")
    (grant,) = victim.claim()
    thief.claim()
    before = tasks(house, grant)
    with pytest.raises(AccessDenied, match="was never granted to node n2"):
        deed(thief, grant)
    assert tasks(house, grant) == before


def test_nothing_can_be_done_with_an_attempt_that_another_node_had_before(house: House, deed: Deed) -> None:
    house.submit(1)
    first, second = house.node("n1"), house.node("n2")
    (old,) = first.claim()
    house.queue.reset(old.job, [1], force=True)
    (new,) = second.claim()
    with pytest.raises(AccessDenied):
        deed(second, old)
    with pytest.raises(AccessDenied):
        deed(first, new)
    assert tasks(house, new)[0].state is TaskState.CLAIMED


def test_a_mark_or_a_number_that_was_made_up_is_no_attempt(house: House, deed: Deed) -> None:
    house.submit(1)
    node = house.node("n1")
    (grant,) = node.claim()
    assert grant.task.current is not None
    for forged in (
        replace(grant.task.current, nonce="0" * 16),
        replace(grant.task.current, nonce=""),
        replace(grant.task.current, number=2),
        replace(grant.task.current, number=10**9),
    ):
        task = replace(grant.task, attempt=forged.number, attempts=(forged,))
        with pytest.raises(AccessDenied):
            deed(node, replace(grant, task=task))
    assert tasks(house, grant) == [grant.task]


def test_nothing_can_be_done_with_a_task_of_another_pool(house: House, deed: Deed) -> None:
    house.submit(1, pool=OTHER)
    (grant,) = house.node("n1", OTHER).claim()
    same_name = house.node("n1", POOL)
    with pytest.raises(AccessDenied, match="its job is none of pool p"):
        deed(same_name, grant)
    assert tasks(house, grant)[0].state is TaskState.CLAIMED


def test_a_task_is_changed_as_the_queue_knows_it_whatever_the_node_says_it_is(house: House) -> None:
    house.submit(1, retries=0)
    node = house.node("n1")
    (grant,) = node.claim()
    lie = replace(
        grant,
        job=replace(grant.job, policy=replace(grant.job.policy, lease_s=1e9, retries=1000)),
        task=replace(
            grant.task, values=("rm",), resources=Resources(cpu=0.0), failures=-5, losses=-5, cancel_asked=True
        ),
        version=77,
    )
    (renewed,) = node.claims.renew([lie], [None])
    assert renewed is not None
    assert renewed.task.values == ("0",)
    assert renewed.task.claimable_at == house.clock.now() + TERM_S
    failed = Final(grant=lie, ending=Ending.FAILED, reason=Reason.EXIT, report=Report(ended_at=1e9, exit=Exit(code=1)))
    (task,) = node.claims.finish([failed])
    assert task is not None
    assert (task.state, task.failures, task.losses, task.values) == (TaskState.FAILED, 1, 0, ("0",))


def test_the_times_of_an_attempt_lie_within_its_life(house: House) -> None:
    house.submit(3, retries=5)
    node = house.node("n1")
    grants = node.claim(3)
    house.clock.advance(10.0)
    now = house.clock.now()
    node.claims.renew(grants[:1], [9e9])
    assert tasks(house, grants[0])[0].attempts[-1].started_at == now
    late, early = (
        Final(grant=grant, ending=Ending.FAILED, reason=Reason.EXIT, report=Report(ended_at=at, started_at=at))
        for grant, at in zip(grants[1:], (9e12, 0.0), strict=True)
    )
    answers = node.claims.finish([late, early])
    assert [task.claimable_at for task in answers if task] == [now + 1.0, now - 9.0], "no back-off for ever"


@pytest.mark.parametrize(
    ("ending", "reason", "report"),
    [
        ("lost", None, {}),
        ("failed", None, {}),
        ("failed", "lost", {}),
        ("failed", "cancelled", {}),
        ("succeeded", "exit", {}),
        ("released", "exit", {}),
        ("happy", None, {}),
        ("failed", "boredom", {}),
        ("succeeded", None, {"ended_at": "now"}),
        ("succeeded", None, {"ended_at": float("inf")}),
        ("succeeded", None, {"ended_at": -1}),
        ("succeeded", None, {"outputs": -1}),
        ("succeeded", None, {"outputs": 1.5}),
        ("succeeded", None, {"exit": {"code": "0/failed"}}),
        ("succeeded", None, {"exit": {"signal": -9}}),
        ("succeeded", None, {"exit": {"out_of_memory": "perhaps"}}),
        ("succeeded", None, {"exit": []}),
        ("succeeded", None, {"usage": {"wall_s": "long"}}),
        ("succeeded", None, {"usage": {"peak_memory_bytes": 2.5}}),
        ("succeeded", None, {"message": "m" * 50_000}),
        ("succeeded", None, {"message": "\ud800"}),
        ("succeeded", None, {"message": 7}),
    ],
    ids=str,
)
def test_an_end_that_makes_no_sense_is_not_recorded(
    house: House, ending: str, reason: str | None, report: dict[str, Any]
) -> None:
    house.submit(1)
    node = house.node("n1")
    (grant,) = node.claim()
    with pytest.raises(ValueError, match=r"cannot be read|is not JSON"):
        node.ask("finish", ends=[end_of(grant, ending, reason, **report)])
    assert tasks(house, grant) == [grant.task]


def test_a_failure_is_never_a_cancel_that_nobody_asked_for(house: House) -> None:
    house.submit(1)
    node = house.node("n1")
    (grant,) = node.claim()
    (answer,) = node.ask("finish", ends=[end_of(grant, "cancelled", "cancelled")])["tasks"]
    assert answer is not None
    assert tasks(house, grant)[0].state is TaskState.PENDING, "given back"


def test_outcomes_of_the_dead_of_the_same_machine_are_told_by_the_next_node_there(house: House) -> None:
    house.submit(2)
    dead, elsewhere = house.node("n1", place="host-a"), house.node("n2", place="host-b")
    grants = dead.claim(2)
    house.relay.admissions.revoke(dead.name, now=1.0)
    with pytest.raises(AccessDenied):
        elsewhere.claims.finish([succeeded(grants[0])])
    heir = house.node("n3", place="host-a")
    with pytest.raises(AccessDenied):
        heir.claims.renew([grants[0]], [None])
    assert [task.state for task in heir.claims.finish([succeeded(grants[0])]) if task] == [TaskState.SUCCEEDED]
    other_pool = house.node("n4", OTHER, place="host-a")
    with pytest.raises(AccessDenied):
        other_pool.claims.finish([succeeded(grants[1])])


def test_a_hold_of_an_attempt_that_history_has_forgotten_is_superseded(house: House) -> None:
    house.submit(1)
    node = house.node("n1")
    first: Hold | None = None
    for _ in range(25):
        (grant,) = node.claim()
        first = first or hold_of(grant)
        node.claims.finish([Final(grant=grant, ending=Ending.RELEASED, report=Report(ended_at=1.0))])
    assert first is not None
    assert node.ask("renew", holding=[encode_hold(first)], started_at=[None])["grants"] == [None]


# -- what else there is -----------------------------------------------------------------------------------------------

PINNED = "python@sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", "evil@sha256:" + "a" * 64),
        ("image", "python:latest"),
        ("image", "python"),
        ("image", "not a name"),
        ("image", ""),
        ("image", "x" * 10_000),
        ("anything", PINNED),
    ],
)
def test_an_image_is_pinned_to_itself_only(house: House, name: str, value: str) -> None:
    job = house.submit(1, image="python:3.12")
    node = house.node("n1")
    node.claim()
    with pytest.raises((AccessDenied, BackendError)):
        node.claims.pin(job.id, name, value)
    assert node.claims.pin(job.id, "image", PINNED) == PINNED


def test_a_node_pins_nothing_for_a_job_of_which_it_holds_nothing(house: House) -> None:
    job, without = house.submit(1, image="python:3.12"), house.submit(1)
    victim, node = house.node("n1"), house.node("n2")
    victim.claim()
    with pytest.raises(AccessDenied, match="holds nothing of job"):
        node.claims.pin(job.id, "image", PINNED)
    node.claim()
    with pytest.raises(AccessDenied, match="nothing of that name"):
        node.claims.pin(without.id, "image", PINNED)
    assert house.queue.pinned_image(job.id) is None


def test_a_claim_for_more_than_anybody_can_run_is_cut_down(house: House) -> None:
    house.submit(3)
    node = house.node("n1")
    huge = Room(free=Resources(cpu=1e9), total=Resources(cpu=1e9), starts=10**15, ahead=10**15, pool_slots=10**15)
    claimed = node.claims.claim(POOL, node.name, huge)
    assert len(claimed.grants) == 3


@pytest.mark.parametrize(
    "room",
    [
        {"starts": -1},
        {"starts": "many"},
        {"ahead": 1.5},
        {"pool_slots": -1},
        {"free": {"cpu": float("nan"), "memory": None}},
        {"free": {"cpu": -1, "memory": None}},
        {"free": None},
    ],
    ids=str,
)
def test_a_claim_that_makes_no_sense_claims_nothing(house: House, room: dict[str, Any]) -> None:
    job = house.submit(1)
    node = house.node("n1")
    plain = encode_room(Room(free=BIG, total=BIG, starts=1))
    with pytest.raises((ValueError, BackendError)):
        node.ask("claim", life="x", pool=POOL, node="n1", room={**plain, **room}, holding=[])
    assert house.queue.tasks_at(job.id, [1])[0].state is TaskState.PENDING
