"""What we ask the engine to make: the create requests for a task, for a pause container and for giving files back.

Pure: an execution and its surroundings in, the JSON body of "Create a container" out. The bodies are fixed but for what
is named here, so that no option of a job can make a container more powerful. What a task gets: its own process, mount
and IPC namespaces, the work directory, what the job mounts, the list of the pool's nodes, and nothing of the node's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeq.core.spec import Network
from kubeq_consumer.runtimes.base import Execution

Body = dict[str, Any]
WORK_INSIDE = "/kubeq/work"
PEERS_INSIDE = "/.kubeq/peers"
CHECKPOINT_INSIDE = "/.kubeq/checkpoint"
PROGRAM_INSIDE = "/.kubeq/exec"
GATE_INSIDE = "/.kubeq/gate"
PIDS_LIMIT = 4096
"""Processes and threads of one container: far more than honest work needs, far fewer than stop a machine."""
OOM_SCORE = 300
"""When the machine itself runs out of memory, tasks go before the agent and the engine."""
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip
"""Docker's defaults (moby, oci/caps/defaults.go), which images that start as root count on, but for those that make
device files (MKNOD), forge packets (NET_RAW) and write the machine's audit log (AUDIT_WRITE)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a request needs beside the execution: the node's program and the gate where that waits (no gate without it),
    the image's own settings, who owns the files.
    """

    uid: int
    gid: int
    program: Path | None
    gate: Path | None
    network_mode: str
    image_entrypoint: tuple[str, ...]
    image_sets_home: bool
    labels: Mapping[str, str]


def task_body(execution: Execution, around: Surroundings) -> Body:
    """The container of one attempt."""
    user = execution.user or f"{around.uid}:{around.gid}"
    host: Body = {
        **_guarded(around.network_mode),
        "Init": True,
        "CapAdd": list(CAPABILITIES),
        "PidsLimit": PIDS_LIMIT,
        "OomScoreAdj": OOM_SCORE,
        "NanoCpus": round(execution.resources.cpu * 1e9),
        "Mounts": [
            *_program_mount(around.program),
            *([] if around.gate is None else [_bind(str(around.gate), GATE_INSIDE, read_only=True)]),
            _bind(str(execution.work), WORK_INSIDE),
            *_peers_mount(execution.peers),
            *([] if execution.checkpoint is None else [_bind(str(execution.checkpoint), CHECKPOINT_INSIDE)]),
            *(_bind(mount.source, mount.target, read_only=mount.read_only) for mount in execution.mounts),
        ],
    }
    if execution.resources.memory is not None:
        host["Memory"] = host["MemorySwap"] = execution.resources.memory  # equal: no swap on top
    if execution.devices:  # as `docker run --gpus device=...` asks for them
        devices = [str(device) for device in execution.devices]
        host["DeviceRequests"] = [{"Driver": "", "DeviceIDs": devices, "Capabilities": [["gpu"]]}]
    if execution.shm_size is not None:
        host["ShmSize"] = execution.shm_size
    return {
        "Image": execution.image,
        **_argv(execution, around),
        "User": user,
        "Env": _environment(execution, around, user),
        "Labels": dict(around.labels),
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
    }


def pause_body(image: str, program: Path, network_mode: str, labels: Mapping[str, str]) -> Body:
    """A container that only keeps a network namespace alive."""
    return {
        "Image": image,
        "Entrypoint": [PROGRAM_INSIDE, "pause"],
        "Cmd": [],
        "User": "65534:65534",
        "Labels": dict(labels),
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            **_guarded(network_mode),
            "ReadonlyRootfs": True,
            "PidsLimit": 16,
            "Mounts": _program_mount(program),
        },
    }


def giving_back_body(image: str, work: Path, owner: str, program: Path | None, labels: Mapping[str, str]) -> Body:
    """A container that gives a work directory to `owner` (UID:GID); with its image's chown if we have no program."""
    uid, gid = owner.split(":")
    argv = [PROGRAM_INSIDE, "own", uid, gid, WORK_INSIDE] if program else ["chown", "-Rh", owner, WORK_INSIDE]
    return {
        "Image": image,
        "Entrypoint": argv,
        "Cmd": [],
        "User": "0:0",
        "Labels": dict(labels),
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            **_guarded("none"),
            "CapAdd": ["CHOWN", "DAC_OVERRIDE", "FOWNER"],
            "PidsLimit": 16,
            "Mounts": [*_program_mount(program), _bind(str(work), WORK_INSIDE)],
        },
    }


def network_kind(network: Network) -> tuple[str, bool]:
    """The engine's network mode, and whether a slot's pause container holds the namespace."""
    match network:
        case Network.SLOT:
            return "bridge", True
        case Network.NONE:
            return "none", True
        case Network.BRIDGE | Network.HOST:
            return network.value, False


def container_name(*parts: object) -> str:
    """A name the engine takes, from parts that may hold anything."""
    return "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", str(part)) for part in ("kubeq", *parts))


def _guarded(network_mode: str) -> Body:
    """What holds for every container of ours. The engine keeps no copy of the output: it goes to the agent only."""
    return {
        "NetworkMode": network_mode,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "IpcMode": "private",
        "PidMode": "",
        "LogConfig": {"Type": "none"},
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
    }


def _argv(execution: Execution, around: Surroundings) -> Body:
    """Entrypoint and Cmd. Our program comes first: it joins stderr to stdout and becomes the command."""
    entrypoint = around.image_entrypoint if execution.entrypoint == () else execution.entrypoint or ()
    words = [*entrypoint, *execution.command]
    if around.program is None:
        place = WORK_INSIDE if execution.directory == "." else f"{WORK_INSIDE}/{execution.directory}"
        return {"Entrypoint": words[:1], "Cmd": words[1:], "WorkingDir": place}
    # The engine would make a working directory that does not exist, as root; our program says so instead.
    turn = [] if execution.directory == "." else ["--cd", execution.directory]
    gate = [] if around.gate is None else ["--gate", GATE_INSIDE]
    return {"Entrypoint": [PROGRAM_INSIDE, "run", *gate, *turn, "--"], "Cmd": words, "WorkingDir": WORK_INSIDE}


def _environment(execution: Execution, around: Surroundings, user: str) -> list[str]:
    """The job's variables. A number without a home gets /tmp; a name has the home that the image gives it.

    The last one tells Docker's init (tini) to pass a signal on to the whole process group, not to its leader only.
    """
    pairs = [f"{name}={value}" for name, value in execution.environment]
    named = {name for name, _ in execution.environment}
    number = user.partition(":")[0]
    if number.isdigit() and int(number) != 0 and not around.image_sets_home and "HOME" not in named:
        pairs.append("HOME=/tmp")
    if execution.peers is not None:
        pairs.append(f"KUBEQ_PEERS={PEERS_INSIDE}/{execution.peers.name}")
    if execution.checkpoint is not None:
        pairs.append(f"KUBEQ_CHECKPOINT={CHECKPOINT_INSIDE}")
    return [*pairs, "TINI_KILL_PROCESS_GROUP=1"]


def _bind(source: str, target: str, *, read_only: bool = False) -> Body:
    """A mount that fails where the source does not exist (the older `Binds` would create it, as root)."""
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def _program_mount(program: Path | None) -> list[Body]:
    return [] if program is None else [_bind(str(program), PROGRAM_INSIDE, read_only=True)]


def _peers_mount(peers: Path | None) -> list[Body]:
    """The folder and not the file: a mounted file would stay the one that it was."""
    return [] if peers is None else [_bind(str(peers.parent), PEERS_INSIDE, read_only=True)]
