"""What machines are asked for, which jobs share them, and what they are given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubeq.actions.agents import agent_by_hand
from kubeq.actions.launching import add_nodes, pool_of_job, pool_of_request
from kubeq.actions.machines import machines_of
from kubeq.actions.node_logs import open_node_log, read_node
from kubeq.actions.plan import make_plan
from kubeq.actions.preflight import Passed, Preflight, preflight
from kubeq.actions.session import Session
from kubeq.config import with_flags
from kubeq.core.machines import Machines, Volume
from kubeq.core.resources import Resources
from kubeq.errors import NotFound, UsageError
from kubeq.store.node_logs import node_log_writer
from tests.jobs import FakeClock, Work
from tests.providers import FakeCloud

FAR = {
    "provider": "ec2",
    "queue_url": "dynamodb://eu-1/kubeq",
    "default_url_prefix": "s3://bucket/me",
    "cas_url_prefix": "s3://bucket/me",
    "region": "eu-1",
}


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud()


@pytest.fixture
def far(session: Session, cloud: FakeCloud) -> Session:
    """A session whose nodes are machines of a cloud; queue and store are in memory."""
    return configured(session, cloud)


def configured(session: Session, cloud: FakeCloud, **changes: Any) -> Session:
    other = session.beside(replace(session.config, **(FAR | changes)))
    other.provider = cloud  # type: ignore[misc]
    return other


def test_what_is_asked_of_machines_is_what_is_configured(session: Session, cloud: FakeCloud) -> None:
    asked = machines_of(
        configured(
            session,
            cloud,
            zones=("eu-1a", "eu-1b"),
            machine_type=("m.small",),
            resources="cpu=2,memory=4G",
            spot=True,
            ec2_image="ami-1",
            boot_disk=40 * 10**9,
            volumes=(Volume(path="/scratch", size=10**11),),
            machine_labels=("team=blue",),
            cluster_name="The Lab",
            open_port=(8080,),
            lifetime_s=7200.0,
        )
    )
    assert asked == Machines(
        region="eu-1",
        zones=("eu-1a", "eu-1b"),
        types=("m.small",),
        need=Resources(cpu=2.0, memory=4 * 10**9),
        spot=True,
        spot_budget=10,
        image="ami-1",
        disk=40 * 10**9,
        volumes=(Volume(path="/scratch", size=10**11),),
        labels=(("cluster", "the-lab"), ("team", "blue")),
        ports=(8080,),
        lifetime_s=7200.0,
    )
    assert machines_of(session) is None


@pytest.mark.parametrize(("zone", "region"), [("us-east1-b", "us-east1"), ("us-west-2c", "us-west-2")])
def test_a_zone_says_its_region_and_nobody_else_is_asked(
    session: Session, cloud: FakeCloud, zone: str, region: str
) -> None:
    found = machines_of(configured(session, cloud, region=None, zones=(zone,)))
    assert found is not None
    assert found.region == region
    with pytest.raises(UsageError, match="no region is set, and machines of the provider ec2 are made in one"):
        machines_of(configured(session, cloud, region=None))


def test_jobs_share_machines_only_where_all_that_makes_them_is_equal(session: Session, cloud: FakeCloud) -> None:
    def pool(**changes: Any) -> str:
        return pool_of_request(configured(session, cloud, **changes), private=False).id

    different = [
        {},
        {"machine_type": ("m.big",)},
        {"machine_type": ("m.big", "m.small")},
        {"spot": True},
        {"spot": True, "spot_budget": 3},
        {"zones": ("eu-1a",)},
        {"region": "eu-2"},
        {"ec2_image": "ami-1"},
        {"boot_disk": 10**11},
        {"boot_disk_type": "io2"},
        {"volumes": (Volume(path="/scratch", size=10**11),)},
        {"machine_network": "vpc-1"},
        {"subnets": ("subnet-1",)},
        {"network_tags": ("sg-1",)},
        {"open_port": (80,)},
        {"node_identity": "worker"},
        {"cluster_name": "lab"},
        {"machine_labels": ("team=blue",)},
        {"lifetime_s": 3600.0},
        {"resources": "cpu=2"},
        {"project": "other"},
    ]
    assert len({pool(**changes) for changes in different}) == len(different)
    assert pool() == pool(default_image="another:1", name="another", retries=3)
    small = {"machine_type": ("m.small",)}
    assert pool(**small) == pool(**small, resources="cpu=2")


def test_machines_are_given_the_agent_of_the_store_a_key_of_the_pool_and_no_secret(
    far: Session, cloud: FakeCloud
) -> None:
    environ = {"AWS_REGION": "eu-1", "AWS_SECRET_ACCESS_KEY": "the-secret"}
    far.config = replace(far.config, place=replace(far.config.place, environ=environ))
    far.user = "Jo.Doe"  # type: ignore[misc]
    pool = pool_of_request(far, private=False)
    names = add_nodes(far, pool, 2)
    (_, request), _ = cloud.requests
    assert request.machines == pool.machines
    assert request.agent is not None
    assert far.blobs.missing([request.agent.digest]) == set()
    assert (request.agent.extras, request.environ, request.owner) == (("aws",), {"AWS_REGION": "eu-1"}, "jo-doe")
    assert request.key is not None
    assert request.key.startswith("ssh-ed25519 ")
    assert "the-secret" not in repr(request)
    standing = far.queue.pool(pool.id)
    assert standing is not None
    assert (standing.machines, standing.archives, standing.nodes) == (pool.machines, (request.agent.digest,), 2)
    assert names == (f"{pool.id}-1", f"{pool.id}-2")


def test_the_machines_of_a_job_are_what_its_pools_row_says(
    far: Session, cloud: FakeCloud, work: Work, clock: FakeClock
) -> None:
    pool = pool_of_request(far, private=False)
    add_nodes(far, pool, 1)
    job = work.submit()
    far.queue.forget(job)
    job = far.queue.begin(replace(job, pool=pool.id, nodes=3))
    other = configured(far, cloud, machine_type=("m.big",))
    assert pool_of_job(other, job).machines == pool.machines


def test_before_anything_is_stored_a_cloud_is_asked_for_a_machine_on_which_a_task_fits(
    session: Session, cloud: FakeCloud
) -> None:
    def ready(**changes: Any) -> Preflight:
        far = configured(session, cloud, runtime="process", allow_node_credentials=True, **changes)
        return preflight(far, make_plan(["true"], far.config, cloud))

    found = ready()
    assert [(offer.type.name, offer.zone) for offer in found.offers] == [("m.small", "eu-1a")]
    assert Passed(check="machine", thing="m.small in eu-1a, $0.2 an hour") in found.passed
    with pytest.raises(UsageError, match=r"asks for cpu=3, and no machine of any type in eu-1 has that"):
        ready(resources="cpu=3")
    with pytest.raises(UsageError, match=r"no machine of m.big in eu-1b has that"):
        ready(machine_type=("m.big",), zones=("eu-1b",))
    assert ready(local=True).offers == ready(prepare=True).offers == ()
    assert list(session.store.list("")) == []


def test_an_option_of_machines_is_refused_where_none_are_made(session: Session, cloud: FakeCloud) -> None:
    asked = with_flags(session.config, {"spot": True, "machine_type": ("m.small",), "runtime": "process"})
    with pytest.raises(UsageError, match="--machine-type, --spot would say nothing: the provider 'local' makes no"):
        make_plan(["true"], asked, session.provider)
    far = with_flags(configured(session, cloud).config, {"spot": True, "local": True, "runtime": "process"})
    with pytest.raises(UsageError, match="--spot would say nothing: --local makes no machines"):
        make_plan(["true"], far, cloud)


def test_the_boot_text_of_a_pool_of_machines_is_what_its_provider_gives_them(far: Session) -> None:
    pool = pool_of_request(far, private=False)
    found = agent_by_hand(far, pool)
    standing = far.queue.pool(pool.id)
    assert standing is not None
    (digest,) = standing.archives
    url = far.blobs.url_of(digest)
    assert found.boot == f"#!/bin/sh\n# {pool.id}-1 is number 1, of type TYPE, and fetches {url}\n"


def test_the_log_of_a_machine_whose_agent_never_spoke_is_its_console(far: Session, cloud: FakeCloud) -> None:
    pool = pool_of_request(far, private=False)
    (name,) = add_nodes(far, pool, 1)
    with pytest.raises(NotFound, match="has printed nothing yet: its agent has not spoken yet"):
        open_node_log(far, name)
    cloud.consoles[name] = "Booting\r\nKernel panic - not syncing\n"
    printed = [line.text for line in read_node(far, name)]
    assert printed[0].startswith("[kubeq: its agent has said nothing yet")
    assert printed[1:] == ["Booting", "Kernel panic - not syncing"]
    node_log_writer(far.store, name).append(b"it speaks\n")
    assert [line.text for line in read_node(far, name)] == ["it speaks"]


def test_gpus_are_asked_for_by_number_and_kind(session: Session, cloud: FakeCloud) -> None:
    asked = machines_of(configured(session, cloud, resources="cpu=2,gpu=1", gpu_type="nvidia-tesla-t4"))
    assert asked == Machines(region="eu-1", need=Resources(cpu=2.0), gpus=1, gpu="nvidia-tesla-t4")
    without = machines_of(configured(session, cloud, resources="cpu=2", gpu_type="nvidia-tesla-t4"))
    assert without == Machines(region="eu-1", need=Resources(cpu=2.0))
