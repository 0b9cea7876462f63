"""50 trivial commands on 3 hosts of one's own, against GNU parallel with the same hosts: `python -m bench ssh`.

The hosts are the tests' containers with sshd, so everything shares this machine's cores. GNU parallel logs in for every
command and needs Perl there, which is put on the hosts first; kubeq logs in once a host, to start an agent.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.rounds import KUBEQ, Home, Target, report

COMMANDS, HOSTS, SLOTS = 50, 3, 2
LINES = "".join(f"{number}\n" for number in range(1, COMMANDS + 1)).encode()
EXPECTED = sorted(f"executed: {number}" for number in range(1, COMMANDS + 1))


class Hosts:
    """The hosts to log in to, as either side names them."""

    def __init__(self, addresses: Sequence[str], key: Path, known_hosts: Path) -> None:
        self.ours = ",".join(f"ada@{address}" for address in addresses)
        self.theirs = ",".join(f"{SLOTS}/ada@{address}" for address in addresses)
        self.environment = {
            "KUBEQ_HOSTS": self.ours.replace(",", "\n"),
            "KUBEQ_SSH_IDENTITY": str(key),
            "KUBEQ_SSH_KNOWN_HOSTS": str(known_hosts),
            "KUBEQ_IMAGE": "none",
            "PARALLEL_SSH": f"ssh -i {key} -o UserKnownHostsFile={known_hosts}",
        }


def run(rounds: int = 3) -> None:
    """Print the ratios: with hosts on which nothing of ours runs yet, and with agents there from the job before."""
    from tests.stand_ins.ssh_hosts import ssh_hosts

    if shutil.which("parallel") is None:
        print("ssh: GNU parallel is not installed here (apt-get install parallel)")
        return
    with (
        tempfile.TemporaryDirectory(prefix="kubeq-bench-") as folder,
        ssh_hosts(Path(folder), HOSTS, environment={"WITHOUT_DOCKER": "1"}) as hosts,
    ):
        for host in hosts:
            _put_perl(host.container.id)
        _compare(Hosts([host.address for host in hosts], hosts[0].key, hosts[0].known_hosts), rounds)


def _compare(hosts: Hosts, rounds: int) -> None:
    theirs: list[tuple[float, float]] = []
    cold: list[tuple[float, float]] = []
    warm: list[tuple[float, float]] = []
    for _ in range(rounds):
        words = ("parallel", "--will-cite", "-S", hosts.theirs, "echo", "executed:", "{}")
        theirs.append(_watched(words, {**os.environ, **hosts.environment}, Path.cwd()))
        home = Home()
        home.env |= hosts.environment
        try:
            for figures in (cold, warm):
                wall = _wall((*KUBEQ, "-q", "sub", "--stdin", "echo", "executed:"), home)
                if figures is cold:
                    home.kubeq("pool", "down")
                first, _ = _watched(("sh", "-c", _SUBMIT_AND_WATCH), home.env, home.path)
                figures.append((first, wall))
        finally:
            home.kubeq("pool", "down")
            home.remove()
    name = f"{COMMANDS} x echo on {HOSTS} hosts / GNU parallel"
    for which, figures, target in (("cold", cold, Target(2, 1)), ("warm", warm, Target(1, 0.5))):
        report(f"{name}, {which}: wall", [wall for _, wall in figures], [wall for _, wall in theirs], target)
        report(f"{name}, {which}: first line", [at for at, _ in figures], [at for at, _ in theirs], Target(10, 5))


_SUBMIT_AND_WATCH = (
    f"{' '.join(KUBEQ)} -q sub --no-wait --stdin echo executed: > /dev/null && {' '.join(KUBEQ)} watch LAST --logs"
)


def _wall(words: Sequence[str], home: Home) -> float:
    """Seconds until it has ended."""
    started = time.perf_counter()
    subprocess.run(words, input=LINES, cwd=home.path, env=home.env, check=True, capture_output=True)
    return time.perf_counter() - started


def _watched(words: Sequence[str], environment: dict[str, str], folder: Path) -> tuple[float, float]:
    """Seconds until its first byte, and until it has ended; it must print what is expected, in any order."""
    with tempfile.TemporaryFile() as given:
        given.write(LINES)
        given.seek(0)
        started = time.perf_counter()
        process = subprocess.Popen(
            words, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, cwd=folder
        )
        assert process.stdout is not None
        printed = process.stdout.read(1)
        first = time.perf_counter() - started
        printed += process.stdout.read()
        process.wait()
    lines = sorted(line.partition("] ")[2] or line for line in printed.decode().splitlines())
    if process.returncode != 0 or lines != EXPECTED:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode} and printed {len(lines)} lines")
    return first, time.perf_counter() - started


def _put_perl(container: str) -> None:
    """Debian's perl-base, from this machine, on a host."""
    names = subprocess.run(["dpkg", "-L", "perl-base"], check=True, capture_output=True, text=True).stdout.split("\n")
    linked = subprocess.run(["ldd", shutil.which("perl") or "perl"], check=True, capture_output=True, text=True).stdout
    libraries = [os.path.realpath(word) for word in linked.split() if word.startswith("/") and "crypt" in word]
    there = [name for name in names if Path(name).is_file() and "/doc/" not in name and "/man/" not in name]
    wanted = [*there, *libraries, *(word for word in linked.split() if word.startswith("/") and "crypt" in word)]
    packed = subprocess.run(["tar", "-cf", "-", "-C", "/", *(name.lstrip("/") for name in wanted)], capture_output=True)
    subprocess.run(
        ["docker", "exec", "-i", container, "tar", "-xf", "-", "-C", "/"],
        input=packed.stdout,
        check=True,
    )
