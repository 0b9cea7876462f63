"""What the Docker runtime promises beyond the Runtime contract: isolation, limits, images, an engine that goes away."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from kubeq.core.model import Exit, NodeName
from kubeq.core.resources import Resources
from kubeq.core.spec import Mount, Network
from kubeq.errors import BackendError, ImageUnavailable, UsageError
from kubeq_consumer.runtimes.base import Running
from kubeq_consumer.runtimes.docker import DockerLeftover, DockerRuntime
from tests.contract.conftest import PATIENCE_S, Rig, eventually, make_docker, started

pytestmark = pytest.mark.docker
STRANGER = 12345
root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root can make a work directory of another user")


def python(code: str, *words: str) -> tuple[str, ...]:
    return ("python3", "-c", code, *words)


def test_an_attempt_sees_nothing_of_the_one_before_and_no_process_but_its_own(docker: Rig) -> None:
    docker.output_of("sh", "-c", "touch /tmp/trace; sleep 60 &")
    assert docker.output_of("sh", "-c", "ls /tmp /kubeq/work") == b"/kubeq/work:\n\n/tmp:\n"
    processes = docker.output_of("sh", "-c", "ls -d /proc/[0-9]*").split()
    assert b"/proc/1" in processes and len(processes) <= 4


def test_no_path_of_the_node_is_visible_but_the_work_directory(docker: Rig) -> None:
    places = docker.output_of(*python("print(*(line.split()[4] for line in open('/proc/self/mountinfo')))"))
    own = {"/kubeq/work", "/.kubeq/exec", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/"}
    own |= {"/.kubeq/gate", "/sbin/docker-init", "/usr/sbin/docker-init"}
    kernels = ("/proc", "/sys", "/dev")
    assert {place for place in places.decode().split() if not place.startswith(kernels)} <= own
    assert docker.output_of("sh", "-c", "! test -e /var/run/docker.sock && ! test -e /run/docker.sock") == b""


def test_the_program_that_comes_first_cannot_be_changed(docker: Rig) -> None:
    exit, _, _ = docker.run(docker.execution("sh", "-c", "echo x > /.kubeq/exec"))
    assert exit.code not in (0, None)


@pytest.mark.parametrize("source", ["/", "/run", "/var/run", "/var/run/docker.sock", "/run/../run/docker.sock"])
def test_a_mount_that_shows_the_engines_socket_is_refused(docker: Rig, source: str) -> None:
    execution = docker.execution("true", mounts=(Mount(source=source, target="/mnt"),))
    with pytest.raises(BackendError, match="socket"):
        docker.runtime.create(execution)


def test_a_link_to_the_engines_socket_is_refused_too(docker: Rig) -> None:
    link = docker.folder / "innocent"
    link.symlink_to("/var/run/docker.sock")
    with pytest.raises(BackendError, match="socket"):
        docker.runtime.create(docker.execution("true", mounts=(Mount(source=str(link), target="/mnt"),)))


def test_mounts_show_what_they_name_and_read_only_ones_cannot_be_written(docker: Rig) -> None:
    shown = docker.folder / "shown"
    shown.mkdir()
    (shown / "file").write_text("content\n")
    mount = Mount(source=str(shown), target="/input", read_only=True)
    exit, output, _ = docker.run(docker.execution("sh", "-c", "cat /input/file; echo > /input/new", mounts=(mount,)))
    assert exit.code not in (0, None) and output.startswith(b"content\n")
    assert [path.name for path in shown.iterdir()] == ["file"]


def test_a_mount_of_a_path_that_does_not_exist_is_refused_and_nothing_is_made(docker: Rig) -> None:
    missing = docker.folder / "missing"
    with pytest.raises(BackendError, match="missing"):
        docker.runtime.create(docker.execution("true", mounts=(Mount(source=str(missing), target="/mnt"),)))
    assert not missing.exists()


def test_privileges_cannot_be_gained(docker: Rig) -> None:
    status = docker.output_of("cat", "/proc/self/status").decode()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["NoNewPrivs"] == "1"
    forbidden = {"MKNOD": 27, "NET_RAW": 13, "AUDIT_WRITE": 29, "SYS_ADMIN": 21, "SYS_PTRACE": 19, "NET_ADMIN": 12}
    bounding = int(fields["CapBnd"], 16)
    assert [name for name, bit in forbidden.items() if bounding >> bit & 1] == []


def test_limits_are_in_force(docker: Rig) -> None:
    look = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2> /dev/null; df -k /dev/shm | tail -n 1"
    pids, shm = docker.output_of("sh", "-c", look, shm_size=96 << 20).decode().splitlines()
    assert pids == "4096"
    assert shm.split()[1] == str(96 << 10)


def test_a_command_killed_for_want_of_memory_is_told_from_one_that_was_killed(docker: Rig) -> None:
    hungry = python("x = bytearray(300_000_000); x[::4096] = x[::4096]")
    exit, _, usage = docker.run(docker.execution(*hungry, resources=Resources(memory=64 << 20)))
    assert exit == Exit(signal=9, out_of_memory=True)
    assert usage.peak_memory_bytes is not None and usage.peak_memory_bytes > 50 << 20
    assert docker.run(docker.execution("sh", "-c", "kill -9 $$"))[0] == Exit(signal=9)


def test_a_child_killed_for_want_of_memory_shows_although_the_command_went_on(docker: Rig) -> None:
    hungry = python("x = bytearray(300_000_000); x[::4096] = x[::4096]")
    shell = docker.execution("sh", "-c", '"$@"; exit 0', "sh", *hungry, resources=Resources(memory=64 << 20))
    assert docker.run(shell)[0] == Exit(code=0, out_of_memory=True)


def test_the_networks_are_what_they_say(docker: Rig) -> None:
    def interfaces(network: Network) -> set[str]:
        return set(docker.output_of("ls", "/sys/class/net", network=network).decode().split()) & {"lo", "eth0"}

    assert interfaces(Network.NONE) == {"lo"}
    assert interfaces(Network.SLOT) == interfaces(Network.BRIDGE) == {"lo", "eth0"}
    here = str(Path("/proc/self/ns/net").readlink())
    assert docker.output_of("readlink", "/proc/self/ns/net", network=Network.HOST).decode().strip() == here


def test_only_successive_attempts_of_one_slot_share_a_namespace(docker: Rig) -> None:
    def namespace(slot: int, network: Network) -> bytes:
        return docker.output_of("readlink", "/proc/self/ns/net", slot=slot, network=network)

    for network in (Network.SLOT, Network.NONE):
        assert namespace(0, network) == namespace(0, network) != namespace(1, network)
    assert namespace(0, Network.SLOT) != namespace(0, Network.NONE)
    assert len(docker.pauses()) == 4
    running, output = started(
        docker, docker.execution("sh", "-c", "readlink /proc/self/ns/net; exec sleep 300", network=Network.BRIDGE)
    )
    assert output.getvalue() != namespace(0, Network.BRIDGE)
    running.stop(0)
    running.wait(PATIENCE_S)
    running.remove()


def test_when_a_command_is_quiet_its_slots_ports_are_free_and_the_engine_need_not_know(docker: Rig) -> None:
    listen = "import socket, time; s = socket.socket(); s.bind(('', 7777)); s.listen(); print('ready', flush=True); "
    earlier: list[Running] = []
    for _ in range(4):
        running, output = started(docker, docker.execution(*python(listen + "time.sleep(300)")))
        assert output.getvalue() == b"ready\n"
        running.stop(0)
        assert running.quiet(PATIENCE_S)
        earlier.append(running)
    for running in earlier:
        assert running.wait(PATIENCE_S) == Exit(signal=9)
        running.remove()


def test_the_end_of_a_command_is_seen_before_the_engine_tells_it(docker: Rig) -> None:
    running = docker.runtime.create(docker.execution("sleep", "0.5", network=Network.BRIDGE)).start(BytesIO())
    assert running.quiet(PATIENCE_S)
    assert running.wait(0) is None, "the engine still takes the network down"
    assert running.wait(PATIENCE_S) == Exit(code=0)
    running.remove()


def test_parking_leaves_nothing_to_do_but_to_let_the_command_go(docker: Rig) -> None:
    created, output = docker.runtime.create(docker.execution("echo", "ran", network=Network.BRIDGE)), BytesIO()
    begun = time.monotonic()
    assert created.park(output)
    parked = time.monotonic()
    running = created.start(output)
    eventually(lambda: output.getvalue() == b"ran\n", "its output")
    assert time.monotonic() - parked < (parked - begun) / 2
    assert running.wait(PATIENCE_S) == Exit(code=0)
    running.remove()


@root_only
def test_a_parked_command_of_another_user_can_pass_its_gate(docker_as_stranger: Rig) -> None:
    created, output = docker_as_stranger.runtime.create(docker_as_stranger.execution("id", "-u")), BytesIO()
    assert created.park(output)
    running = created.start(output)
    assert (running.wait(PATIENCE_S), output.getvalue()) == (Exit(code=0), b"12345\n")
    running.remove()


def test_what_somebody_killed_at_its_gate_is_made_anew(docker: Rig) -> None:
    created, output = docker.runtime.create(docker.execution("echo", "ran")), BytesIO()
    created.park(output)
    listing = ["docker", "ps", "-q", "--filter", f"label={docker.label}.task"]
    parked = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
    assert len(parked) == 1
    subprocess.run(["docker", "rm", "-f", *parked], capture_output=True, check=True)
    eventually(lambda: created._parked.quiet(0), "its end is seen")  # type: ignore[union-attr]
    running = created.start(output)
    assert (running.wait(PATIENCE_S), output.getvalue()) == (Exit(code=0), b"ran\n")
    running.remove()


def test_a_network_that_ended_before_a_command_was_parked_in_it_is_made_anew(docker: Rig) -> None:
    docker.output_of("true")
    created, output = docker.runtime.create(docker.execution("echo", "ran")), BytesIO()
    subprocess.run(["docker", "rm", "-f", *docker.pauses()], capture_output=True, check=True)
    created.park(output)
    running = created.start(output)
    assert (running.wait(PATIENCE_S), output.getvalue()) == (Exit(code=0), b"ran\n")
    running.remove()


PARKING_AGENT = """
import sys
from pathlib import Path
from kubeq.core.model import JobId, NodeName, TaskId
from kubeq.core.resources import Resources
from kubeq.core.spec import Network
from kubeq_consumer.runtimes.base import Execution
from kubeq_consumer.runtimes.docker import DockerRuntime
runtime = {make}
execution = Execution(task=TaskId(JobId("job"), 7), attempt=3, node=NodeName("node-9"), slot=0, image={image!r},
    entrypoint=None, command=("touch", "ran"), work=Path({work!r}), directory=".", environment=(), user=None,
    network=Network.NONE, resources=Resources(), shm_size=None, mounts=())
