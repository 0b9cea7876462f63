"""Machines of Compute Engine: what is offered, how they are made, seen and ended, and what Google may do to that.

Over its stand-in without machines behind the records; what a machine does at its boot is in tests/e2e.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubeq.core.digest import Digest
from kubeq.core.machines import Machines, Volume
from kubeq.core.model import Node, NodeName, NodeState, PoolId
from kubeq.core.resources import Resources
from kubeq.errors import AccessDenied, BackendError, KubeqError, NotFound, UsageError
from kubeq.nodes.archive import Archive
from kubeq.nodes.base import Launched, NodeRequest, Refused
from kubeq.nodes.forms import StoredAgent
from kubeq.nodes.gce import GceProvider, GceSettings
from kubeq.nodes.gce_api import Patience
from kubeq.nodes.ssh_keys import pool_key
from tests.stand_ins.gce import FakeGce, Fault
from tests.stand_ins.gce_catalogue import ACCOUNT, PROJECT, REGION, ZONES

POOL = PoolId("0a1b2c3d4e5f")
ONE, TWO, THREE = (NodeName(f"{POOL}-{number}") for number in (1, 2, 3))
GIB = 2**30
PLAIN = Machines(region=REGION, types=("e2-standard-2",), zones=ZONES[:2], labels=(("team", "red"),))
PRICES = {"e2-standard-2": 0.08, "e2-standard-4": 0.16, "n1-standard-4": 0.2, "nvidia-tesla-t4": 0.35}


class Clock:
    """Time that passes only when somebody sleeps, who then does what the test has planned."""

    def __init__(self) -> None:
        self.time = 0.0
        self.meanwhile: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        self.time += max(seconds, 0.5)
        self.meanwhile()

    def patience(self) -> Patience:
        return Patience(sleep=self.sleep, now=lambda: self.time, draw=lambda: 1.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider(gce: FakeGce, clock: Clock, tmp_path: Path, only_here: list[Any]) -> GceProvider:
    return make(tmp_path, clock)


def make(folder: Path, clock: Clock, **settings: Any) -> GceProvider:
    def price(provider: str, kind: str, region: str, spot: bool) -> float | None:
        assert (provider, region) == ("gce", REGION)
        known = PRICES.get(kind)
        return known and known * (0.25 if spot else 1)

    return GceProvider(GceSettings(state_dir=folder, **settings), price, clock.patience())


@pytest.fixture
def only_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Fails the test if anybody connects to, or asks for the address of, another machine."""
    elsewhere: list[Any] = []
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def connecting(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith("127."):
            elsewhere.append(address)
        connect(self, address)

    def resolving(host: Any, *more: Any, **named: Any) -> Any:
        if host not in ("127.0.0.1", b"127.0.0.1", "localhost"):
            elsewhere.append(host)
            raise OSError(f"{host} is not to be asked for")
        return resolve(host, *more, **named)

    monkeypatch.setattr(socket.socket, "connect", connecting)
    monkeypatch.setattr(socket, "getaddrinfo", resolving)
    yield elsewhere
    assert elsewhere == []


def request_for(folder: Path, machines: Machines = PLAIN, **changes: Any) -> NodeRequest:
    digest = Digest(sha256="ab" * 32, size=1000)
    archive = Archive(path=folder / "agent", digest=digest, release="0.0.1", python=9)
    plain = NodeRequest(
        pool=POOL,
        queue_url=f"datastore://{PROJECT}",
        store_url="gs://bucket/prefix",
        blobs_url="gs://bucket/prefix",
        state_dir=folder,
        cache_dir=folder,
        linger_s=60,
        linger_others_s=60,
        poll_s=3,
        machines=machines,
        agent=StoredAgent(url="gs://bucket/agent", digest=digest, extras=("gcp",), archive=archive),
        owner="Ada@example.org",
        key="ssh-ed25519 AAAA",
    )
    return replace(plain, **changes)


def body_of(gce: FakeGce, name: NodeName) -> Mapping[str, Any]:
    """What was asked for, the last time, for that node."""
    return next(one.body for one in gce.asked[::-1] if one.body.get("name") == f"kubeq-{name}")


def metadata_of(gce: FakeGce, name: NodeName) -> dict[str, str]:
    return {item["key"]: item["value"] for item in body_of(gce, name)["metadata"]["items"]}


def live(provider: GceProvider) -> set[NodeName]:
    return {name for name, seen in provider.observe(POOL).items() if seen.alive}


# -- what is offered --------------------------------------------------------------------------------------------------


def test_offers_are_the_types_that_fit_cheapest_first_in_all_zones(provider: GceProvider, gce: FakeGce) -> None:
    gce.catalogue.without[ZONES[1]] = {"e2-standard-4"}
    offers = provider.offers(Machines(region=REGION, need=Resources(cpu=2, memory=10 * GIB)))
    assert [(offer.type.name, offer.zone, offer.price) for offer in offers[:3]] == [
        ("e2-standard-4", ZONES[0], 0.16),
        ("e2-standard-4", ZONES[2], 0.16),
        ("n1-standard-4", ZONES[0], 0.2),
    ]
    names = {offer.type.name for offer in offers}
    assert names == {"e2-standard-4", "n1-standard-4", "n2-standard-8"}, "no GPU, no shared core, no other architecture"
    assert offers[-1].price is None, "what has no price comes last"
    assert len(gce.asked) <= 7 + 3 + 1
    provider.offers(Machines(region=REGION, need=Resources(cpu=2, memory=10 * GIB)))
    assert gce.calls["machineTypes.list"] == 3, "what was found is kept"


def test_a_machine_does_not_fit_if_only_its_whole_memory_would(provider: GceProvider) -> None:
    with pytest.raises(UsageError, match=r"memory=8.1GB for tasks, and cpu=1,memory=8.6GB is asked for"):
        provider.offers(replace(PLAIN, need=Resources(cpu=1, memory=8 * GIB)))


def test_gpus_are_built_in_or_attached(provider: GceProvider, gce: FakeGce) -> None:
    wanted = Machines(region=REGION, gpus=1, image="with-driver")
    assert {offer.type.name for offer in provider.offers(wanted)} == {"g2-standard-4"}
    attached = provider.offers(replace(wanted, gpus=2, gpu="nvidia-tesla-t4", spot=True))
    assert {(offer.type.name, offer.type.gpus) for offer in attached} == {("n1-standard-4", 2)}
    assert attached[0].price == pytest.approx((0.2 + 2 * 0.35) / 4)


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        ({"region": "mars-1"}, UsageError, "no region 'mars-1'"),
        ({"zones": ("us-central1-a",)}, UsageError, f"the region {REGION} has no zone 'us-central1-a'"),
        ({"types": ("e9-huge",)}, UsageError, "no machine type 'e9-huge' in"),
        ({"types": ("e2-standard-2",), "gpus": 1, "image": "mine"}, UsageError, "e2-standard-2 has no GPUs, and 1"),
        ({"types": ("g2-standard-4",), "gpus": 1, "gpu": "nvidia-a100", "image": "mine"}, UsageError, "nvidia-l4"),
        ({"types": ("n1-standard-4",), "gpus": 1, "image": "mine"}, UsageError, "name their kind too"),
        ({"types": ("g2-standard-4",), "gpus": 1}, UsageError, "from an image with the GPU's driver"),
        ({"types": (), "need": Resources(cpu=500)}, UsageError, "no machine type in .* has cpu=500 for a task"),
        ({"image": "nothing"}, UsageError, f"no image 'nothing' in the project {PROJECT}"),
        ({"image": "family/nothing"}, UsageError, "no image family 'nothing'"),
        ({"types": ("c4a-standard-4",), "image": "mine"}, UsageError, "image mine is for X86_64"),
        ({"image": "office"}, UsageError, "the image office is for Windows, so its machines would never become nodes"),
        ({"image": "fedora-coreos-44"}, UsageError, "runs no script at its first boot"),
        ({"image": "mine", "disk": 5 * GIB}, UsageError, "too small for the image mine"),
        ({"network": "nothing"}, UsageError, "no network 'nothing'"),
        ({"subnets": ("nothing",)}, UsageError, f"no subnet 'nothing' in {REGION}"),
        ({"subnets": ("small", "default")}, UsageError, "a subnet of Google is in all zones"),
        ({"identity": "nobody@test-project.iam.gserviceaccount.com"}, UsageError, "no service account nobody@"),
        ({"identity": "ada@example.org"}, UsageError, "not the address of a service account"),
        ({"labels": (("Team", "red"),)}, UsageError, "no label Team=red"),
        ({"tags": ("No_Tag",)}, UsageError, "no network tag"),
        ({"lifetime_s": 1e9}, UsageError, "30 seconds to 120 days"),
        ({"volumes": (Volume(path="/x", size=375 * GIB, kind="local-ssd"),)}, UsageError, "a local SSD is no volume"),
        ({"disk_kind": "gp3"}, UsageError, "no disks of the type 'gp3'"),
    ],
)
def test_what_there_is_not_is_said_before_anything_is_launched(
    provider: GceProvider, gce: FakeGce, tmp_path: Path, wrong: dict[str, Any], error: type[KubeqError], told: str
) -> None:
    machines = replace(PLAIN, zones=(), **wrong) if "zones" not in wrong else replace(PLAIN, **wrong)
    with pytest.raises(error, match=told) as raised:
        provider.launch(request_for(tmp_path, machines), {ONE: 1})
    assert raised.value.hint
    assert gce.instances.by_name == {}
    assert gce.instances.rules == {}


