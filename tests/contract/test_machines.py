"""Every cloud's machines, made as records: what can be had, launching, seeing, ending, and a cloud that misbehaves."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest

from kubeq.core.machines import Machines
from kubeq.core.model import NodeName, PoolId
from kubeq.core.resources import Resources
from kubeq.errors import AccessDenied, BackendError, UsageError
from kubeq.nodes.base import Launched, NodeProvider, Refused
from tests.contract.both_clouds import cloud
from tests.contract.machine_clouds import POOL, CloudRig, names, request

__all__ = ["cloud"]
PATIENCE_S = 60.0


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.05)


def alive(provider: NodeProvider, pool: PoolId = POOL) -> list[str]:
    return sorted(name for name, seen in provider.observe(pool).items() if seen.alive)


def launch(cloud: CloudRig, *numbers: int, machines: Machines | None = None) -> dict[NodeName, Launched | Refused]:
    return dict(cloud.provider().launch(request(machines or cloud.machines), names(*numbers)))


def test_what_is_offered_has_a_price_and_comes_cheapest_first_where_no_type_is_named(cloud: CloudRig) -> None:
    offers = cloud.provider().offers(replace(cloud.machines, types=()))
    assert offers[0].type.name == cloud.machines.types[0]
    known = [offer.price for offer in offers if offer.price is not None]
    assert known == sorted(known)
    assert cloud.launches() <= 1, "offers may try one launch, without making anything"
    assert cloud.standing() == []


def test_types_that_are_named_are_offered_in_their_order_in_the_zones_that_are_named(cloud: CloudRig) -> None:
    zones = tuple({offer.zone: None for offer in cloud.provider().offers(cloud.machines)})
    assert len(zones) == 3
    turned = replace(cloud.machines, types=cloud.machines.types[::-1], zones=zones[:2])
    offers = cloud.provider().offers(turned)
    assert [offer.type.name for offer in offers] == [name for name in turned.types for _ in turned.zones]
    assert {offer.zone for offer in offers} == set(turned.zones)


def test_spot_machines_are_offered_at_what_they_cost_now(cloud: CloudRig) -> None:
    plain = cloud.provider().offers(cloud.machines)
    spot = cloud.provider().offers(replace(cloud.machines, spot=True))
    assert all(offer.spot for offer in spot)
    assert 0 < (spot[0].price or 0) < (plain[0].price or 0)


def test_a_type_is_offered_only_if_a_task_fits_beside_the_system(cloud: CloudRig) -> None:
    types = {offer.type.name: offer.type.resources for offer in cloud.provider().offers(cloud.machines)}
    memory = types[cloud.machines.types[0]].memory
    assert memory is not None
    with pytest.raises(UsageError, match=f"{cloud.machines.types[0]} has "):
        cloud.provider().offers(replace(cloud.machines, need=Resources(cpu=1, memory=memory)))
    bigger = replace(cloud.machines, types=(), need=Resources(cpu=1, memory=memory))
    assert all((offer.type.resources.memory or 0) > memory for offer in cloud.provider().offers(bigger))


def test_whatever_is_wrong_is_said_before_anything_is_made(cloud: CloudRig) -> None:
    for wrong, (machines, said) in cloud.wrong().items():
        with pytest.raises(UsageError) as raised:
            cloud.provider().offers(machines)
        assert said in raised.value.message, wrong
        assert raised.value.hint, wrong
    with pytest.raises(UsageError):
        cloud.provider().launch(request(machines), names(1))
    assert cloud.launches() == 0


def test_who_may_not_make_machines_is_told_beforehand(cloud: CloudRig) -> None:
    cloud.deny_launches()
    with pytest.raises(AccessDenied):
        cloud.provider().offers(cloud.machines)
    with suppress(AccessDenied):  # either is told
        answers = launch(cloud, 1, 2)
        assert all(isinstance(answer, Refused) and "permit" in answer.reason for answer in answers.values())
    assert cloud.standing() == []


def test_launched_machines_are_seen_with_what_they_are(cloud: CloudRig) -> None:
    answers = launch(cloud, 1, 2, 3)
    provider = cloud.provider()
    seen = provider.observe(POOL)
    assert alive(provider) == cloud.standing() == sorted(answers)
    for name, answer in answers.items():
        assert isinstance(answer, Launched)
        assert answer.machine is not None
        assert answer.machine == seen[name].machine
        assert (answer.machine.type, answer.machine.spot) == (cloud.machines.types[0], False)
        assert answer.machine.price is not None
        assert abs((seen[name].made_at or 0) - time.time()) < 300
        assert seen[name].address
    assert provider.observe(PoolId("pool-other1")) == {}


def test_spot_machines_are_known_as_such(cloud: CloudRig) -> None:
    launch(cloud, 1, machines=replace(cloud.machines, spot=True))
    (seen,) = cloud.provider().observe(POOL).values()
    assert seen.machine is not None
    assert seen.machine.spot


def test_a_launch_of_names_that_live_makes_nothing_new(cloud: CloudRig) -> None:
    first = launch(cloud, 1, 2)
    again = launch(cloud, 1, 2, 3)
    assert all(again[name] == first[name] for name in first)
    assert cloud.standing() == sorted(again)
    assert cloud.launches() == 3


def test_a_launch_whose_answers_are_lost_makes_one_machine_a_name(cloud: CloudRig) -> None:
    cloud.lose_answers(2)
    answers = launch(cloud, 1, 2, 3)
    assert all(isinstance(answer, Launched) for answer in answers.values())
    assert cloud.standing() == sorted(answers)


def test_a_launch_after_one_that_no_list_shows_yet_makes_one_machine_a_name(cloud: CloudRig) -> None:
    cloud.hide_new(3600)
    first = launch(cloud, 1, 2)
    assert cloud.provider().observe(POOL) == {}
    assert launch(cloud, 1, 2) == first
    assert cloud.standing() == sorted(first)


def test_where_one_zone_has_no_room_another_is_tried(cloud: CloudRig) -> None:
    full = cloud.provider().offers(cloud.machines)[0].zone
    cloud.no_room(zone=full)
    answers = launch(cloud, 1, 2)
    for answer in answers.values():
        assert isinstance(answer, Launched)
        assert answer.machine is not None
        assert (answer.machine.type, answer.machine.zone != full) == (cloud.machines.types[0], True)
    assert cloud.standing() == sorted(answers)


def test_where_there_is_room_nowhere_it_is_said_after_a_bounded_number_of_requests(cloud: CloudRig) -> None:
    cloud.no_room()
    answers = launch(cloud, 1, 2)
    for answer in answers.values():
        assert isinstance(answer, Refused)
        assert cloud.machines.types[1] in answer.reason or cloud.machines.types[0] in answer.reason
    assert cloud.launches() <= 24
    assert cloud.standing() == []


def test_where_some_are_refused_the_others_come(cloud: CloudRig) -> None:
    said = cloud.refuse_launches(2)
    answers = launch(cloud, 1, 2, 3, 4)
    refused = [answer for answer in answers.values() if isinstance(answer, Refused)]
    assert len(refused) == 2
    assert all(said in answer.reason for answer in refused)
    assert cloud.standing() == sorted(name for name, answer in answers.items() if isinstance(answer, Launched))


def test_a_launch_that_is_throttled_comes_through(cloud: CloudRig) -> None:
    cloud.throttle(3)
    answers = launch(cloud, 1, 2)
    assert all(isinstance(answer, Launched) for answer in answers.values())
    assert cloud.standing() == sorted(answers)


def test_a_cloud_that_is_out_of_reach_is_said_to_be_and_nothing_is_lost(cloud: CloudRig) -> None:
    launch(cloud, 1)
    cloud.gone(True)
    provider = cloud.provider()
    with ThreadPoolExecutor() as threads:
        calls = (
            threads.submit(provider.observe, POOL),
            threads.submit(cloud.provider().launch, request(cloud.machines), names(2)),
            threads.submit(cloud.provider().terminate, list(names(1))),
        )
    for error in (call.exception() for call in calls):
        assert isinstance(error, BackendError)
        assert error.transient
        assert re.search("did not answer|connection to .* failed", error.message)
    cloud.gone(False)
    assert alive(cloud.provider()) == list(names(1))


def test_what_is_terminated_is_gone_and_once_more_does_no_harm(cloud: CloudRig) -> None:
    launch(cloud, 1, 2)
    provider = cloud.provider()
    provider.terminate([*names(1), NodeName("pool-nobody-7")])
    eventually(lambda: cloud.standing() == list(names(2)), "one machine is gone")
    provider.terminate(list(names(1)))
    gone = provider.observe(POOL).get(NodeName(f"{POOL}-1"))
    assert gone is None or (not gone.alive and not gone.preempted)
    assert alive(provider) == list(names(2))


def test_machines_that_were_just_made_are_ended_by_who_made_them_though_no_list_shows_them(cloud: CloudRig) -> None:
    cloud.hide_new(3600)
    provider = cloud.provider()
    provider.launch(request(cloud.machines), names(1, 2))
    provider.terminate(list(names(1, 2)))
    eventually(lambda: cloud.standing() == [], "both are gone")
    provider.terminate(list(names(1, 2)))


def test_a_machine_that_cannot_be_ended_while_it_comes_up_is_ended_then(cloud: CloudRig) -> None:
    cloud.slow(0.5)
    launch(cloud, 1, 2)
    cloud.provider().terminate(list(names(1, 2)))
    eventually(lambda: cloud.standing() == [], "both are gone")


def test_a_machine_that_was_taken_back_is_told_from_one_that_was_ended(cloud: CloudRig) -> None:
    launch(cloud, 1, 2, machines=replace(cloud.machines, spot=True))
    cloud.preempt(next(iter(names(1))))
    eventually(lambda: alive(cloud.provider()) == list(names(2)), "it is taken back")
    eventually(lambda: cloud.standing() == list(names(2)), "it costs nothing any more")
    seen = cloud.provider().observe(POOL)[NodeName(f"{POOL}-1")]
    assert (seen.alive, seen.preempted) == (False, True)
    assert seen.reason
    eventually(lambda: not cloud.provider().observe(POOL)[seen.name].ending, "its agent can say nothing any more")


def test_a_machine_that_fails_by_itself_is_dead_for_the_clouds_reason(cloud: CloudRig) -> None:
    cloud.failing()
    launch(cloud, 1)
    eventually(lambda: alive(cloud.provider()) == [], "it has failed")
    (seen,) = cloud.provider().observe(POOL).values()
    assert not seen.preempted
    assert seen.reason


def test_all_that_kubeq_made_is_listed_whose_it_is_and_what_it_costs(cloud: CloudRig) -> None:
    other = PoolId("pool-other1")
    launch(cloud, 1)
    cloud.provider().launch(request(cloud.machines, other), names(1, pool=other))
    cloud.add_stranger()
    owned = sorted(cloud.provider().owned(), key=lambda one: one.name)
    assert [(one.name, one.pool, one.owner) for one in owned] == [
        ("pool-ab12cd-1", POOL, "ada"),
        ("pool-other1-1", other, "ada"),
    ]
    assert all(one.machine.price and one.machine.id and one.state for one in owned)
    cloud.provider().terminate([one.name for one in owned])
    eventually(lambda: not cloud.provider().owned(), "nothing of kubeq's stands any more")


def test_no_console_of_a_machine_that_nobody_knows(cloud: CloudRig) -> None:
    assert cloud.provider().console(NodeName("pool-nobody-7")) is None


def test_nothing_of_a_pool_is_left_once_its_machines_are_gone_and_it_is_forgotten(cloud: CloudRig) -> None:
    provider = cloud.provider()
    provider.launch(request(replace(cloud.machines, ports=(7000, 7001))), names(1))
    provider.terminate(list(names(1)))
    eventually(lambda: cloud.standing() == [], "the machine is gone")
    provider.forget(POOL, 0.0)
    assert cloud.leftovers() == []