runtime.create(execution).park(sys.stdout.buffer)
print("parked", flush=True)
sys.stdin.read()
"""


def test_what_a_dead_agent_had_parked_ends_without_having_run(docker: Rig) -> None:
    work = docker.folder / "left"
    work.mkdir()
    script = PARKING_AGENT.format(make=docker.make, image=docker.image, work=str(work))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pipes: dict[str, int] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    agent = subprocess.Popen([sys.executable, "-c", script], env=environment, **pipes)
    assert agent.stdout is not None and agent.stdout.readline() == b"parked\n"
    listing = ["docker", "ps", "-q", "--filter", f"label={docker.label}.task"]
    assert subprocess.run(listing, capture_output=True, check=True).stdout != b""
    agent.kill()
    agent.wait()
    eventually(lambda: subprocess.run(listing, capture_output=True, check=True).stdout == b"", "its end")
    for leftover in docker.runtime.leftovers():
        leftover.remove()
    assert list(work.iterdir()) == []


def test_where_there_can_be_no_gates_a_command_starts_at_its_turn(docker: Rig) -> None:
    docker.runtime._gates = False  # type: ignore[attr-defined]  # as of an engine in a virtual machine
    created, output = docker.runtime.create(docker.execution("echo", "ran")), BytesIO()
    assert not created.park(output)
    running = created.start(output)
    assert (running.wait(PATIENCE_S), output.getvalue()) == (Exit(code=0), b"ran\n")
    running.remove()


def test_a_slots_network_that_ended_is_made_anew(docker: Rig, docker_engine: str) -> None:
    docker.output_of("true")
    waiting = docker.runtime.create(docker.execution("echo", "after"))
    kept = docker.pauses()
    assert len(kept) == 1
    subprocess.run(["docker", "rm", "-f", *kept], capture_output=True, check=True)
    output = BytesIO()
    running = waiting.start(output)
    assert running.wait(PATIENCE_S) == Exit(code=0)
    running.remove()
    assert output.getvalue() == b"after\n"
    subprocess.run(["docker", "rm", "-f", *docker.pauses()], capture_output=True, check=True)
    assert docker.output_of("echo", "again") == b"again\n"


@root_only
def test_a_command_runs_as_the_submitting_user_and_can_write(docker_as_stranger: Rig) -> None:
    execution = docker_as_stranger.execution("sh", "-c", "id -u; id -g; echo $HOME; umask 077; mkdir d; echo x > d/f")
    os.chown(execution.work, STRANGER, STRANGER)
    exit, output, _ = docker_as_stranger.run(execution)
    assert (exit, output) == (Exit(code=0), b"12345\n12345\n/tmp\n")
    assert (execution.work / "d/f").stat().st_uid == STRANGER


@root_only
def test_what_root_inside_made_is_given_back_before_the_end_is_told(docker_as_stranger: Rig) -> None:
    write = "umask 077; mkdir d; echo x > d/f; ln -s /etc/passwd link; chmod 000 d; id -u"
    execution = docker_as_stranger.execution("sh", "-c", write, user="root")
    os.chown(execution.work, STRANGER, STRANGER)
    running = docker_as_stranger.runtime.create(execution).start(BytesIO())
    assert running.wait(PATIENCE_S) == Exit(code=0)
    owners = {path.name: path.lstat().st_uid for path in (execution.work, *execution.work.rglob("*"))}
    assert set(owners.values()) == {STRANGER} and {"d", "f", "link"} < set(owners)
    running.remove()


def test_an_unknown_user_never_starts(docker: Rig) -> None:
    exit, _, _ = docker.run(docker.execution("true", user="nobody-of-that-name"))
    assert exit.never_started is not None and "nobody-of-that-name" in exit.never_started


@pytest.fixture
def name(docker_engine: str) -> Iterator[str]:
    """A name for an image of one test, which is gone afterwards."""
    name = f"kubeq-test-{secrets.token_hex(4)}:1"
    yield name
    subprocess.run(["docker", "rmi", "-f", name], capture_output=True)


def test_the_images_entrypoint_is_used_only_when_asked_for(name: str, docker: Rig) -> None:
    dockerfile = f'FROM {docker.image}\nENTRYPOINT ["echo", "from the image:"]\n'
    subprocess.run(
        ["docker", "build", "-q", "-t", name, "-"],
        input=dockerfile.encode(),
        env=os.environ | {"DOCKER_BUILDKIT": "0"},
        capture_output=True,
        check=True,
    )
    image = docker.runtime.resolve(name)
    assert docker.output_of("echo", "plain", image=image) == b"plain\n"
    assert docker.output_of("words", image=image, entrypoint=()) == b"from the image: words\n"
    assert docker.output_of("words", image=image, entrypoint=("echo", "mine:")) == b"mine: words\n"


def test_an_image_is_pinned_to_what_never_moves(docker: Rig, base_image: str, busybox_image: str, name: str) -> None:
    pinned = docker.runtime.resolve(base_image)
    assert pinned == docker.image and "sha256:" in pinned
    assert docker.runtime.resolve(pinned) == pinned
    subprocess.run(["docker", "tag", base_image, name], check=True)
    before = docker.runtime.resolve(name)
    subprocess.run(["docker", "tag", busybox_image, name], check=True)
    assert before == pinned != docker.runtime.resolve(name)
    docker.runtime.prepare(before)


def test_an_image_that_cannot_be_had_is_refused_with_the_reason(docker: Rig) -> None:
    for ask in (docker.runtime.resolve, docker.runtime.prepare):
        with pytest.raises(ImageUnavailable, match=r"kubeq-no-such-image.*(exist|reached)"):
            ask("localhost:1/kubeq-no-such-image:1")
    with pytest.raises(ImageUnavailable, match="no registry can be asked"):
        docker.runtime.prepare(f"sha256:{'0' * 64}")
    with pytest.raises(ImageUnavailable):
        docker.runtime.create(docker.execution("true", image=f"sha256:{'0' * 64}"))


def test_a_name_that_no_image_can_have_is_refused_before_the_engine_is_asked(tmp_path: Path) -> None:
    runtime = make_docker(tmp_path, f"unix://{tmp_path}/no.sock", "kubeqtest")
    for name in ("-x", "Upper", "a b", "http://x/y", ""):
        with pytest.raises(UsageError):
            runtime.resolve(name)


def test_an_image_for_another_machine_is_refused_and_both_are_named(name: str, docker: Rig) -> None:
    subprocess.run(["docker", "load"], input=foreign_image(name), capture_output=True, check=True)
    with pytest.raises(ImageUnavailable, match=rf"{name} is for s390x, and this machine is \w+"):
        docker.runtime.resolve(name)


def foreign_image(name: str) -> bytes:
    """An empty image for a machine that nobody runs tests on, as `docker save` would write it."""
    layer = archive({})
    config = {
        "architecture": "s390x",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    return archive(
        {
            "layer.tar": layer,
            "config.json": json.dumps(config).encode(),
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_the_engines_image_is_not_needed_for_an_image_with_nothing_but_a_shell(docker: Rig, busybox_image: str) -> None:
    image = docker.runtime.resolve(busybox_image)
    assert docker.output_of("sh", "-c", "echo out; echo err >&2", image=image) == b"out\nerr\n"


def test_close_removes_the_networks_and_may_be_repeated(docker: Rig) -> None:
    docker.output_of("true")
    docker.runtime.close()
    docker.runtime.close()
    left = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label={docker.label}.agent"], capture_output=True, text=True, check=True
    )
    assert left.stdout == ""


def test_a_container_that_somebody_else_removed_has_vanished(docker: Rig) -> None:
    running, _ = started(docker, docker.execution("sh", "-c", "echo ready; sleep 300"))
    subprocess.run(["docker", "rm", "-f", *containers_of(docker)], capture_output=True, check=True)
    assert running.wait(PATIENCE_S) == Exit(vanished=True)
    running.remove()


def containers_of(rig: Rig) -> list[str]:
    """Those of tasks."""
    listing = ["docker", "ps", "-aq", "--filter", f"label={rig.label}.job"]
    return subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()


def test_without_an_engine_the_hint_names_both_ways_out(tmp_path: Path) -> None:
    runtime = make_docker(tmp_path, f"unix://{tmp_path}/no.sock", "kubeqtest")
    with pytest.raises(BackendError, match="no Docker engine answers at") as raised:
        runtime.leftovers()
    assert raised.value.hint == "start one, or use --image none"
    assert raised.value.transient


def test_an_engine_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="not on this machine"):
        make_docker(tmp_path, "tcp://192.0.2.1:2375", "kubeqtest").leftovers()


class Gate:
    """A socket in front of the engine's, which can be closed as an engine that dies closes its own."""

    def __init__(self, place: Path, engine: str) -> None:
        self._place = place
        self._engine = engine
        self._connections: list[socket.socket] = []
        self._server: socket.socket | None = None

    def open(self) -> None:
        self._place.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self._place))
        self._server.listen()
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def close(self) -> None:
        assert self._server is not None
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._place.unlink()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._engine)
                self._connections += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while received := one.recv(65536):
                other.sendall(received)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def gated(docker: Rig, docker_engine: str, tmp_path: Path) -> Iterator[tuple[Rig, Gate]]:
    gate = Gate(tmp_path / "gate", docker_engine.removeprefix("unix://"))
    gate.open()
    rig = Rig(make_docker(tmp_path, f"unix://{tmp_path}/gate", docker.label), docker.image, tmp_path, "", docker.label)
    yield rig, gate
    rig.runtime.close()
    gate.close()


