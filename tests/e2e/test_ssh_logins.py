"""Ways in that sshd, the user's keys or the host's files make hard: what works works, the rest is a clear line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.ssh import leave
from tests.homes import Home
from tests.stand_ins.ssh_hosts import Host

pytestmark = pytest.mark.docker
REFUSED = 6
"""The exit code of a backend that does not do what is asked of it."""


def problem_of(home: Home, *options: str, host: str) -> str:
    """Why that host cannot be used, as `kubeq hosts` has it."""
    [seen] = home.json(*options, "-o", f"hosts={host}", "hosts", code=REFUSED)["hosts"]
    return str(seen["problem"])


def test_a_host_is_known_by_its_key_or_refused(user: Home, hosts: list[Host], tmp_path: Path) -> None:
    host, other = hosts[:2]
    known = tmp_path / "known"
    user.env["KUBEQ_SSH_KNOWN_HOSTS"] = str(known)
    unknown = problem_of(user, host=host.address)
    assert f"nobody knows the host key of ada@{host.address} (ssh-ed25519 SHA256:" in unknown
    assert "or set ssh_host_keys = accept-new" in unknown
    assert not known.exists()
    refused = user.run("sub", "--hosts", host.address, "true", code=REFUSED)
    assert refused.stderr.count("nobody knows the host key") == 1
    user.run("-o", "ssh_host_keys=accept-new", "-o", f"hosts={host.address}", "hosts")
    user.run("-o", f"hosts={host.address}", "hosts")
    known.write_text(f"{host.address} {' '.join(other.run('cat', '/etc/ssh/ssh_host_ed25519_key.pub').split()[:2])}\n")
    for options in ((), ("-o", "ssh_host_keys=accept-new")):
        changed = problem_of(user, *options, host=host.address)
        assert f"the host key of ada@{host.address} has changed" in changed
        assert f"ssh-keygen -R {host.address}" in changed


def test_what_is_wrong_with_a_key_or_a_user_is_said(user: Home, hosts: list[Host], tmp_path: Path) -> None:
    host = hosts[0]
    assert "bob" in problem_of(user, host=f"bob@{host.address}")
    missing = user.run("sub", "--ssh-identity", "none.key", "--hosts", host.address, "true", code=2)
    assert "none.key' does not exist" in missing.stderr and not user.run("-q", "status").stdout
    secret = tmp_path / "secret"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", secret], check=True)
    user.env["KUBEQ_SSH_IDENTITY"] = str(secret)
    assert "is encrypted and no ssh-agent has it (ssh-add its file, then try again)" in problem_of(
        user, host=host.address
    )


def test_an_ssh_agent_is_needed_for_the_first_contact_only(user: Home, hosts: list[Host]) -> None:
    host = hosts[0]
    del user.env["KUBEQ_SSH_IDENTITY"]
    with ssh_agent(host.key) as variables:
        user.env |= variables
        job = user.submit("--hosts", host.address, "--shell", "sleep 3; hostname")
    user.run("watch", job)
    assert user.run("logs", f"{job}/1").stdout.strip() == host.name
    assert user.json("nodes")["nodes"][0]["because"] is None
    leave(user, [host])
    refused = user.run("sub", "--hosts", host.address, "true", code=REFUSED)
    assert "accepts none of our keys" in refused.stderr


@contextmanager
def ssh_agent(key: Path) -> Iterator[dict[str, str]]:
    """The variables of an ssh-agent that has the key."""
    said = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    variables = dict(part.split("=", 1) for part in said.replace(";", "\n").split() if "=" in part)
    try:
        subprocess.run(["ssh-add", "-q", key], check=True, env={**os.environ, **variables})
        yield variables
    finally:
        os.kill(int(variables["SSH_AGENT_PID"]), 15)


def test_jobs_run_through_an_sshd_that_gives_little_and_a_shell_that_says_much(user: Home, hosts: list[Host]) -> None:
    host = hosts[1]
    host.run("sh", "-c", "echo 'echo welcome; echo to the lab >/dev/stderr' > /home/ada/.cshrc")
    host.run("sed", "-i", "s|:/home/ada:/bin/bash|:/home/ada:/bin/tcsh|", "/etc/passwd")
    try:
        with host.with_sshd("GatewayPorts clientspecified\nMaxSessions 1\nPrintMotd yes"):
            user.run("sub", "--hosts", host.address, "--seq", "3", "--fetch", "out", "echo", "{index}")
            leave(user, [host])
    finally:
        host.run("sed", "-i", "s|:/home/ada:/bin/tcsh|:/home/ada:/bin/bash|", "/etc/passwd")
        host.run("rm", "/home/ada/.cshrc")
    assert [(user.cwd / f"out/{index}/stdout.txt").read_text() for index in (1, 2, 3)] == ["1\n", "2\n", "3\n"]


def test_a_host_that_forwards_nothing_or_cannot_be_written_is_told_and_the_others_go_on(
    user: Home, hosts: list[Host]
) -> None:
    closed, full, good = hosts
    full.run("mkdir", "-p", "/home/ada/.local", user="ada")
    full.run("mount", "-t", "tmpfs", "-o", "size=50m,mode=700,uid=1000,gid=1000", "tmpfs", "/home/ada/.local")
    add_read_only_user(good)
    file = user.cwd / "hosts.txt"
    file.write_text("".join(f"{host.address} name={host.name}\n" for host in hosts) + f"eve@{good.address} name=eve\n")
    try:
        with closed.with_sshd("AllowTcpForwarding no"):
            ran = user.run("sub", "--hosts", "hosts.txt", "--seq", "4", "--fetch", "out", "hostname")
            leave(user, hosts)
    finally:
        full.run("umount", "/home/ada/.local")
    assert ran.stderr.count(f"{closed.name}: ada@{closed.address} forwards no port") == 1
    assert ran.stderr.count(f"{full.name}: /home/ada/.local/state/kubeq/hosts/{full.name} has only") == 1
    assert ran.stderr.count(f"no node: eve: /home/eve/.local/state/kubeq/hosts/{good.name}/nodes: ") == 1
    assert {(user.cwd / f"out/{index}/stdout.txt").read_text().strip() for index in range(1, 5)} == {good.name}


def add_read_only_user(host: Host) -> None:
    """Somebody who may log in and has a home that only root can write."""
    host.run(
        "sh",
        "-c",
        "grep -q ^eve: /etc/passwd || { echo eve:x:1002:1002::/home/eve:/bin/bash >> /etc/passwd; "
        "echo 'eve:*:19000:0:99999:7:::' >> /etc/shadow; }; "
        "mkdir -p /home/eve/.ssh && cp /root/.ssh/authorized_keys /home/eve/.ssh/ && "
        "chown -R 0:0 /home/eve && chmod -R a+rX /home/eve",
    )
