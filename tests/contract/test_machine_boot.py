"""What a boot text does when something fails: run for real, in a container, with programs that fail as a test says.

`poweroff` writes down that it was called, short pauses take no time, and the agent is a line of shell. The shell is
bash, since busybox would run tools of its own before those of the test.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from kubeq.core.digest import Digest
from kubeq.core.machines import Machine, Machines, Volume
from kubeq.core.model import NodeName, PoolId
from kubeq.nodes.archive import Archive
from kubeq.nodes.base import NodeRequest
from kubeq.nodes.forms import StoredAgent
from kubeq.nodes.machine_boot import EC2, machine_text

pytestmark = pytest.mark.docker
FINE = "exit 0\n"
FAILS = "exit 1\n"
SLEEP = "case $1 in 6|12|18|24|30|120) exit 0 ;; esac\nexec busybox sleep $1\n"
"""The pauses between tries take no time; those of the timers do."""
FETCHES = 'case $1 in -c) exit 0 ;; -) busybox cat >/dev/null; exit 0 ;; esac\necho "the agent: $2"\n'
HANGS = FETCHES + "for try in 1 2 3 4 5 6 7 8 9; do [ -e /out/off ] || busybox sleep 1; done\n"
PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(11, 16)))
PROGRAMS = {
    "sh": 'exec /bin/bash --posix "$@"\n',
    "apt-get": FAILS,
    "docker": FINE,
    "iptables": FINE,
    "ip6tables": FINE,
    "python3": FETCHES,
    "sleep": SLEEP,
    "poweroff": "[ $# = 0 ] && echo off >>/out/off\n",
    "mountpoint": FAILS,
    "blkid": "[ $1 = -p ] && exit 2\nexit 1\n",
    "mkfs.ext4": 'echo "mkfs $*"\n',
    "mount": 'echo "mount $*"\n',
}


def boot(
    image: str, folder: Path, programs: Mapping[str, str] = {}, *, lifetime_s: float = 300.0, register_s: int = 300,
    volumes: tuple[Volume, ...] = (), name: str | None = None
) -> tuple[int, str, str]:  # fmt: skip
    """The exit code of the text, what it printed, and what `poweroff` wrote down."""
    digest = Digest.of(b"agent")
    archive = Archive(path=folder, digest=digest, release="r", python=11)
    request = NodeRequest(
        pool=PoolId("p1"),
        queue_url="dynamodb://r/t",
        store_url="s3://b/x",
        blobs_url="s3://b/x",
        state_dir=folder,
        cache_dir=folder,
        linger_s=1.0,
        linger_others_s=1.0,
        poll_s=1.0,
        machines=Machines(region="r", lifetime_s=lifetime_s, volumes=volumes),
        agent=StoredAgent(url="s3://b/x", digest=digest, extras=("aws",), archive=archive),
    )
    cloud = replace(EC2, register_s=register_s)
    text = machine_text(request, NodeName("p1-3"), 3, Machine(type="t", zone="z", spot=False), cloud)
    (folder / "bin").mkdir()
    (folder / "out").mkdir()
    for program, lines in {**PROGRAMS, **programs}.items():
        (folder / "bin" / program).write_text(f"#!/bin/bash\n{lines}")
        (folder / "bin" / program).chmod(0o755)
    (folder / "bin/text").write_text(text)
    mounts = ["--volume", f"{folder}/bin:/stubs:ro", "--volume", f"{folder}/out:/out"]
    line = "mknod /dev/sdf b 7 250; exec /bin/bash --posix /stubs/text"
    named = ["--name", name] if name else []
    words = ["docker", "run", "--rm", *named, *mounts, "--env", "PATH=/stubs:/usr/bin:/bin", image, "sh", "-c", line]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    off = folder / "out/off"
    return done.returncode, done.stdout + done.stderr, off.read_text() if off.exists() else ""


@pytest.mark.parametrize(
    ("programs", "words"),
    [
        ({"docker": FAILS}, "its Docker engine does not answer"),
        ({"iptables": FAILS}, "its metadata service 169.254.169.254 cannot be closed to tasks"),
        (dict.fromkeys(PYTHONS, FAILS), "Python 3.11 or newer cannot be installed"),
        ({"python3": "[ $1 = -c ]\n"}, "the agent cannot be fetched"),
    ],
)
def test_whatever_fails_is_said_on_the_console_and_ends_the_machine(
    base_image: str, tmp_path: Path, programs: Mapping[str, str], words: str
) -> None:
    code, printed, off = boot(base_image, tmp_path, programs)
    assert f"kubeq: this machine cannot become a node: {words}\n" in printed
    assert printed.endswith("kubeq: node p1-3 has ended with 1, and this machine switches itself off\n")
    assert "the agent: " not in printed, "nothing runs on a machine that is not ready"
    assert (code, off) == (1, "off\n")


def test_where_the_usual_python_is_too_old_a_newer_one_is_installed_beside_it(base_image: str, tmp_path: Path) -> None:
    installs = 'case "$*" in *" python3.12") cp /stubs/newer /usr/bin/python3.12 ;; *" python3") ;; *) exit 1 ;; esac\n'
    old = {name: FAILS for name in PYTHONS if name != "python3.12"}
    code, printed, _ = boot(base_image, tmp_path, old | {"apt-get": installs, "newer": FETCHES})
    assert "the agent: --supervise\n" in printed
    assert code == 0


def test_an_agents_end_is_the_machines_and_its_last_word_is_told(base_image: str, tmp_path: Path) -> None:
    code, printed, off = boot(base_image, tmp_path, {"python3": FETCHES + "exit 5\n"})
    assert "the agent: --supervise\nkubeq: node p1-3 has ended with 5" in printed
    assert (code, off) == (5, "off\n")


def test_where_there_is_no_raw_table_two_others_close_the_metadata(base_image: str, tmp_path: Path) -> None:
    rules = 'case "$*" in *"-t raw"* | *" -C "*) exit 1 ;; esac\necho "$*"\n'
    code, printed, _ = boot(base_image, tmp_path, {"iptables": rules})
    for chain in ("DOCKER-USER", "INPUT ! -i lo"):
        assert f"-w 60 -t filter -I {chain} -d 169.254.170.2 -p tcp ! --dport 53 -j DROP\n" in printed
    assert (code, "the agent: " in printed) == (0, True)


@pytest.mark.parametrize("limit", ["lifetime_s", "register_s"])
def test_a_machine_ends_in_time_whatever_its_agent_does(base_image: str, tmp_path: Path, limit: str) -> None:
    more = {"lifetime_s": 300.0, "register_s": 300, limit: 2}
    code, printed, off = boot(base_image, tmp_path, {"python3": HANGS}, **more)  # type: ignore[arg-type]
    assert off == "off\noff\n", "once by the timer, once because the agent left then"
    assert (code, "the agent: " in printed) == (0, True)


def test_a_machine_whose_agent_is_registered_is_left_alone(base_image: str, tmp_path: Path) -> None:
    registers = FETCHES + ": >/run/kubeq/registered; busybox sleep 6\n"
    _, _, off = boot(base_image, tmp_path, {"python3": registers}, register_s=3)
    assert off == "off\n"


@pytest.mark.parametrize(("blkid", "formatted"), [("exit 2\n", True), ("[ $1 = -p ]\n", False)])
def test_a_volume_is_formatted_only_if_nothing_is_on_it(
    base_image: str, tmp_path: Path, blkid: str, formatted: bool
) -> None:
    volumes = (Volume(path="/data", size=2**30),)
    code, printed, _ = boot(base_image, tmp_path, {"blkid": blkid}, volumes=volumes)
    assert ("mkfs -q -F -L kubeq-1 /dev/sdf\n" in printed) is formatted
    assert "mount /dev/sdf /data\n" in printed
    assert code == 0


def test_who_asks_the_machine_to_end_asks_the_agent(base_image: str, tmp_path: Path) -> None:
    leaves = FETCHES + "trap 'echo it leaves; exit 0' TERM\n: >/out/up\nwhile :; do busybox sleep 0.1; done\n"
    name = f"kubeq-boot-{tmp_path.name}"[:60]
    stop = f"until [ -e {tmp_path}/out/up ]; do sleep 0.1; done; docker kill --signal TERM {name}"
    with subprocess.Popen(["sh", "-c", stop], stdout=subprocess.DEVNULL) as stopping:
        began = time.monotonic()
        code, printed, off = boot(base_image, tmp_path, {"python3": leaves}, name=name)
        assert stopping.wait(60) == 0
    assert "it leaves\nkubeq: node p1-3 has ended with 0" in printed
    assert (code, off) == (0, "off\n"), time.monotonic() - began
