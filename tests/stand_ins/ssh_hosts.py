"""Hosts to log in to: containers with sshd, addresses and a Docker engine of their own, and what can befall them.

They are real in all that matters to an SSH pool: another file system, other processes, other addresses, an engine that
nobody shares. They are not separate machines: kernel, clock and load are this machine's.
"""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker

from kubeq.machine import ProcessMark, has_ended, own_mark
from tests.stand_ins.ssh_image import ssh_host_image

LABEL = "kubeq.test-host"
"""Whose hosts they are: the mark of the process that started them."""
CAPABILITIES = (  # noqa: SIM905
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN "
    "SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ"
).split()
"""All that engine 20.10 knows but SYS_RESOURCE, which a machine that is a container itself may not have."""
READY_S = 60.0


@dataclass(slots=True)
class Host:
    """One host. `key` is the private key that may log in as root and as ada; `known_hosts` holds its host key."""

    name: str
    address: str
    key: Path
    known_hosts: Path
    container: Any = field(repr=False)
    network: Any = field(repr=False)

    def run(self, *words: str, check: bool = True, user: str = "root") -> str:
        """What a command on the host printed; it does not go through SSH."""
        answer = self.container.exec_run(list(words), user=user)
        printed = str(answer.output.decode(errors="replace"))
        assert answer.exit_code == 0 or not check, f"{self.name}: {words}: {printed}"
        return printed

    def freeze(self) -> None:
        """Nothing on the host goes on until `thaw`."""
        self.container.pause()

    def thaw(self) -> None:
        self.container.unpause()

    def cut(self) -> None:
        """The network cable is pulled; what runs goes on."""
        self.network.disconnect(self.container)

    def mend(self) -> None:
        """The cable is back, with the same address."""
        self.network.connect(self.container, ipv4_address=self.address)

    def power_off(self) -> None:
        """All processes die at once."""
        self.container.kill()

    def power_on(self) -> None:
        self.container.start()
        self.wait_for_login()

    def end_sshd(self) -> None:
        """Nobody can log in any more; standing sessions go on."""
        self.run("sh", "-c", "kill $(cat /run/sshd.pid); while [ -f /run/sshd.pid ]; do sleep 0.05; done")

    def start_sshd(self) -> None:
        self.run("/usr/sbin/sshd")
        self.wait_for_login()

    def drop_connections(self) -> None:
        """Every standing session of sshd is killed; what was started detached goes on."""
        self.run(
            "sh", "-c", "kill -9 $(grep -l '^sshd: [a-z][a-z]*[@ ]' /proc/[0-9]*/cmdline | cut -d/ -f3)", check=False
        )

    def with_sshd(self, line: str) -> AbstractContextManager[None]:
        """One more line in sshd's configuration, before all others."""
        return _configured(self, line)

    def wait_for_login(self) -> None:
        """Until sshd answers."""
        _until(lambda: "SSH-2.0" in self._banner(), f"sshd of {self.name} answers")

    def public_key(self) -> str:
        """Its host key, as known_hosts has it."""
        found: list[str] = []

        def read() -> bool:
            found[:] = self.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub", check=False).split()[:2]
            return len(found) == 2  # a busy engine may lose what a command has printed

        _until(read, f"{self.name} has a host key")
        return " ".join(found)

    def wait_for_docker(self) -> None:
        """Until the host's own engine answers."""
        _until(
            lambda: (
                bool(self.run("docker", "version", "--format", "{{.Server.Version}}", check=False).strip("\n "))
                and "Cannot" not in self.run("docker", "version", check=False)
            ),
            f"dockerd of {self.name} answers",
        )

    def load_image(self, name: str) -> None:
        """This machine's image of that name on the host's engine."""
        save = subprocess.Popen(["docker", "save", name], stdout=subprocess.PIPE)
        load = ["docker", "exec", "-i", self.container.id, "docker", "load", "-q"]
        subprocess.run(load, stdin=save.stdout, check=True, capture_output=True)
        assert save.wait() == 0

    def _banner(self) -> str:
        import socket

        try:
            with socket.create_connection((self.address, 22), timeout=2) as connection:
                return connection.recv(64).decode(errors="replace")
        except OSError:
            return ""


