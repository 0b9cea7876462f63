"""What the suite of clouds' machines asks of an emulated cloud: a provider, and orders for what is to go wrong."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from kubeq.core.digest import Digest
from kubeq.core.machines import Machines
from kubeq.core.model import NodeName, PoolId
from kubeq.nodes.archive import Archive
from kubeq.nodes.base import NodeProvider, NodeRequest
from kubeq.nodes.ec2 import Ec2Provider, Ec2Settings
from kubeq.nodes.ec2_calls import Ec2Calls, Time
from kubeq.nodes.forms import StoredAgent
from tests.stand_ins.ec2 import REGION, Ec2Cloud

POOL = PoolId("pool-ab12cd")
_ARCHIVE = Archive(path=Path("/nowhere"), digest=Digest("0" * 64, 4096), release="0.1+0", python=11)


class CloudRig(Protocol):
    """One emulated cloud. What has gone wrong there stays so until it is set otherwise."""

    machines: Machines
    """What can be had: in three zones, of two types, of which the first named costs less."""

    def provider(self, **settings: Any) -> NodeProvider:
        """One that remembers nothing, as every command makes one; it waits a twentieth of the time it says."""
        ...

    def no_room(self, *, zone: str | None = None, spot: bool | None = None) -> None:
        """Nothing can be had there (None: anywhere), of that class (None: of any)."""
        ...

    def refuse_launches(self, times: int) -> str:
        """The next launches are refused for good; what the cloud says of it."""
        ...

    def deny_launches(self) -> None:
        """This identity may not make machines."""
        ...

    def throttle(self, times: int) -> None:
        """The next launches are told to come back later."""
        ...

    def lose_answers(self, times: int) -> None:
        """The next launches are done, and nobody is told."""
        ...

    def gone(self, gone: bool) -> None:
        """Whether the cloud's API is out of reach."""
        ...

    def hide_new(self, seconds: float) -> None:
        """So long a new machine is not listed."""
        ...

    def slow(self, seconds: float) -> None:
        """So long a machine takes to come up, and cannot be ended before, where the cloud has it so."""
        ...

    def failing(self) -> None:
        """Machines come up and fail at once."""
        ...

    def preempt(self, node: str) -> None:
        """The machine of the node is taken back now."""
        ...

    def add_stranger(self) -> None:
        """Somebody makes a machine without kubeq."""
        ...

    def standing(self) -> list[str]:
        """The nodes whose machines cost money now, each as often as it has one; asked behind the provider's back."""
        ...

    def launches(self) -> int:
        """How many requests for a machine there were."""
        ...

    def leftovers(self) -> list[str]:
        """What besides machines stands in the account for kubeq's pools."""
        ...

    def wrong(self) -> Mapping[str, tuple[Machines, str]]:
        """Requests that cannot be met, by what is wrong with them, and a part of what is said of it."""
        ...


def request(machines: Machines, pool: PoolId = POOL, **more: Any) -> NodeRequest:
    """What a launch is told; nothing that is named there is there."""
    agent = StoredAgent(url="s3://bucket/agent", digest=_ARCHIVE.digest, extras=("aws",), archive=_ARCHIVE)
    plain = NodeRequest(
        pool=pool,
        queue_url="dynamodb://eu-west-1/queue",
        store_url="s3://bucket/store",
        blobs_url="s3://bucket/store",
        state_dir=Path("/nowhere"),
        cache_dir=Path("/nowhere"),
        linger_s=600,
        linger_others_s=60,
        poll_s=3,
        machines=machines,
        agent=agent,
        key="ssh-ed25519 AAAA pool",
        owner="ada",
    )
    return replace(plain, **more)


def names(*numbers: int, pool: PoolId = POOL) -> dict[NodeName, int]:
    """Nodes of the pool by their numbers."""
    return {NodeName(f"{pool}-{number}"): number for number in numbers}


@dataclass
class Hurry:
    """A clock that runs ahead: who sleeps on it is woken after a twentieth of the time."""

    ahead_s: float = 0.0

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / 20)
        self.ahead_s += seconds * 19 / 20

    def now(self) -> float:
        return time.monotonic() + self.ahead_s


