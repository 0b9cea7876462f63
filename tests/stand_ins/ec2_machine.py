"""A machine of the emulated EC2: a container that runs its user data as root, with a Docker engine of its own inside.

Runs in the stand-in's environment (`ec2_server`), which knows neither kubeq nor pytest. True to a machine are: nothing
but the user data says what it becomes; it has a metadata service of its own at 169.254.169.254, which wants a session
token; `poweroff` ends it; what ends it first asks the user data to end; it lets root in as Amazon's own images do.
Not true: there is no systemd, the metadata service is no hop away (so a hop limit keeps nobody from it), and kernel,
clock and load are this machine's.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import docker
from forwarding import INSIDE  # type: ignore[import-not-found]

GRACE_S = 20
"""Between the TERM that a machine gets when it is ended, and the KILL."""
CAPABILITIES = (  # noqa: SIM905
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN "
    "SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ"
).split()
POWER_ON = """\
#!/bin/sh
# From power-on to power-off; the child of PID 1, which hands on the TERM that means "shut down".
stop() {
    kill -TERM "$boot" 2>/dev/null
    waited=0
    while kill -0 "$boot" 2>/dev/null && [ "$waited" -lt 300 ]; do sleep 0.05; waited=$((waited + 1)); done
    exit 0
}
mkdir -p /run/sshd /root/.ssh
[ -f /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
ip addr add 169.254.169.254/32 dev lo
python3 /opt/metadata.py &
python3 /opt/forwarding.py /opt/outside &
/usr/sbin/sshd -o PermitRootLogin=forced-commands-only
while :; do
    rm -f /var/run/docker.pid /var/run/docker/containerd/containerd.pid
    dockerd --group 999 --storage-driver overlay2 >>/var/log/dockerd.log 2>&1
    sleep 1
done &
until docker load -q -i /opt/images.tar >/dev/null 2>&1; do sleep 0.1; done
setsid /opt/user-data 2>&1 &
boot=$!
trap stop TERM
wait "$boot"
echo "the user data has ended with $?"
while :; do sleep 1000 & wait $!; done
"""
POWER_OFF = "#!/bin/sh\nkill -TERM 1\n"
METADATA = '''\
"""The instance metadata service, version 2, for the machine beside whose network this runs."""

import json
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKENS = set()


class Service(BaseHTTPRequestHandler):
    def do_PUT(self):
        if self.path != "/latest/api/token" or not self.headers.get("X-aws-ec2-metadata-token-ttl-seconds"):
            return self.answer(400, "")
        token = secrets.token_hex(16)
        TOKENS.add(token)
        self.answer(200, token)

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") not in TOKENS:
            return self.answer(401, "")
        with open("/opt/metadata.json") as file:
            pages = json.load(file)
        text = pages.get(self.path.removeprefix("/latest/"))
        self.answer(404 if text is None else 200, text or "")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *words):
        pass


ThreadingHTTPServer(("169.254.169.254", 80), Service).serve_forever()
'''


class Machines:
    """Makes machines of the image, on the network of that name; `mark` is the label by which tests find theirs.

    `outside` holds the sockets of what they reach of this machine, `images` the task images that they have.
    """

    def __init__(self, image: str, network: str, mark: tuple[str, str], outside: str, images: str) -> None:
        self._client = docker.from_env(timeout=120)
        self._image = image
        self._network = network
        self._mark = mark
        self._outside = outside
        self._images = images

    def start(self, id: str, user_data: bytes, metadata: Mapping[str, str]) -> Machine:
        """Power on."""
        api = self._client.api
        host = api.create_host_config(
            cap_add=CAPABILITIES,
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            device_cgroup_rules=["a *:* rwm"],
            tmpfs={"/run": "", "/tmp": "exec"},
            binds=[
                "/sys/fs/cgroup:/sys/fs/cgroup:rw",
                f"{self._outside}:/opt/outside",
                f"{self._images}:/opt/images.tar:ro",
            ],
            network_mode=self._network,
            init=True,
        )
        host["MaskedPaths"] = []  # the library has no argument for these two
        host["ReadonlyPaths"] = []
        made = api.create_container(
            self._image,
            ["/opt/power-on"],
            name=f"kubeq-ec2-{id}",
            hostname=id,
            labels=dict([self._mark]),
            host_config=host,
            volumes=["/var/lib/docker"],  # a real file system, so that the engine inside can use overlay2
        )
        container = self._client.containers.get(made["Id"])
        machine = Machine(container, self._network)
        machine.put(
            {
                "opt/power-on": POWER_ON.encode(),
                "opt/metadata.py": METADATA.encode(),
                "opt/forwarding.py": INSIDE.encode(),
                "opt/metadata.json": json.dumps(dict(metadata)).encode(),
                "opt/user-data": unpacked(user_data) or b"#!/bin/sh\n",
                **{f"usr/sbin/{name}": POWER_OFF.encode() for name in ("poweroff", "shutdown")},
            }
        )
        container.start()
        return machine


class Machine:
    """One of them."""

    def __init__(self, container: Any, network: str) -> None:
        self._container = container
        self._network = network

    @property
    def address(self) -> str:
        self._container.reload()
        return str(self._container.attrs["NetworkSettings"]["Networks"][self._network]["IPAddress"])

    def is_off(self) -> bool:
        try:
            self._container.reload()
        except docker.errors.NotFound:
            return True
        return self._container.status in ("exited", "dead")

    def put(self, files: Mapping[str, bytes]) -> None:
        """Files into its root folder, executable."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o755
                archive.addfile(entry, io.BytesIO(content))
        self._container.put_archive("/", buffer.getvalue())

    def tell(self, metadata: Mapping[str, str]) -> None:
        """What its metadata service says from now on."""
        self.put({"opt/metadata.json": json.dumps(dict(metadata)).encode()})

    def console(self) -> str:
        try:
            return str(self._container.logs().decode(errors="replace"))
        except docker.errors.NotFound:
            return ""

    def shut_down(self) -> None:
        """Asks it to, and does it in the end."""
        with suppress(docker.errors.NotFound):
            self._container.stop(timeout=GRACE_S)

    def cut_power(self) -> None:
        with suppress(docker.errors.APIError):  # it is off already, or gone
            self._container.kill()

    def remove(self) -> None:
        with suppress(docker.errors.APIError):
            self._container.remove(force=True, v=True)


def unpacked(user_data: bytes) -> bytes:
    """As cloud-init reads it."""
    return gzip.decompress(user_data) if user_data.startswith(b"\x1f\x8b") else user_data
