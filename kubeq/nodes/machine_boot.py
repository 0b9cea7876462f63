"""The text with which a machine of a cloud boots and becomes a node: no credential, the agent by its digest.

Which text a provider hands to its cloud, and how, is the provider's affair. The shell itself is in `machine_script`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from kubeq.core.machines import Machine, Machines, Volume
from kubeq.core.model import NodeName
from kubeq.core.wire import encode_machine
from kubeq.errors import UsageError
from kubeq.nodes import machine_script as script
from kubeq.nodes.archive import Archive, interpreters
from kubeq.nodes.base import NodeRequest
from kubeq.nodes.boot import PREFIX, agent_environment
from kubeq.nodes.forms import IMAGE_FOLDER, SUPERVISE, Boot, StoredAgent, image_command
from kubeq.release import this_release

RUN = "/run/kubeq"
"""Where the boot text and the agent tell each other that they live; gone after a reboot."""
REGISTER_S = 900
"""A machine whose agent the queue has never heard of ends after so long."""
LOST_S = 900
"""An agent that holds nothing leaves when its queue has been out of reach for so long."""
GIB = 2**30
_NAME = re.compile("@([a-z0-9]+)@")
_RUNS_NOTHING = re.compile(r"(bottlerocket|fedora-coreos|rhcos)-")
"""How the names of images begin that are told something else than a script at their first boot, and run none."""
_EC2_NOTICE = "http://169.254.169.254/latest/meta-data/spot/instance-action"
_GCE_NOTICE = "http://169.254.169.254/computeMetadata/v1/instance/preempted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """What differs between clouds: the provider's name, the line that ends a machine, and what its agents are told.

    `notice` is where a spot machine learns that it is taken back. `devices` are the names under which the volumes, in
    their order, are asked for; where the machine has none of that name, a volume is found by its size.
    `lets_in`: the text lets the pool's key in; elsewhere the cloud does. `saving_s` is how long an agent that has to
    leave at once may store checkpoints; None: as long as any other. `stays_s`: so long a machine that cannot become a
    node stands before it ends, where its console goes with it.
    """

    provider: str
    at_end: str = "poweroff"
    told: Mapping[str, str] = field(default_factory=dict)
    notice: str | None = None
    devices: tuple[str, ...] = ()
    register_s: int = REGISTER_S
    lets_in: bool = False
    saving_s: int | None = None
    stays_s: int = 0


EC2 = Cloud(
    provider="ec2",
    notice=_EC2_NOTICE,
    devices=tuple(f"/dev/sd{letter}" for letter in "fghijklmnop"),
    lets_in=True,
    saving_s=60,
)
"""Letters: Amazon EC2 User Guide, "Device names for volumes on Amazon EC2 instances". Notice comes two minutes before
the end, and a shutdown waits for the service (`TimeoutStopSec`).
"""
GCE = Cloud(
    provider="gce",
    notice=_GCE_NOTICE,
    devices=tuple(f"/dev/disk/by-id/google-kubeq-{number}" for number in range(1, 65)),
    stays_s=45,
)
"""A disk that is attached as `kubeq-N` has such a link ("Symlinks for disks attached to your instances")."""


def check_runs_text(name: str, *, windows: bool) -> None:
    """Raise UsageError for an image that is known not to run such a text: its machines would only cost, unarmed."""
    if windows or _RUNS_NOTHING.match(name):
        raise UsageError(
            f"the image {name} {'is for Windows' if windows else 'runs no script at its first boot'}, so its machines "
            "would never become nodes, nor end by themselves",
            hint="name an image of Linux with cloud-init (or Google's guest agent), as Ubuntu's and Debian's have it",
        )


def machine_text(request: NodeRequest, node: NodeName, number: int, machine: Machine, cloud: Cloud) -> str:
    """All that the machine runs at its first boot. Raises UsageError without an agent that it could fetch."""
    agent, machines = request.agent, request.machines or Machines(region="")
    if agent is None or not (agent.archive or agent.image):
        raise UsageError("the agent is not in a store that a machine can see", hint="kubeq check")
    if len(machines.volumes) > len(cloud.devices):
        raise UsageError(f"a machine may have {len(cloud.devices)} volumes", hint="ask for fewer: --volume")
    boot = Boot(environment=_told(request, node, number, machine, cloud), extras=agent.extras)
    text = "".join(
        (
            *(script.HEAD, script.ENDS, script.SERVICE, script.LOG),
            *([script.KEY] if cloud.lets_in and request.key else []),
            *([script.VOLUMES] if machines.volumes else []),
            *(script.PACKAGES, script.METADATA, script.ARCHIVE if agent.archive else script.IMAGE, script.WAIT),
        )
    )
    values = {
        "node": node,
        "pool": request.pool,
        "release": this_release(),
        "run": RUN,
        "kept": str(IMAGE_FOLDER),
        "atend": cloud.at_end,
        "cannot": script.CANNOT,
        "hasended": script.HAS_ENDED,
        "stays": str(cloud.stays_s),
        "key": shlex.quote(script.LETS_IN + (request.key or "")),
        "lifetime": str(int(machines.lifetime_s)),
        "register": str(cloud.register_s),
        "volumes": "".join(_volume(place, each, cloud) for place, each in enumerate(machines.volumes)),
        "exports": "".join(f"export {name}={shlex.quote(value)}\n" for name, value in boot.environment.items()),
        **(_of_archive(agent, agent.archive) if agent.archive else _of_image(agent, boot, request)),
    }
    return _NAME.sub(lambda match: values[match[1]], text)


def _told(request: NodeRequest, node: NodeName, number: int, machine: Machine, cloud: Cloud) -> dict[str, str]:
    """The agent's own variables on that machine."""
    folder = str(IMAGE_FOLDER)
    own = {
        "STATE": folder,
        "CACHE": f"{folder}/cache",
        "LOG": f"{folder}/agent.log",
        "RUN": RUN,
        "LOST_AFTER": str(LOST_S),
        "MACHINE": json.dumps(encode_machine(machine)),
        **({"NOTICE": cloud.notice} if cloud.notice and machine.spot else {}),
        **({"SAVING": str(cloud.saving_s)} if cloud.saving_s is not None else {}),
    }
    told = {PREFIX + name: value for name, value in own.items()}
    return {**agent_environment(request, node, number, cloud.provider), **told, **request.environ, **cloud.told}


