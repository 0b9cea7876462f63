"""Users with hosts of their own: their homes, and that nothing of them is left on the hosts when a test ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kubeq.nodes.ssh_scripts import ALIVE
from tests.homes import Home
from tests.stand_ins.ssh_hosts import Host

STATE = "/home/ada/.local/state/kubeq/hosts/$(uname -n)"
LEAVING_S = 30.0
_STOP = f'{ALIVE}for f in {STATE}/nodes/*/process; do alive "$f" && kill "$pid" && echo "$f"; done; :'
_LOGS = f'hostname; for f in {STATE}/nodes/*/agent.???; do echo "- $f"; tail -n 12 "$f"; done'


@contextmanager
def ssh_home(root: Path, hosts: Sequence[Host], **environment: str) -> Iterator[Home]:
    """A home that knows the hosts' keys; afterwards no agent of it and no key is left there."""
    told = {
        "KUBEQ_SSH_IDENTITY": str(hosts[0].key),
        "KUBEQ_SSH_KNOWN_HOSTS": str(hosts[0].known_hosts),
        "KUBEQ_SSH_USER": "ada",
        "KUBEQ_LINGER": "2",
        "KUBEQ_IMAGE": "none",
        **environment,
    }
    home = Home(root, **told)
    (root / ".ssh").mkdir(mode=0o700)
    (root / ".ssh/config").write_text("ConnectTimeout 2\n")
    try:
        yield home
        leave(home, hosts)
        for host in hosts:
            assert keys_on(host) == "", home.agent_logs()
    except BaseException:
        print("\n".join(host.run("sh", "-c", _LOGS, check=False)[-3000:] for host in hosts))
        for host in hosts:  # the next test is not to stumble over what this one has left
            host.run("sed", "-i", "/kubeq-pool-/d", "/home/ada/.ssh/authorized_keys", check=False, user="ada")
        raise
    finally:
        home.end()


def leave(home: Home, hosts: Sequence[Host]) -> None:
    """Every agent on the hosts is asked to go, and has gone."""
    deadline = time.monotonic() + LEAVING_S
    for host in hosts:
        while host.run("sh", "-c", _STOP, check=False).strip() and time.monotonic() < deadline:
            time.sleep(0.1)


def keys_on(host: Host, user: str = "ada") -> str:
    """The marks of kubeq's keys that may log in there."""
    home = "/root" if user == "root" else f"/home/{user}"
    return host.run("sh", "-c", f"grep -o 'kubeq-pool-.*' {home}/.ssh/authorized_keys; :").strip()


def addresses(hosts: Sequence[Host]) -> str:
    """As after --hosts."""
    return ",".join(host.address for host in hosts)


def one_slot_each(home: Home, hosts: Sequence[Host]) -> str:
    """As after --hosts: a file that gives each of them one slot, whatever the machine has."""
    name = f"hosts-{len(hosts)}.txt"
    (home.cwd / name).write_text("".join(f"{host.address} name={host.name} slots=1\n" for host in hosts))
    return name