def test_a_command_that_survives_the_engines_absence_is_followed_to_its_end(gated: tuple[Rig, Gate]) -> None:
    rig, gate = gated
    wait = "echo ready; while [ ! -e go ]; do sleep 0.05; done; echo after; exit 3"
    execution = rig.execution("sh", "-c", wait)
    running, output = started(rig, execution)
    gate.close()
    assert running.wait(0.5) is None
    gate.open()
    eventually(lambda: b"output may be missing" in output.getvalue(), "the line that marks the gap")
    (execution.work / "go").touch()
    assert running.wait(PATIENCE_S) == Exit(code=3)
    running.remove()
    assert output.getvalue().endswith(b"after\n")


def test_a_command_that_the_engine_took_with_it_has_vanished(gated: tuple[Rig, Gate]) -> None:
    rig, gate = gated
    running, output = started(rig, rig.execution("sh", "-c", "echo ready; sleep 300"))
    gate.close()
    subprocess.run(["docker", "kill", *containers_of(rig)], capture_output=True, check=True)
    assert running.wait(0.5) is None
    gate.open()
    assert running.wait(PATIENCE_S) == Exit(vanished=True)
    assert b"output may be missing" in output.getvalue()
    running.remove()


def test_an_engine_that_is_away_makes_creation_fail_for_now_and_serves_again_later(gated: tuple[Rig, Gate]) -> None:
    rig, gate = gated
    assert rig.output_of("echo", "before") == b"before\n"
    gate.close()
    with pytest.raises(BackendError) as raised:
        rig.runtime.create(rig.execution("true"))
    assert raised.value.transient
    gate.open()
    assert rig.output_of("echo", "after") == b"after\n"


@root_only
def test_the_files_of_a_dead_agents_task_are_given_back_with_its_removal(docker_as_stranger: Rig) -> None:
    rig = docker_as_stranger
    execution = rig.execution("sh", "-c", "umask 077; echo x > f; echo ready; sleep 300", user="0", node=NodeName("n2"))
    os.chown(execution.work, STRANGER, STRANGER)
    running, _ = started(rig, execution)
    assert isinstance(rig.runtime, DockerRuntime)
    left = containers_of(rig)[0]
    DockerLeftover(task=None, attempt=1, node=NodeName("n2"), container=left, runtime=rig.runtime).remove()
    assert (execution.work / "f").stat().st_uid == STRANGER
    assert running.wait(PATIENCE_S) == Exit(vanished=True)
