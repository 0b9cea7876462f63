"""Machines of the emulated Compute Engine: containers that run the very startup script, with an engine of their own.

True to a machine are: nothing but its metadata says what it becomes; the metadata service at 169.254.169.254 is another
machine on its network, to which only what carries `Metadata-Flavor: Google` speaks; `poweroff` ends it; what ends it
presses the power button first. Not true: there is no systemd, and kernel, clock and load are this machine's.
"""

from __future__ import annotations

import io
import json
import secrets
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker

from kubeq.machine import own_mark
from tests.stand_ins.forwarding import INSIDE, forwarded
from tests.stand_ins.gce_wire import Json, last
from tests.stand_ins.ssh_hosts import LABEL, machine_settings, own_network, remove_orphans

POWER_ON = """\
#!/bin/sh
# From power-on to power-off; the child of PID 1, which hands on the TERM that means "shut down".
stop() {
    kill -TERM "$startup" 2>/dev/null
    waited=0
    while kill -0 "$startup" 2>/dev/null && [ "$waited" -lt 1800 ]; do sleep 0.05; waited=$((waited + 1)); done
    exit 0
}
mkdir -p /run/sshd /run/netns /home/kubeq/.ssh
/usr/sbin/ip netns add metadata
/usr/sbin/ip link add meta0 type veth peer name meta1
/usr/sbin/ip link set meta1 netns metadata
/usr/sbin/ip addr add 169.254.169.253/30 dev meta0
/usr/sbin/ip link set meta0 up
/usr/sbin/ip netns exec metadata /usr/sbin/ip addr add 169.254.169.254/30 dev meta1
/usr/sbin/ip netns exec metadata /usr/sbin/ip link set meta1 up
/usr/sbin/ip netns exec metadata /usr/sbin/ip route add default via 169.254.169.253
/usr/sbin/ip netns exec metadata python3 /opt/metadata.py &
python3 /opt/forwarding.py /opt/outside &
echo 'kubeq:x:0:0::/home/kubeq:/bin/sh' >>/etc/passwd  # Google's agent makes users who may become root
echo 'kubeq:*:19000:0:99999:7:::' >>/etc/shadow
cp /opt/authorized_keys /home/kubeq/.ssh/authorized_keys && chmod -R go= /home/kubeq
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
/usr/sbin/sshd
while :; do
    rm -f /var/run/docker.pid /var/run/docker/containerd/containerd.pid
    dockerd --group 999 --storage-driver overlay2 >>/var/log/dockerd.log 2>&1
    sleep 1
done &
if [ -f /opt/images.tar ]; then
    until docker load -q -i /opt/images.tar >/dev/null 2>&1; do sleep 0.1; done
fi
setsid /opt/startup-script 2>&1 &
startup=$!
trap stop TERM USR2  # with the latter busybox asks its init to power off
wait "$startup"
echo "startup-script exit status $?"
while :; do sleep 1000 & wait $!; done
"""
POWER_OFF = "#!/bin/sh\nkill -TERM 1\n"
SUDO = '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"\n'
METADATA = '''\
"""The metadata service, for the machine beside whose network this runs."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        with open("/opt/metadata.json") as file:
            pages = json.load(file)
        if self.headers.get("Metadata-Flavor") != "Google":
            return self.answer(403, "Missing Metadata-Flavor:Google header.")
        text = pages.get(self.path.partition("?")[0].removeprefix("/computeMetadata/v1/"))
        self.answer(404 if text is None else 200, text or "")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *words):
        pass


ThreadingHTTPServer(("169.254.169.254", 80), Service).serve_forever()
'''
TOKEN = "instance/service-accounts/default/token"
PREEMPTED = "instance/preempted"


