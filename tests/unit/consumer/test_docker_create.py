from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubeq.core.model import JobId, NodeName, TaskId
from kubeq.core.resources import Resources
from kubeq.core.spec import Mount, Network
from kubeq.errors import BackendError
from kubeq_consumer.runtimes.base import Execution
from kubeq_consumer.runtimes.docker import installed, refuse_engine_socket
from kubeq_consumer.runtimes.docker_create import (
    Surroundings,
    container_name,
    giving_back_body,
    network_kind,
    pause_body,
    task_body,
)

PROGRAM = Path("/state/exec/kubeq-exec")
EXECUTION = Execution(
    task=TaskId(JobId("demo-1"), 3),
    attempt=2,
    node=NodeName("node-1"),
    slot=0,
    image="sha256:abc",
    entrypoint=None,
    command=("python3", "a b.py", ""),
    work=Path("/state/work"),
    directory="sub/dir",
    environment=(("A", "1"), ("B", "x=y z")),
    user=None,
    network=Network.SLOT,
    resources=Resources(cpu=1.5, memory=1 << 30),
    shm_size=64 << 20,
    mounts=(Mount(source="/data", target="/input", read_only=True),),
    peers=Path("/state/peers/nodes.jsonl"),
)
AROUND = Surroundings(
    uid=1000,
    gid=1001,
    program=PROGRAM,
    gate=Path("/state/work.gate"),
    network_mode="container:feed",
    image_entrypoint=("/entry", "point"),
    image_sets_home=False,
    labels={"kubeq.job": "demo-1"},
)
GOLDEN = {
    "Image": "sha256:abc",
    "Entrypoint": ["/.kubeq/exec", "run", "--gate", "/.kubeq/gate", "--cd", "sub/dir", "--"],
    "Cmd": ["python3", "a b.py", ""],
    "WorkingDir": "/kubeq/work",
    "User": "1000:1001",
    "Env": ["A=1", "B=x=y z", "HOME=/tmp", "KUBEQ_PEERS=/.kubeq/peers/nodes.jsonl", "TINI_KILL_PROCESS_GROUP=1"],
    "Labels": {"kubeq.job": "demo-1"},
    "Healthcheck": {"Test": ["NONE"]},
    "HostConfig": {
        "NetworkMode": "container:feed",
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "IpcMode": "private",
        "PidMode": "",
        "LogConfig": {"Type": "none"},
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
        "Init": True,
        "CapAdd": [
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "NET_BIND_SERVICE",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYS_CHROOT",
        ],
        "PidsLimit": 4096,
        "OomScoreAdj": 300,
        "NanoCpus": 1_500_000_000,
        "Mounts": [
            {"Type": "bind", "Source": "/state/exec/kubeq-exec", "Target": "/.kubeq/exec", "ReadOnly": True},
            {"Type": "bind", "Source": "/state/work.gate", "Target": "/.kubeq/gate", "ReadOnly": True},
            {"Type": "bind", "Source": "/state/work", "Target": "/kubeq/work", "ReadOnly": False},
            {"Type": "bind", "Source": "/state/peers", "Target": "/.kubeq/peers", "ReadOnly": True},
            {"Type": "bind", "Source": "/data", "Target": "/input", "ReadOnly": True},
        ],
        "Memory": 1 << 30,
        "MemorySwap": 1 << 30,
        "ShmSize": 64 << 20,
    },
}


def body(around: Surroundings = AROUND, **changes: Any) -> dict[str, Any]:
    return task_body(replace(EXECUTION, **changes), around)


def test_the_request_for_a_task_is_exactly_this() -> None:
    assert body() == GOLDEN


def test_limits_that_nobody_asked_for_are_not_set() -> None:
    host = body(resources=Resources(cpu=1.0), shm_size=None)["HostConfig"]
    assert not {"Memory", "MemorySwap", "ShmSize"} & set(host)


def test_nothing_that_a_job_can_say_makes_a_container_privileged() -> None:
    for network in Network:
        for user in (None, "root", "0"):
            host = body(network=network, user=user)["HostConfig"]
            assert host["Privileged"] is False and host["PidMode"] == "" and host["IpcMode"] == "private"
            assert host["CapDrop"] == ["ALL"] and host["SecurityOpt"] == ["no-new-privileges"]
            assert not {"SYS_ADMIN", "NET_RAW", "MKNOD", "AUDIT_WRITE", "SYS_PTRACE"} & set(host["CapAdd"])
            assert not {"Devices", "Binds", "VolumesFrom", "CgroupParent"} & set(host)


def test_the_images_entrypoint_is_replaced_kept_or_set() -> None:
    assert body(entrypoint=())["Cmd"] == ["/entry", "point", "python3", "a b.py", ""]
    assert body(entrypoint=("sh", "-e"))["Cmd"] == ["sh", "-e", "python3", "a b.py", ""]


def test_without_our_program_the_command_stands_alone() -> None:
    plain = body(replace(AROUND, program=None, gate=None))
    assert (plain["Entrypoint"], plain["Cmd"]) == (["python3"], ["a b.py", ""])
    assert plain["WorkingDir"] == "/kubeq/work/sub/dir"
    assert [mount["Target"] for mount in plain["HostConfig"]["Mounts"]] == ["/kubeq/work", "/.kubeq/peers", "/input"]