def test_a_project_that_there_is_not_is_said(tmp_path: Path, gce: FakeGce, clock: Clock) -> None:
    with pytest.raises(UsageError, match="no project 'elsewhere'"):
        make(tmp_path, clock, project="elsewhere").offers(PLAIN)


def test_without_a_project_nothing_can_be_made(
    tmp_path: Path, gce: FakeGce, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    with pytest.raises(UsageError, match="in which project"):
        make(tmp_path, clock).offers(PLAIN)


def test_a_project_without_an_account_of_its_own_needs_one_that_is_named(provider: GceProvider, gce: FakeGce) -> None:
    gce.catalogue.default_account = ""
    with pytest.raises(UsageError, match=f"the project {PROJECT} has no default service account, and no other is"):
        provider.offers(PLAIN)
    assert provider.offers(replace(PLAIN, identity=ACCOUNT))


@pytest.mark.parametrize("identity", [None, ACCOUNT])
def test_who_may_not_hand_an_account_on_is_told_beforehand(
    provider: GceProvider, gce: FakeGce, identity: str | None
) -> None:
    gce.catalogue.denied.add("iam.serviceAccounts.actAs")
    account = identity or gce.catalogue.default_account
    with pytest.raises(AccessDenied, match=f"not permitted to have machines act as {account}: iam.serviceAccounts.act"):
        provider.offers(replace(PLAIN, identity=identity))


def test_an_account_that_may_not_be_read_is_left_to_google(provider: GceProvider, gce: FakeGce) -> None:
    gce.catalogue.may_read_accounts = False
    assert provider.offers(replace(PLAIN, identity=ACCOUNT))


@pytest.mark.parametrize("spot", [False, True])
def test_a_quota_of_zero_is_said_before_anything_is_launched(provider: GceProvider, gce: FakeGce, spot: bool) -> None:
    gce.catalogue.limits["CPUS"] = 0.0
    with pytest.raises(AccessDenied, match=f"the quota CPUS in {REGION} leaves 0 of 0, and a machine .* needs 2"):
        provider.offers(replace(PLAIN, spot=spot))


def test_a_quota_of_its_own_counts_for_spot_and_one_for_all_regions_for_everybody(
    provider: GceProvider, gce: FakeGce
) -> None:
    gce.catalogue.limits |= {"CPUS": 0.0, "PREEMPTIBLE_CPUS": 8.0}
    assert provider.offers(replace(PLAIN, spot=True))
    gce.catalogue.limits_everywhere["CPUS_ALL_REGIONS"] = 1.0
    with pytest.raises(AccessDenied, match="CPUS_ALL_REGIONS in all regions together"):
        provider.offers(replace(PLAIN, spot=True, labels=()))


# -- launching --------------------------------------------------------------------------------------------------------


def test_each_name_becomes_one_instance_however_often_it_is_launched(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    request = request_for(tmp_path)
    first = provider.launch(request, {ONE: 1, TWO: 2})
    assert {type(answer) for answer in first.values()} == {Launched}
    again = provider.launch(request, {ONE: 1, TWO: 2, THREE: 3})
    assert again[ONE] == first[ONE]
    assert live(provider) == {ONE, TWO, THREE}
    assert gce.calls["instances.insert"] == gce.instances.made == 3


def test_an_instance_is_what_was_asked_for_and_ends_by_itself(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    machines = replace(
        PLAIN,
        spot=True,
        lifetime_s=7200.0,
        image="mine",
        disk=50 * GIB,
        disk_kind="pd-ssd",
        volumes=(Volume(path="/scratch", size=100 * GIB),),
        network="other",
        subnets=("small",),
        tags=("web",),
        identity=ACCOUNT,
    )
    launched = provider.launch(request_for(tmp_path, machines), {ONE: 1})[ONE]
    assert isinstance(launched, Launched)
    assert launched.machine is not None
    assert (launched.machine.zone, launched.machine.spot, launched.machine.price) == (ZONES[0], True, 0.02)
    body = body_of(gce, ONE)
    assert body["scheduling"] == {
        "automaticRestart": False,
        "instanceTerminationAction": "DELETE",
        "maxRunDuration": {"seconds": "7200"},
        "onHostMaintenance": "TERMINATE",
        "provisioningModel": "SPOT",
    }
    assert body["machineType"] == f"zones/{ZONES[0]}/machineTypes/e2-standard-2"
    assert {key: body["labels"][key] for key in ("kubeq-pool", "kubeq-node", "kubeq-owner", "team")} == {
        "kubeq-pool": POOL,
        "kubeq-node": ONE,
        "kubeq-owner": "ada-example-org",
        "team": "red",
    }
    boot, volume = body["disks"]
    assert boot["boot"] and boot["autoDelete"] and volume["autoDelete"], "no disk is left behind"
    assert boot["initializeParams"]["sourceImage"] == f"projects/{PROJECT}/global/images/mine"
    assert (boot["initializeParams"]["diskSizeGb"], boot["initializeParams"]["diskType"][-6:]) == ("50", "pd-ssd")
    assert (volume["deviceName"], volume["initializeParams"]["diskSizeGb"]) == ("kubeq-1", "100")
    assert body["networkInterfaces"][0]["subnetwork"].endswith(f"{REGION}/subnetworks/small")
    assert body["tags"]["items"] == [f"kubeq-{POOL}", "web"]
    assert body["serviceAccounts"][0]["email"] == ACCOUNT


def test_one_that_is_not_spot_is_deleted_by_google_too(provider: GceProvider, gce: FakeGce, tmp_path: Path) -> None:
    provider.launch(request_for(tmp_path), {ONE: 1})
    scheduling = body_of(gce, ONE)["scheduling"]
    assert (scheduling["provisioningModel"], scheduling["instanceTerminationAction"]) == ("STANDARD", "DELETE")
    assert scheduling["automaticRestart"] is False
    assert "onHostMaintenance" not in scheduling, "it may be moved"


def test_the_text_holds_no_credential_deletes_the_machine_and_is_a_shell_script(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    provider.launch(request_for(tmp_path), {ONE: 1})
    metadata = metadata_of(gce, ONE)
    text = metadata["startup-script"]
    assert text.startswith("#!/bin/sh\n")
    assert f"-X DELETE -H @- {gce.url}/compute/v1/projects/{PROJECT}/zones/{ZONES[0]}/instances/kubeq-{ONE}" in text
    assert "poweroff" in text
    assert "halt" not in text.split()
    checked = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert metadata["ssh-keys"] == "kubeq:ssh-ed25519 AAAA kubeq"
    assert metadata["block-project-ssh-keys"] == "true"
    assert len(text) < 256 * 1024, "https://cloud.google.com/compute/docs/metadata/setting-custom-metadata#limitations"


def test_ports_are_open_among_the_machines_of_the_pool_only_until_it_is_forgotten(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    request = request_for(tmp_path, replace(PLAIN, ports=(8080, 9000)))
    provider.launch(request, {ONE: 1})
    provider.launch(request, {TWO: 2})
    (rule,) = gce.instances.rules.values()
    assert rule["sourceTags"] == rule["targetTags"] == [f"kubeq-{POOL}"]
    assert "sourceRanges" not in rule
    assert rule["allowed"][0] == {"IPProtocol": "tcp", "ports": ["8080", "9000"]}
    provider.forget(POOL, 0)
    assert gce.instances.rules == {}
    provider.forget(POOL, 0)


def test_ports_are_opened_in_the_network_of_the_subnet_that_is_named(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    provider.launch(request_for(tmp_path, replace(PLAIN, ports=(8080,), subnets=("small",))), {ONE: 1})
    (rule,) = gce.instances.rules.values()
    assert rule["network"] == f"projects/{PROJECT}/global/networks/small"


def test_machines_of_a_private_pool_have_no_address_outside(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    provider.launch(request_for(tmp_path, replace(PLAIN, private=True)), {ONE: 1})
    assert "accessConfigs" not in body_of(gce, ONE)["networkInterfaces"][0]


# -- what may go wrong ------------------------------------------------------------------------------------------------


def test_where_there_is_no_room_the_next_offer_is_tried(provider: GceProvider, gce: FakeGce, tmp_path: Path) -> None:
    gce.instances.exhausted = {ZONES[0], f"{ZONES[1]}/e2-standard-2"}
    request = request_for(tmp_path, replace(PLAIN, types=("e2-standard-2", "e2-standard-4")))
    answers = provider.launch(request, {ONE: 1, TWO: 2, THREE: 3})
    for answer in answers.values():
        assert isinstance(answer, Launched)
        assert answer.machine is not None
        assert (answer.machine.type, answer.machine.zone) == ("e2-standard-4", ZONES[1])
    assert gce.instances.made == 3
    assert gce.calls["instances.insert"] <= 4 * 3


def test_no_room_anywhere_is_said_in_googles_words_after_a_bounded_number_of_tries(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    gce.instances.exhausted = set(ZONES)
    answer = provider.launch(request_for(tmp_path, Machines(region=REGION)), {ONE: 1})[ONE]
    assert isinstance(answer, Refused)
    assert "does not have enough resources available" in answer.reason
    assert "ZONE_RESOURCE_POOL_EXHAUSTED" in answer.reason
    assert gce.calls["instances.insert"] <= 24
    assert gce.instances.by_name == {}


def test_half_of_the_machines_come_when_the_quota_is_for_half(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    gce.catalogue.limits["CPUS"] = 4.0
    names = {NodeName(f"{POOL}-{number}"): number for number in range(1, 5)}
    answers = provider.launch(request_for(tmp_path), names)
    refused = [answer for answer in answers.values() if isinstance(answer, Refused)]
    assert len(refused) == gce.instances.made == 2
    assert "Quota 'CPUS' exceeded" in refused[0].reason


def test_want_of_room_that_shows_late_is_noticed(
    provider: GceProvider, gce: FakeGce, clock: Clock, tmp_path: Path
) -> None:
    gce.instances.late = 3
    gce.instances.exhausted = {ZONES[0]}
    answer = provider.launch(request_for(tmp_path), {ONE: 1})[ONE]
    assert isinstance(answer, Launched)
    assert answer.machine is not None
    assert answer.machine.zone == ZONES[1]


def test_many_that_take_long_to_come_are_asked_for_side_by_side_and_not_waited_for(
    provider: GceProvider, gce: FakeGce, clock: Clock, tmp_path: Path
) -> None:
    gce.instances.boot_s = 3600.0
    names = {NodeName(f"{POOL}-{number}"): number for number in range(1, 31)}
    answers = provider.launch(request_for(tmp_path), names)
    assert {type(answer) for answer in answers.values()} == {Launched}
    assert clock.time <= 40, "half a minute for all together"
    assert live(provider) == set(names)


def test_where_there_is_no_room_for_many_few_of_them_try_everything(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    gce.instances.exhausted = set(ZONES)
    names = {NodeName(f"{POOL}-{number}"): number for number in range(1, 31)}
    answers = provider.launch(request_for(tmp_path, Machines(region=REGION)), names)
    assert all("not have enough" in answer.reason for answer in answers.values() if isinstance(answer, Refused))
    assert gce.calls["instances.insert"] <= 30 + 24
    gce.instances.exhausted = {ZONES[0], ZONES[1]}
    others = {NodeName(f"{POOL}-{number}"): number for number in range(31, 61)}
    answers = provider.launch(request_for(tmp_path, Machines(region=REGION)), others)
    assert {type(answer) for answer in answers.values()} == {Launched}


def test_a_launch_of_which_nothing_can_be_learnt_gives_no_machine_up(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    gce.instances.boot_s = 3600.0
    gce.faults = [Fault(method="zoneOperations.get", status=400, reason="invalid", times=1000)]
    assert isinstance(provider.launch(request_for(tmp_path), {ONE: 1})[ONE], Launched)
    assert live(provider) == {ONE}


@pytest.mark.parametrize("reason", ["rateLimitExceeded", "backendError"])
def test_a_request_that_fails_for_a_moment_is_made_again(
    provider: GceProvider, gce: FakeGce, tmp_path: Path, reason: str
) -> None:
    status = 403 if reason == "rateLimitExceeded" else 503
    gce.faults = [Fault(method=".*", status=status, reason=reason, times=6)]
    assert isinstance(provider.launch(request_for(tmp_path), {ONE: 1})[ONE], Launched)
    assert gce.instances.made == 1


def test_an_insert_whose_answer_is_lost_makes_one_machine(provider: GceProvider, gce: FakeGce, tmp_path: Path) -> None:
    gce.faults = [Fault(method="instances.insert", applied=True)]
    assert isinstance(provider.launch(request_for(tmp_path), {ONE: 1})[ONE], Launched)
    assert (gce.instances.made, gce.calls["instances.insert"]) == (1, 2)


def test_two_who_launch_the_same_name_get_the_same_machine(
    provider: GceProvider, gce: FakeGce, clock: Clock, tmp_path: Path
) -> None:
    gce.instances.freeze()  # what the other one makes is not in the lists yet
    first = provider.launch(request_for(tmp_path), {ONE: 1})[ONE]
    gce.instances.requests.clear()  # nor is it the same request
    second = make(tmp_path, clock).launch(request_for(tmp_path), {ONE: 1})[ONE]
    assert isinstance(first, Launched)
    assert isinstance(second, Launched)
    assert first.machine == second.machine
    assert gce.instances.made == 1


def test_a_name_that_is_somebody_elses_is_left_alone(provider: GceProvider, gce: FakeGce, tmp_path: Path) -> None:
    provider.launch(request_for(tmp_path), {ONE: 1})
    gce.instances.by_name[ZONES[0], f"kubeq-{ONE}"]["labels"] = {}
    gce.instances.requests.clear()
    answer = provider.launch(request_for(tmp_path), {ONE: 1})[ONE]
    assert isinstance(answer, Refused)
    assert "is taken in" in answer.reason


def test_what_google_does_not_take_is_told_and_not_tried_elsewhere(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    provider.offers(replace(PLAIN, identity=ACCOUNT))
    gce.catalogue.accounts.clear()  # somebody has removed it since
    answer = provider.launch(request_for(tmp_path, replace(PLAIN, identity=ACCOUNT)), {ONE: 1})[ONE]
    assert isinstance(answer, Refused)
    assert "of type 'serviceAccount' was not found" in answer.reason
    assert gce.calls["instances.insert"] == 1


def test_while_nobody_answers_a_command_ends_with_a_sentence(
    provider: GceProvider, gce: FakeGce, clock: Clock, tmp_path: Path
) -> None:
    provider.launch(request_for(tmp_path), {ONE: 1})
    gce.gone = True
    for call in (lambda: provider.observe(POOL), lambda: provider.terminate([ONE]), lambda: provider.owned()):
        began = clock.time
        with pytest.raises(BackendError, match="could not list the instances: the connection to Google Cloud failed"):
            call()
        assert clock.time - began < 180
    gce.gone = False
    provider.terminate([ONE])
    assert gce.instances.by_name == {}


def test_an_api_that_is_back_after_a_minute_was_only_slow(
    provider: GceProvider, gce: FakeGce, clock: Clock, tmp_path: Path
) -> None:
    provider.launch(request_for(tmp_path), {ONE: 1})
    gce.gone, began = True, clock.time

    def meanwhile() -> None:
        gce.gone = clock.time - began < 60

    clock.meanwhile = meanwhile
    assert live(provider) == {ONE}


# -- what is seen -----------------------------------------------------------------------------------------------------


def test_a_machine_with_gpus_costs_what_it_was_offered_for(provider: GceProvider, gce: FakeGce, tmp_path: Path) -> None:
    wanted = Machines(region=REGION, gpus=2, gpu="nvidia-tesla-t4", image="with-driver")
    launched = provider.launch(request_for(tmp_path, wanted), {ONE: 1})[ONE]
    seen = provider.observe(POOL)[ONE]
    assert isinstance(launched, Launched)
    assert launched.machine == seen.machine
    assert launched.machine is not None
    assert launched.machine.price == pytest.approx(0.2 + 2 * 0.35)
    assert body_of(gce, ONE)["guestAccelerators"][0]["acceleratorCount"] == 2


def test_observe_tells_of_each_what_it_is(provider: GceProvider, gce: FakeGce, tmp_path: Path) -> None:
    before = time.time()
    launched = provider.launch(request_for(tmp_path), {ONE: 1})[ONE]
    gce.asked.clear()
    seen = provider.observe(POOL)[ONE]
    assert isinstance(launched, Launched)
    assert seen.alive
    assert seen.made_at is not None
    assert abs(seen.made_at - before) < 60
    assert seen.machine is not None
    assert launched.machine is not None
    assert (seen.machine.type, seen.machine.zone, seen.machine.price) == ("e2-standard-2", ZONES[0], 0.08)
    assert provider.observe(PoolId("ffffffffffff")) == {}
    assert gce.calls == {"instances.aggregatedList": 2, "globalOperations.aggregatedList": 2}


def test_many_machines_come_in_pages(provider: GceProvider, gce: FakeGce, tmp_path: Path) -> None:
    provider.launch(request_for(tmp_path), {ONE: 1})
    (kept,) = gce.instances.by_name.values()
    for number in range(2, 503):
        name = f"kubeq-{POOL}-{number}"
        gce.instances.by_name[ZONES[0], name] = {**kept, "name": name}
    gce.asked.clear()
    assert len(live(provider)) == 502
    assert gce.calls["instances.aggregatedList"] == 2


def test_a_machine_that_was_taken_back_is_told_apart(provider: GceProvider, gce: FakeGce, tmp_path: Path) -> None:
    provider.launch(request_for(tmp_path, replace(PLAIN, spot=True)), {ONE: 1, TWO: 2})
    gce.instances.preempt(f"kubeq-{ONE}")
    seen = provider.observe(POOL)
    assert (seen[ONE].alive, seen[ONE].preempted) == (False, True)
    assert "took the machine back" in str(seen[ONE].reason)
    assert (seen[TWO].alive, seen[TWO].preempted) == (True, False)


def test_one_for_which_there_is_no_room_after_all_is_dead_for_that_reason(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    gce.instances.exhausted, gce.instances.late = set(ZONES), 10_000
    assert isinstance(provider.launch(request_for(tmp_path), {ONE: 1})[ONE], Launched)
    assert provider.observe(POOL) == {}, "nothing is known yet"
    (operation,) = gce.instances.operations.values()
    operation.update(operation["_then"])
    seen = provider.observe(POOL)[ONE]
    assert (seen.alive, seen.preempted) == (False, False)
    assert "not have enough resources available (ZONE_RESOURCE_POOL_EXHAUSTED)" in str(seen.reason)


def test_one_that_came_where_there_was_room_is_not_mourned_where_there_was_none(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    gce.instances.exhausted = {ZONES[0]}
    provider.launch(request_for(tmp_path), {ONE: 1})
    assert live(provider) == {ONE}
    provider.terminate([ONE])
    assert provider.observe(POOL) == {}


def test_one_that_switched_itself_off_is_dead_and_removed_after_a_while(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    provider.launch(request_for(tmp_path), {ONE: 1})
    gce.instances.switch_off(f"kubeq-{ONE}")
    seen = provider.observe(POOL)[ONE]
    assert (seen.alive, seen.preempted, seen.reason) == (False, False, "the instance is terminated")
    assert gce.instances.by_name, "its console may be wanted"
    gce.instances.by_name[ZONES[0], f"kubeq-{ONE}"]["lastStopTimestamp"] = "2026-01-01T00:00:00.000-08:00"
    provider.observe(POOL)
    assert gce.instances.by_name == {}


def test_a_zone_that_does_not_tell_makes_no_machine_disappear(
    provider: GceProvider, gce: FakeGce, clock: Clock, tmp_path: Path
) -> None:
    provider.launch(request_for(tmp_path), {ONE: 1})
    gce.instances.unreachable = {ZONES[0]}
    with pytest.raises(BackendError, match=f"Google does not know about {ZONES[0]}"):
        provider.observe(POOL)


def test_owned_lists_what_stands_of_all_pools_and_nothing_else(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    provider.launch(request_for(tmp_path), {ONE: 1})
    other = PoolId("111111111111")
    provider.launch(request_for(tmp_path, pool=other, owner="bob"), {NodeName(f"{other}-1"): 1})
    gce.instances.switch_off(f"kubeq-{ONE}")
    (somebodys,) = [dict(gce.instances.by_name[ZONES[0], f"kubeq-{ONE}"], name="web", labels={"kubeq": "no"})]
    gce.instances.by_name[ZONES[0], "web"] = somebodys
    owned = {one.name: (one.pool, one.owner, one.state) for one in provider.owned()}
    assert owned == {
        ONE: (POOL, "Ada@example.org", "terminated"),
        NodeName(f"{other}-1"): (other, "bob", "running"),
    }


def test_a_machine_ends_when_its_time_is_over(provider: GceProvider, gce: FakeGce, tmp_path: Path) -> None:
    provider.launch(request_for(tmp_path, replace(PLAIN, lifetime_s=30.0)), {ONE: 1})
    gce.instances.by_name[ZONES[0], f"kubeq-{ONE}"]["_began"] -= 31
    assert live(provider) == set()
    assert gce.instances.by_name == {}


# -- ending and reaching ----------------------------------------------------------------------------------------------


def test_terminate_deletes_and_knows_no_unknown(provider: GceProvider, gce: FakeGce, tmp_path: Path) -> None:
    provider.launch(request_for(tmp_path), {ONE: 1, TWO: 2})
    provider.terminate([ONE, NodeName(f"{POOL}-99"), NodeName("222222222222-1")])
    assert live(provider) == {TWO}
    provider.terminate([ONE])


def test_a_machine_that_is_not_ready_to_be_ended_is_asked_again(
    provider: GceProvider, gce: FakeGce, clock: Clock, tmp_path: Path
) -> None:
    provider.launch(request_for(tmp_path), {ONE: 1})
    one = gce.instances.by_name[ZONES[0], f"kubeq-{ONE}"]
    one["status"] = "STAGING"

    def meanwhile() -> None:
        one["status"] = "RUNNING" if clock.time > 20 else "STAGING"

    clock.meanwhile = meanwhile
    provider.terminate([ONE])
    assert gce.instances.by_name == {}


def test_one_that_cannot_be_ended_is_named_and_the_others_are(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    provider.launch(request_for(tmp_path), {ONE: 1, TWO: 2})
    gce.instances.by_name[ZONES[0], f"kubeq-{ONE}"]["status"] = "STAGING"
    with pytest.raises(BackendError, match=f"could not end the instance kubeq-{ONE}: it is not ready for that"):
        provider.terminate([ONE, TWO])
    assert live(provider) == {ONE}


def node(name: NodeName) -> Node:
    return Node(name=name, pool=POOL, number=1, provider="gce", state=NodeState.ACTIVE, host="there", requested_at=0.0)


@pytest.mark.parametrize("private", [False, True])
def test_a_command_goes_through_ssh_as_root(provider: GceProvider, gce: FakeGce, tmp_path: Path, private: bool) -> None:
    key = pool_key(tmp_path, POOL)
    provider.launch(request_for(tmp_path, replace(PLAIN, private=private), key=key.public), {ONE: 1})
    words = provider.command(node(ONE), ["ls", "a b"], terminal=False)
    assert words[0] == "ssh"
    assert words[words.index("-i") + 1] == str(key.path)
    assert words[-1] == "sudo -n -- ls 'a b'"
    proxy = f"ProxyCommand=gcloud compute start-iap-tunnel kubeq-{ONE} 22 --listen-on-stdin --zone {ZONES[0]}"
    assert any(word.startswith(proxy) for word in words) == private
    with pytest.raises(NotFound, match="no machine of node"):
        provider.command(node(TWO), [], terminal=True)


def test_the_pools_key_is_let_in_where_the_project_has_os_login(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    provider.launch(request_for(tmp_path, key="ssh-ed25519 AAAA pool"), {ONE: 1})
    told = metadata_of(gce, ONE)
    assert (told["enable-oslogin"], told["ssh-keys"]) == ("FALSE", "kubeq:ssh-ed25519 AAAA pool kubeq")


def test_where_a_policy_demands_os_login_machines_work_and_who_connects_is_told_how(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    gce.catalogue.wants_os_login = True
    key = pool_key(tmp_path, POOL)
    request = request_for(tmp_path, key=key.public)
    first = provider.launch(request, {ONE: 1})
    assert provider.launch(request, {ONE: 1}) == first
    assert gce.instances.made == 1
    with pytest.raises(AccessDenied, match="allows no login but OS Login") as caught:
        provider.command(node(ONE), [], terminal=True)
    assert f"gcloud compute ssh kubeq-{ONE} --zone {ZONES[0]}" in str(caught.value.hint)


def test_forget_removes_the_key_and_what_stands_switched_off(
    provider: GceProvider, gce: FakeGce, tmp_path: Path
) -> None:
    key = pool_key(tmp_path, POOL)
    provider.launch(request_for(tmp_path), {ONE: 1, TWO: 2})
    gce.instances.switch_off(f"kubeq-{ONE}")
    provider.forget(None, 0)
    provider.forget(POOL, 0)
    assert not key.path.exists()
    assert set(gce.instances.states()) == {f"kubeq-{TWO}"}