class DockerMachinery:
    """Makes machines of that image on that network. `outside` holds the sockets of what they reach."""

    def __init__(self, client: Any, image: str, network: Any, outside: Path, images: Path) -> None:
        self._client = client
        self._image = image
        self._network = network
        self._outside = outside
        self._images = images
        self._machines: dict[str, Any] = {}
        self._pages: dict[str, dict[str, str]] = {}
        self._printed: dict[str, str] = {}

    def start(self, instance: Json) -> str:
        """See Machinery."""
        api, name = self._client.api, instance["name"]
        binds = [f"{self._outside}:/opt/outside", f"{self._images}:/opt/images.tar:ro"]
        hosts = {"metadata.google.internal": "169.254.169.254"}
        made = api.create_container(
            self._image,
            ["/opt/power-on"],
            name=f"kubeq-gce-{name}",
            hostname=name,
            labels={LABEL: str(own_mark())},
            host_config=machine_settings(api, self._network.name, binds=binds, extra_hosts=hosts),
            volumes=["/var/lib/docker"],  # a real file system, so that the engine inside can use overlay2
        )
        container = self._client.containers.get(made["Id"])
        attributes = {item["key"]: item["value"] for item in instance["metadata"]["items"]}
        self._pages[name] = _pages(instance, attributes)
        container.put_archive("/", _archive(self._files(name, attributes)))
        self._machines[name] = container
        container.start()
        container.reload()
        return str(container.attrs["NetworkSettings"]["Networks"][self._network.name]["IPAddress"])

    def is_on(self, name: str) -> bool:
        """See Machinery."""
        container = self._machines[name]
        with suppress(docker.errors.NotFound):
            container.reload()
            return bool(container.status not in ("exited", "dead"))
        return False

    def notify(self, name: str) -> None:
        """See Machinery. Its metadata service says so from now on."""
        self._pages[name][PREEMPTED] = "TRUE"
        pages = {"opt/metadata.json": json.dumps(self._pages[name])}
        self._machines[name].put_archive("/", _archive(pages))

    def shut_down(self, name: str, grace_s: float) -> None:
        """See Machinery."""
        with suppress(docker.errors.NotFound):
            self._machines[name].stop(timeout=int(grace_s))

    def cut_power(self, name: str) -> None:
        """All of it dies at once."""
        self._machines[name].kill()

    def remove(self, name: str) -> None:
        """See Machinery."""
        self._printed[name] = self.console(name)
        if name in self._machines:
            with suppress(docker.errors.APIError):
                self._machines[name].remove(force=True, v=True)

    def console(self, name: str) -> str:
        """See Machinery."""
        if name in self._printed or name not in self._machines:
            return self._printed.get(name, "")
        with suppress(docker.errors.NotFound):
            return str(self._machines[name].logs().decode(errors="replace"))
        return ""

    def run(self, name: str, *words: str) -> tuple[int, str]:
        """The exit code of a command on the machine, and what it printed."""
        answer = self._machines[name].exec_run(list(words))
        return answer.exit_code, answer.output.decode(errors="replace")

    def _files(self, name: str, attributes: Mapping[str, str]) -> dict[str, str]:
        return {
            "opt/power-on": POWER_ON,
            "opt/metadata.py": METADATA,
            "opt/forwarding.py": INSIDE,
            "opt/metadata.json": json.dumps(self._pages[name]),
            "opt/startup-script": attributes.get("startup-script", "#!/bin/sh\n"),
            "opt/authorized_keys": attributes.get("ssh-keys", "").partition(":")[2] + "\n",
            "usr/sbin/sudo": SUDO,
            **{f"usr/sbin/{word}": POWER_OFF for word in ("poweroff", "shutdown")},
        }


def _pages(instance: Json, attributes: Mapping[str, str]) -> dict[str, str]:
    token = {"access_token": f"token-of-{instance['name']}", "expires_in": 3599, "token_type": "Bearer"}
    return {
        TOKEN: json.dumps(token),
        PREEMPTED: "FALSE",
        "instance/name": instance["name"],
        "instance/id": instance["id"],
        "instance/zone": f"projects/1/zones/{last(instance['zone'])}",
        **{f"instance/attributes/{key}": value for key, value in attributes.items()},
    }


def _archive(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


@contextmanager
def docker_machinery(
    image: str, ports: Sequence[int], images: Sequence[str], folder: Path
) -> Iterator[DockerMachinery]:
    """Machines of that host image that have those task images and reach those ports of this machine; for a block."""
    client = docker.from_env(timeout=120)
    remove_orphans(client)
    network = own_network(client, secrets.token_hex(3))
    saved = folder / "images.tar"
    subprocess.run(["docker", "save", "-o", saved, *images], check=True, capture_output=True)
    try:
        with forwarded(ports) as outside:
            yield DockerMachinery(client, image, network, outside, saved)
    finally:
        for container in client.containers.list(all=True, filters={"network": network.name}):
            container.remove(force=True, v=True)
        network.remove()
        client.close()