@contextmanager
def ssh_hosts(
    folder: Path,
    count: int = 1,
    *,
    environment: Mapping[str, str] | None = None,
    names: Sequence[str] = (),
    own: Mapping[str, Mapping[str, str]] | None = None,
    share_home: bool = False,
) -> Iterator[list[Host]]:
    """So many hosts on a network of their own, ready to log in to; gone afterwards.

    `environment`: WITHOUT_PYTHON, WITHOUT_DOCKER (any text), PROFILE (what the login shells' rc file holds). `own` is
    what the hosts of those names have besides. With `share_home` /home is one file system for all of them.
    """
    image = ssh_host_image()
    client = docker.from_env()
    remove_orphans(client)
    mark = secrets.token_hex(3)
    key = folder / f"key-{mark}"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    network = own_network(client, mark)
    home = client.volumes.create(f"kubeq-{mark}", labels={LABEL: str(own_mark())}) if share_home else None
    hosts: list[Host] = []
    try:
        given = {"AUTHORIZED": key.with_suffix(".pub").read_text().strip(), **(environment or {})}
        for number in range(count):
            name = names[number] if number < len(names) else f"host{number + 1}"
            told = {**given, **(own or {}).get(name, {})}
            where = (f"kubeq-{mark}-{name}", network, [f"{home.name}:/home:rw"] if home is not None else [])
            hosts.append(_start(client, image, name, where, told, key))
        for host in hosts:
            host.wait_for_login()
            host.known_hosts.write_text("")
        for host in hosts:
            with host.known_hosts.open("a") as file:
                file.write(f"{host.address} {host.public_key()}\n")
        yield hosts
    finally:
        for host in hosts:
            host.container.remove(force=True, v=True)
        network.remove()
        if home is not None:
            home.remove(force=True)
        client.close()


def remove_orphans(client: Any) -> None:
    """What was left by test sessions that were killed."""
    for kind in (
        client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True),  # by another session
        client.networks.list(filters={"label": LABEL}),
        client.volumes.list(filters={"label": LABEL}),
    ):
        for one in kind:
            mark = ProcessMark.parse((one.attrs.get("Config") or one.attrs)["Labels"][LABEL])
            if mark is not None and has_ended(mark):
                with suppress(docker.errors.APIError):  # another session may be faster
                    one.remove(**({"force": True, "v": True} if hasattr(one, "exec_run") else {}))


@contextmanager
def _configured(host: Host, line: str) -> Iterator[None]:
    reload = "kill -HUP $(cat /run/sshd.pid)"
    kept = "/etc/ssh/sshd_config"
    host.run("sh", "-c", f"cp {kept} {kept}.kept && echo '{line}' | cat - {kept}.kept > {kept} && {reload}")
    host.wait_for_login()
    try:
        yield
    finally:
        host.run("sh", "-c", f"mv {kept}.kept {kept} && {reload}")
        host.wait_for_login()


def own_network(client: Any, mark: str) -> Any:
    """A bridge in 198.18.0.0/15, which is set apart for tests of networks (RFC 2544)."""
    for _ in range(50):
        third = secrets.randbelow(250) + 1
        pool = docker.types.IPAMPool(subnet=f"198.18.{third}.0/24")
        try:
            return client.networks.create(
                f"kubeq-{mark}", ipam=docker.types.IPAMConfig(pool_configs=[pool]), labels={LABEL: str(own_mark())}
            )
        except docker.errors.APIError as error:
            if "overlap" not in str(error):
                raise
    raise AssertionError("no free network in 198.18.0.0/16")


def machine_settings(api: Any, network: str, **more: Any) -> Any:
    """What the engine is told of a container that is to be a machine, with an engine and addresses of its own."""
    settings = api.create_host_config(
        cap_add=CAPABILITIES,
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        device_cgroup_rules=["a *:* rwm"],
        tmpfs={"/run": "", "/tmp": "exec"},
        network_mode=network,
        init=True,
        **{"binds": ["/sys/fs/cgroup:/sys/fs/cgroup:rw", *more.pop("binds", ())], **more},
    )
    settings["MaskedPaths"] = []  # the library has no argument for these two
    settings["ReadonlyPaths"] = []
    return settings


def _start(
    client: Any, image: str, name: str, where: tuple[str, Any, list[str]], given: Mapping[str, str], key: Path
) -> Host:
    api, (container, network, binds) = client.api, where
    host_config = machine_settings(api, network.name, binds=binds)
    made = api.create_container(
        image,
        ["/usr/local/sbin/entry"],
        name=container,
        hostname=name,
        environment=dict(given),
        labels={LABEL: str(own_mark())},
        host_config=host_config,
        volumes=["/var/lib/docker"],  # a real file system, so that the engine inside can use overlay2
        networking_config=api.create_networking_config({network.name: api.create_endpoint_config()}),
    )
    api.start(made["Id"])
    running = client.containers.get(made["Id"])
    address = running.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"]
    return Host(
        name=name,
        address=address,
        key=key,
        known_hosts=key.with_name("known_hosts"),
        container=running,
        network=network,
    )


def _until(question: Any, what: str) -> None:
    deadline = time.monotonic() + READY_S
    while not question():
        assert time.monotonic() < deadline, f"not within {READY_S:g} s: {what}"
        time.sleep(0.05)
