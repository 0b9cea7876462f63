"""An emulated cloud as several machines see it: homes that are configured for it, agents in folders of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.homes import ROOT, Home
from tests.stand_ins.base import serving

PYTHON = Path(sys.base_prefix) / "bin"
"""Where the Python below the virtual environment of the tests is, which has no kubeq."""
KEPT_BY_IMAGE = "/var/lib/kubeq"


@dataclass
class Backplane:
    """A queue and a store in an emulated cloud; `environment` leads there. What is started here ends with `end`."""

    queue_url: str
    store_url: str
    environment: Mapping[str, str]
    folder: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    containers: list[str] = field(default_factory=list)
    homes: list[Home] = field(default_factory=list)

    def home(self, name: str) -> Home:
        """A user's home with nothing in it but the configuration."""
        home = Home(self.folder / name, **self.environment, KUBEQ_LEASE="6", KUBEQ_POLL="0.5")
        (home.cwd / ".kubeq").write_text(
            f"[config]\ndefault_url_prefix = {self.store_url}\nqueue_url = {self.queue_url}\n"
            "provider = local\nconsumer_image = kubeq-test-consumer\n"
        )
        self.homes.append(home)
        return home

    def machine(self, name: str) -> Path:
        """A folder that stands for another machine."""
        folder = self.folder / name
        folder.mkdir()
        return folder

    def start(self, line: str, machine: Path) -> subprocess.Popen[str]:
        """What somebody types there, with the cloud's variables in the shell; what it prints is kept beside it."""
        environment = {**self.environment, "HOME": str(machine), "PATH": f"{PYTHON}:/usr/bin:/bin"}
        with (machine / "printed").open("a") as printed:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {line}"],
                cwd=machine,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                text=True,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def start_container(self, line: str, node: str, machine: Path) -> None:
        """The same for the image's line, whose folder becomes one of the machine's."""
        self.containers.append(f"kubeq-{node}")
        started = self.start(line.replace(KEPT_BY_IMAGE, f"{machine}/kept"), machine)
        assert started.wait(60) == 0, (machine / "printed").read_text()

    def kill(self, process: subprocess.Popen[str]) -> None:
        """The agent, its supervisor and all that belongs to them, with no chance to say anything."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def leave(self, home: Home) -> None:
        """The user's machine is gone, and everything on it."""
        home.end()
        self.homes.remove(home)
        shutil.rmtree(home.root)

    def end(self, jobs: Sequence[str] = ()) -> None:
        """Nothing runs any more of what was started here, or of those jobs."""
        for process in self.processes:
            if process.poll() is None:
                self.kill(process)
        for home in self.homes:
            home.end()
        for agent in self.containers:  # asked first, so that it removes what it keeps for its slots
            subprocess.run(["docker", "stop", "-t", "60", agent], capture_output=True, check=False)
        for container in [*self.containers, *(name for job in jobs for name in containers_of(job))]:
            subprocess.run(["docker", "rm", "-f", "-v", container], capture_output=True, check=False)


@contextmanager
def datastore_process(folder: Path) -> Iterator[dict[str, str]]:
    """What leads to a Datastore in a process of its own: beside one in this process, gRPC lets nobody start another."""
    program = [sys.executable, "-m", "tests.stand_ins.datastore_emulator"]
    environment = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "consumer")))}
    with serving(lambda _: program, lambda _: environment, lambda server: "\n" in server.said(), folder) as server:
        name, _, address = server.said().splitlines()[0].partition("=")
        yield {name: address}


def containers_of(job: str) -> list[str]:
    """What the engine has of a job; it fails to list while somebody else's container goes."""
    listing = ["docker", "ps", "-aq", "--filter", f"label=kubeq.job={job}"]
    tries = (subprocess.run(listing, capture_output=True, text=True, check=False) for _ in range(20))
    return next((done.stdout.split() for done in tries if done.returncode == 0), [])