def test_the_work_directory_itself_needs_no_change_of_directory() -> None:
    assert body(directory=".")["Entrypoint"] == ["/.kubeq/exec", "run", "--gate", "/.kubeq/gate", "--"]


def test_a_command_without_a_gate_waits_at_none() -> None:
    plain = body(replace(AROUND, gate=None))
    assert plain["Entrypoint"] == ["/.kubeq/exec", "run", "--cd", "sub/dir", "--"]
    mounts = [mount["Target"] for mount in plain["HostConfig"]["Mounts"]]
    assert mounts == ["/.kubeq/exec", "/kubeq/work", "/.kubeq/peers", "/input"]


@pytest.mark.parametrize(
    ("user", "uid", "sets_home", "given", "expected"),
    [
        (None, 1000, False, (), ["HOME=/tmp"]),
        (None, 0, False, (), []),
        (None, 1000, True, (), []),
        (None, 1000, False, (("HOME", "/here"),), ["HOME=/here"]),
        ("0", 1000, False, (), []),
        ("33:33", 0, False, (), ["HOME=/tmp"]),
        ("postgres", 1000, False, (), []),
    ],
)
def test_a_home_is_given_where_there_would_be_none(
    user: str | None, uid: int, sets_home: bool, given: tuple[tuple[str, str], ...], expected: list[str]
) -> None:
    around = replace(AROUND, uid=uid, image_sets_home=sets_home)
    pairs = body(around, user=user, environment=given)["Env"]
    assert [pair for pair in pairs if pair.startswith("HOME=")] == expected


def test_a_pause_container_can_do_nothing() -> None:
    pause = pause_body("image", PROGRAM, "none", {"l": "v"})
    host = pause["HostConfig"]
    assert pause["Entrypoint"] == ["/.kubeq/exec", "pause"] and pause["User"] == "65534:65534"
    assert host["CapDrop"] == ["ALL"] and "CapAdd" not in host and host["ReadonlyRootfs"] is True
    assert [mount["Target"] for mount in host["Mounts"]] == ["/.kubeq/exec"]


def test_giving_back_sees_the_work_directory_only() -> None:
    own = giving_back_body("image", Path("/w"), "1000:1001", PROGRAM, {})
    assert own["Entrypoint"] == ["/.kubeq/exec", "own", "1000", "1001", "/kubeq/work"]
    assert own["HostConfig"]["NetworkMode"] == "none"
    assert [mount["Source"] for mount in own["HostConfig"]["Mounts"]] == [str(PROGRAM), "/w"]
    assert giving_back_body("image", Path("/w"), "7:8", None, {})["Entrypoint"] == [
        "chown",
        "-Rh",
        "7:8",
        "/kubeq/work",
    ]


def test_slots_keep_the_networks_that_they_can() -> None:
    assert network_kind(Network.SLOT) == ("bridge", True)
    assert network_kind(Network.NONE) == ("none", True)
    assert network_kind(Network.BRIDGE) == ("bridge", False)
    assert network_kind(Network.HOST) == ("host", False)


def test_names_hold_what_the_engine_takes() -> None:
    assert container_name("a/b c", 1, "é") == "kubeq-a_b_c-1-_"


def test_a_directory_above_the_engines_socket_is_refused_and_one_beside_it_is_not(tmp_path: Path) -> None:
    socket = tmp_path / "run/engine.sock"
    socket.parent.mkdir()
    socket.touch()
    (tmp_path / "alias").symlink_to(tmp_path / "run")
    for source in (socket, socket.parent, tmp_path, tmp_path / "alias", tmp_path / "alias/engine.sock", Path("/")):
        with pytest.raises(BackendError, match="socket"):
            refuse_engine_socket([Mount(source=str(source), target="/x")], [str(socket)])
    (tmp_path / "runner").mkdir()
    refuse_engine_socket([Mount(source=str(tmp_path / "runner"), target="/x")], [str(socket)])


def test_our_program_is_installed_once_and_executable(tmp_path: Path) -> None:
    source = tmp_path / "program"
    source.write_bytes(b"one")
    source.chmod(0o600)
    first = installed(source, tmp_path / "exec")
    assert first.read_bytes() == b"one" and first.stat().st_mode & 0o777 == 0o755
    assert installed(source, tmp_path / "exec") == first
    source.write_bytes(b"two")
    assert installed(source, tmp_path / "exec") != first
    assert len(list((tmp_path / "exec").iterdir())) == 2


def test_without_a_list_of_nodes_there_is_none() -> None:
    plain = body(peers=None)
    assert "/.kubeq/peers" not in str(plain)


def test_a_container_sees_the_gpus_that_are_its_own_and_no_others() -> None:
    asked = task_body(replace(EXECUTION, devices=(1, 3)), AROUND)["HostConfig"]["DeviceRequests"]
    assert asked == [{"Driver": "", "DeviceIDs": ["1", "3"], "Capabilities": [["gpu"]]}]
    assert "DeviceRequests" not in task_body(EXECUTION, AROUND)["HostConfig"]
