"""A machine that boots: a container which runs a boot text as root, with a metadata service that only it can reach.

With an engine of its own it is real in what the text does (Docker, iptables, the agent); what is missing is systemd, so
the text goes the way of machines without it, and `poweroff` is a script that ends the container.
The shell is bash, since busybox would run a `poweroff` of its own.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubeq.machine import own_mark
from tests.stand_ins.ssh_hosts import CAPABILITIES, LABEL

POWEROFF = "#!/bin/sh\nkill -USR1 1\n"
SWITCHED_OFF = 42
"""With what a container ends in which `poweroff` was called."""
METADATA = """\
import http.server, threading
class Service(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the credentials of the node")
    def log_message(self, *words): pass
servers = [http.server.ThreadingHTTPServer((address, port), Service)
           for address in ("169.254.169.254", "169.254.170.2") for port in (53, 80)]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever).start()
servers[0].serve_forever()
"""
"""Answers on the port of names too: whoever reaches that one and not the other is kept from the credentials alone."""
START = """\
trap 'exit 42' USR1
ln -sf bash /bin/sh
rm -f /bin/poweroff /sbin/poweroff /usr/bin/poweroff /usr/sbin/poweroff
printf '%s' "$POWEROFF" > /usr/local/sbin/poweroff
chmod 755 /usr/local/sbin/poweroff
ip addr add 169.254.169.254/32 dev lo
ip addr add 169.254.170.2/32 dev lo
python3 -c "$METADATA" > /dev/null 2>&1 &
dockerd --storage-driver overlay2 > /var/log/dockerd.log 2>&1 &
while [ ! -e /boot-text ]; do sleep 0.1; done
/bin/bash --posix /boot-text &
while :; do sleep 1 & wait $!; done
"""


@dataclass(frozen=True, slots=True)
class Box:
    """One machine, switched on."""

    name: str

    def run(self, *words: str, check: bool = True) -> str:
        """What a command there printed."""
        done = subprocess.run(["docker", "exec", self.name, *words], capture_output=True, text=True)
        assert done.returncode == 0 or not check, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def put(self, file: Path, place: str) -> None:
        """Have the file there."""
        self.run("mkdir", "-p", str(Path(place).parent))
        subprocess.run(["docker", "cp", str(file), f"{self.name}:{place}"], check=True, capture_output=True)

    def load(self, image: str) -> None:
        """Have this machine's image on the engine there."""
        self.wait_until("docker", "version")
        save = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
        load = ["docker", "exec", "-i", self.name, "docker", "load", "-q"]
        subprocess.run(load, stdin=save.stdout, check=True, capture_output=True)
        assert save.wait() == 0

    def boot(self, text: str, folder: Path) -> None:
        """Run that text, as at the machine's first boot."""
        (folder / "boot-text").write_text(text)
        self.put(folder / "boot-text", "/boot-text")

    def wait_until(self, *words: str, seconds: float = 60.0) -> None:
        """Return once the command there succeeds."""
        deadline = time.monotonic() + seconds
        while subprocess.run(["docker", "exec", self.name, *words], capture_output=True).returncode != 0:
            assert time.monotonic() < deadline, f"not in time: {words}\n{self.console()}"
            time.sleep(0.1)

    def wait_until_off(self, seconds: float = 120.0) -> None:
        """Return once the machine has switched itself off."""
        try:
            waited = subprocess.run(
                ["docker", "wait", self.name], check=True, capture_output=True, text=True, timeout=seconds
            )
            assert int(waited.stdout) == SWITCHED_OFF, waited.stdout + self.console()
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the machine is not off after {seconds:g} s:\n{self.console()}") from None

    def console(self) -> str:
        """All that the machine has printed."""
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr


@contextmanager
def boot_box(image: str, name: str, shown: Sequence[Path] = ()) -> Iterator[Box]:
    """A machine made of that image, which has an engine; it is shown those folders, and gone afterwards."""
    words = [word for capability in CAPABILITIES for word in ("--cap-add", capability)]
    mounts = [word for path in shown for word in ("--volume", f"{path}:{path}")]
    command = [
        *("docker", "run", "--detach", "--init", "--name", name, "--hostname", name, *words, *mounts),
        *("--label", f"{LABEL}={own_mark()}"),
        *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
        *("--security-opt", "systempaths=unconfined", "--device-cgroup-rule", "a *:* rwm"),
        *("--tmpfs", "/run", "--tmpfs", "/tmp:exec", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"),
        *("--volume", "/var/lib/docker", "--env", f"POWEROFF={POWEROFF}", "--env", f"METADATA={METADATA}"),
        *(image, "sh", "-c", START),
    ]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield Box(name)
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)