@dataclass
class Ec2Rig:
    """EC2 as `ec2_server` emulates it."""

    cloud: Ec2Cloud
    folder: Path
    machines: Machines = field(
        default_factory=lambda: Machines(region=REGION, types=("m7i.large", "c7i.xlarge"), labels=(("team", "sky"),))
    )

    def provider(self, **settings: Any) -> Ec2Provider:
        hurry = Hurry()
        region = settings.pop("region", REGION)
        told = Ec2Settings(**{"region": region, "state_dir": self.folder, "price": _price, "caller": "ada", **settings})
        return Ec2Provider(told, Ec2Calls(region=region, time=Time(sleep=hurry.sleep, now=hurry.now, draw=lambda: 0.9)))

    def no_room(self, *, zone: str | None = None, spot: bool | None = None) -> None:
        market = "*" if spot is None else "spot" if spot else "on-demand"
        self.cloud.faults(no_room=[["*", zone or "*", market]])

    def refuse_launches(self, times: int) -> str:
        said = "The account is blocked because it is suspected of something"
        self.cloud.faults(refuse={"RunInstances": ["Blocked", said, times]})
        return said

    def deny_launches(self) -> None:
        said = "You are not authorized to perform this operation."
        self.cloud.faults(refuse={"RunInstances": ["UnauthorizedOperation", said, 0]})

    def throttle(self, times: int) -> None:
        self.cloud.faults(refuse={"RunInstances": ["RequestLimitExceeded", "Request limit exceeded.", times]})

    def lose_answers(self, times: int) -> None:
        self.cloud.faults(lost={"RunInstances": times})

    def gone(self, gone: bool) -> None:
        self.cloud.faults(gone=gone)

    def hide_new(self, seconds: float) -> None:
        self.cloud.faults(hidden_s=seconds)

    def slow(self, seconds: float) -> None:
        self.cloud.faults(pending_s=seconds, held=True)

    def failing(self) -> None:
        self.cloud.faults(dies_s=0.0)

    def preempt(self, node: str) -> None:
        self.cloud.preempt(node)

    def add_stranger(self) -> None:
        ec2 = Ec2Calls(region=REGION).ec2
        image = ec2.describe_images()["Images"][0]["ImageId"]
        subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        ec2.run_instances(ImageId=image, InstanceType="m7i.large", SubnetId=subnet, MinCount=1, MaxCount=1)

    def standing(self) -> list[str]:
        return self.cloud.standing()

    def launches(self) -> int:
        return self.cloud.calls().get("RunInstances", 0)

    def leftovers(self) -> list[str]:
        found = Ec2Calls(region=REGION).ec2.describe_security_groups()["SecurityGroups"]
        return [group["GroupName"] for group in found if group["GroupName"].startswith("kubeq-")]

    def wrong(self) -> Mapping[str, tuple[Machines, str]]:
        return {name: (replace(self.machines, **what), said) for name, what, said in _WRONG}


_WRONG: Sequence[tuple[str, Mapping[str, Any], str]] = (
    ("zone", {"zones": ("eu-west-1x",)}, "eu-west-1 has no zone eu-west-1x"),
    ("type", {"types": ("m7i.large", "m9.huge")}, "no such machine type in eu-west-1"),
    ("image", {"image": "ami-0123456789abcdef0"}, "there is no image ami-0123456789abcdef0 in eu-west-1"),
    ("image name", {"image": "ubuntu"}, "'ubuntu' is no image of EC2"),
    ("subnet", {"subnets": ("subnet-0123",)}, "there is no such subnet in eu-west-1"),
    ("network", {"network": "vpc-0123"}, "eu-west-1 has no network vpc-0123"),
    ("group", {"tags": ("sg-0123",)}, "has no security group sg-0123"),
    ("identity", {"identity": "nobody"}, "there is no instance profile nobody"),
    ("gpu", {"gpus": 2}, "the machine type m7i.large has no gpus, and 2 are asked for"),
    ("gpu kind", {"types": ("g4dn.xlarge",), "gpus": 1, "gpu": "A100"}, "has gpus of kind T4, and A100 is asked for"),
    ("no gpu so", {"types": (), "gpus": 64}, "no machine type in eu-west-1 has cpu=1 and gpus=64"),
    ("boot disk", {"disk": 2**30}, "needs a boot disk of"),
)


def _price(provider: str, kind: str, region: str, spot: bool) -> float | None:
    return {"m7i.large": 0.1124, "c7i.xlarge": 0.2016}.get(kind)
