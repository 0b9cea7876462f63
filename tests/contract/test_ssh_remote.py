"""Logging in to real hosts, running scripts and putting files there: and each thing that can be wrong with it."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from kubeq.core.digest import Digest
from kubeq.errors import AccessDenied, BackendError, UsageError
from kubeq.nodes.hosts import Host as Named
from kubeq.nodes.ssh_login import Login, SshSettings, resolve_login
from kubeq.nodes.ssh_remote import connect
from tests.stand_ins.ssh_hosts import Host, ssh_hosts

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def hosts(ssh_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    plain = {"WITHOUT_DOCKER": "1", "PROFILE": "echo welcome; echo to this host >&2"}
    with ssh_hosts(tmp_path_factory.mktemp("hosts"), 2, environment=plain) as started:
        yield started


@pytest.fixture
def host(hosts: list[Host]) -> Host:
    return hosts[0]


def login(host: Host, **changes: object) -> Login:
    plain = Login(
        address=host.address,
        port=22,
        user="ada",
        keys=(host.key,),
        keys_only=True,
        known_hosts=(host.known_hosts,),
        accept_new=False,
        timeout_s=10.0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def settings(home: Path, host: Host, **changes: object) -> SshSettings:
    plain = SshSettings(home=home, caller="nobody", known_hosts=host.known_hosts, identity=host.key)
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_a_script_answers_with_its_output_alone_whatever_the_profile_prints(host: Host) -> None:
    with connect(login(host)) as remote:
        answer = remote.run("id -un; printf '%s' 'no newline'; echo oh >&2; exit 3")
    assert (answer.code, answer.out) == (3, "ada\nno newline")
    assert "oh" in answer.err


def test_much_output_on_both_streams_is_read_to_its_end(host: Host) -> None:
    with connect(login(host)) as remote:
        answer = remote.run("i=0; while [ $i -lt 20000 ]; do echo 0123456789; echo 9876543210 >&2; i=$((i+1)); done")
    assert answer.out == "0123456789\n" * 20000
    assert answer.err.count("9876543210") == 20000


def test_a_file_arrives_whole_and_readable_by_its_owner_only(host: Host) -> None:
    content = os.urandom(3_000_001)
    with connect(login(host)) as remote:
        remote.put("/home/ada/it's here", lambda: io.BytesIO(content), Digest.of(content))
        answer = remote.run("stat -c '%a %s' \"/home/ada/it's here\"; ls -A /home/ada")
    assert answer.out.splitlines()[0] == "600 3000001"
    assert [name for name in answer.out.split() if "here." in name] == []


def test_a_file_that_finds_no_space_leaves_nothing_there(host: Host) -> None:
    content = bytes(2**21)
    host.run("sh", "-c", "mkdir -p /small && mount -t tmpfs -o size=1m,mode=777 tmpfs /small")
    with connect(login(host)) as remote:
        with pytest.raises(BackendError, match=r"[Nn]o space left"):
            remote.put("/small/file", lambda: io.BytesIO(content), Digest.of(content))
        assert remote.run("ls -A /small").out.strip() == ""


def test_a_folder_that_cannot_be_written_is_named(host: Host) -> None:
    with connect(login(host)) as remote, pytest.raises(BackendError, match="/usr/x"):
        remote.put("/usr/x", lambda: io.BytesIO(b"x"), Digest.of(b"x"))


def test_a_host_whose_key_nobody_knows_is_refused_with_its_fingerprint(host: Host, tmp_path: Path) -> None:
    with pytest.raises(AccessDenied, match="SHA256:") as refused:
        connect(login(host, known_hosts=(tmp_path / "none",)))
    assert "accept-new" in str(refused.value.hint)
    assert not (tmp_path / "none").exists()


def test_a_new_key_is_written_down_when_that_is_wanted_and_then_held_to(host: Host, tmp_path: Path) -> None:
    known = tmp_path / "ssh" / "known_hosts"
    connect(login(host, known_hosts=(known,), accept_new=True)).close()
    connect(login(host, known_hosts=(known,))).close()
    assert known.read_text().startswith(f"{host.address} ssh-ed25519 ")


def test_a_host_whose_key_has_changed_is_refused_also_when_new_ones_are_accepted(
    hosts: list[Host], tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    other = hosts[1].run("cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
    known.write_text(f"{hosts[0].address} {' '.join(other)}\n")
    with pytest.raises(AccessDenied, match="has changed") as refused:
        connect(login(hosts[0], known_hosts=(known,), accept_new=True))
    assert "ssh-keygen -R" in str(refused.value.hint)


def test_a_wrong_user_is_told_which_key_was_refused(host: Host) -> None:
    with pytest.raises(AccessDenied, match=host.key.name):
        connect(login(host, user="bob"))


def test_an_encrypted_key_without_an_agent_is_said_to_be_encrypted(host: Host, tmp_path: Path) -> None:
    key = tmp_path / "secret"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", key], check=True)
    with pytest.raises(AccessDenied, match="encrypted"):
        connect(login(host, keys=(key,)))


def test_an_agent_that_has_the_key_is_enough(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    started = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    variables = dict(part.split("=", 1) for part in started.replace(";", "\n").split() if "=" in part)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    try:
        subprocess.run(["ssh-add", "-q", host.key], check=True)
        connect(login(host, keys=(), keys_only=False)).close()
    finally:
        os.kill(int(variables["SSH_AGENT_PID"]), 15)


def test_a_name_that_does_not_exist_and_a_port_where_nobody_listens_are_told_apart(host: Host) -> None:
    with pytest.raises(BackendError, match="there is no host"):
        connect(login(host, address="no-such-host.invalid"))
    with pytest.raises(BackendError, match=r"[Cc]onnection refused"):
        connect(login(host, port=9))


def test_a_frozen_host_is_given_up_in_time(hosts: list[Host]) -> None:
    hosts[1].freeze()
    try:
        with pytest.raises(BackendError):
            connect(login(hosts[1], timeout_s=1.0))
    finally:
        hosts[1].thaw()


def test_a_host_behind_another_is_reached_as_the_ssh_configuration_says(hosts: list[Host], tmp_path: Path) -> None:
    first, second = hosts
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text(
        f"Host inner\n HostName {second.address}\n User ada\n ProxyJump root@outer\n IdentityFile {second.key}\n"
        f"Host outer\n HostName {first.address}\n Port 22\n"
    )
    found = resolve_login(Named(name="inner", address="inner"), settings(tmp_path, first))
    assert [jump.user for jump in found.jumps] == ["root"]
    with connect(found) as remote:
        assert remote.run("hostname; echo $SSH_CLIENT").out.split()[:2] == [second.name, first.address]


def test_a_configuration_that_jumps_in_a_circle_is_refused(host: Host, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text("Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    with pytest.raises(UsageError, match="circle"):
        resolve_login(Named(name="a", address="a"), settings(tmp_path, host))


def test_a_key_that_is_not_there_is_named(host: Host, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="id_gone"):
        resolve_login(Named(name="a", address="a", key=tmp_path / "id_gone"), settings(tmp_path, host))


def test_a_file_that_is_no_private_key_is_named(host: Host) -> None:
    public = host.key.with_suffix(".pub")
    with pytest.raises(AccessDenied, match=r"logged in to with .*\.pub: not a valid") as caught:
        connect(login(host, keys=(public,)))
    assert caught.value.hint == "name the private key, not the .pub file"


def test_many_connections_come_up_side_by_side(host: Host) -> None:
    with ThreadPoolExecutor(40) as threads:
        remotes = list(threads.map(lambda _: connect(login(host)), range(40)))
        answers = list(threads.map(lambda remote: remote.run("echo hi").out, remotes))
    for remote in remotes:
        remote.close()
    assert answers == ["hi\n"] * 40