def _volume(place: int, volume: Volume, cloud: Cloud) -> str:
    """Clouds make volumes of whole GiB; the smallest that holds what was asked for."""
    size = -(-volume.size // GIB) * GIB
    return shlex.join(["volume", volume.path, f"kubeq-{place + 1}", str(size), cloud.devices[place]]) + "\n"


def _of_archive(agent: StoredAgent, archive: Archive) -> dict[str, str]:
    names = interpreters(archive.python)
    return {
        "pythons": names,
        "packages": f"{names} python3",  # the plain one may be too old, and would be there already
        "least": str(archive.python),
        "sha256": archive.digest.sha256,
        "digest": str(archive.digest),
        "url": shlex.quote(agent.url),
        "fetcher": Path(__file__).with_name("fetching.py").read_text(encoding="utf-8"),
        "supervise": SUPERVISE,
    }


def _of_image(agent: StoredAgent, boot: Boot, request: NodeRequest) -> dict[str, str]:
    if not agent.url.startswith("gs://"):
        raise UsageError(
            f"machines can fetch the agent's image from gs:// only, and it is at {agent.url}",
            hint="use a bucket of Google Cloud: -o default_url_prefix=gs://BUCKET/PREFIX",
        )
    bucket, _, key = agent.url.removeprefix("gs://").partition("/")
    service = request.environ.get("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com").rstrip("/")
    url = f"{service}/storage/v1/b/{bucket}/o/{quote(unquote(key), safe='')}?alt=media"
    image = str(agent.image)
    return {
        "sha256": agent.digest.sha256,
        "url": shlex.quote(url),
        "image": shlex.quote(image),
        "container": shlex.quote(f"kubeq-{boot.environment['KUBEQ_AGENT_NODE']}"),
        "command": image_command(image, boot, "--rm", "--volume", f"{RUN}:{RUN}"),
    }
