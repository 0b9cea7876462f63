"""What is done on a real host: looking at it, putting the agent there, starting, seeing and stopping agents, keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from kubeq.core.digest import Digest
from kubeq.core.model import NodeName, PoolId
from kubeq.errors import BackendError
from kubeq.nodes import ssh_host
from kubeq.nodes.base import Observation
from kubeq.nodes.ssh_host import Start, Survey
from kubeq.nodes.ssh_keys import PoolKey, key_mark, pool_key
from kubeq.nodes.ssh_login import Login
from kubeq.nodes.ssh_remote import Remote, connect
from tests.stand_ins.ssh_hosts import Host, ssh_hosts

pytestmark = pytest.mark.docker
POOL = PoolId("abc123")
LEAVES_WELL = ("sh", "-c", 'trap "echo bye; exit 0" TERM; echo "hello $GREETING"; while :; do sleep 0.05; done')


@pytest.fixture(scope="module")
def host(ssh_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with ssh_hosts(tmp_path_factory.mktemp("hosts"), 1, environment={"WITHOUT_DOCKER": "1"}) as (started,):
        yield started


def login(host: Host, key: Path | None = None, user: str = "ada") -> Login:
    return Login(
        address=host.address,
        port=22,
        user=user,
        keys=(key or host.key,),
        keys_only=True,
        known_hosts=(host.known_hosts,),
        accept_new=False,
        timeout_s=10.0,
    )


@pytest.fixture
def remote(host: Host) -> Iterator[Remote]:
    with connect(login(host)) as remote:
        yield remote
        remote.run(
            "for f in ~/.local/state/kubeq/hosts/*/nodes/*/process; do kill -9 -- -$(cut -d' ' -f1 $f); done; "
            "rm -rf ~/.local/state/kubeq"
        )


@pytest.fixture
def found(remote: Remote) -> Survey:
    return ssh_host.survey(remote)


def start(number: int, *command: str, key: PoolKey | None = None, **environment: str) -> Start:
    told = {"KUBEQ_AGENT_POOL": POOL, **environment}
    return Start(
        name=NodeName(f"{POOL}-{number}"),
        key="no key at all mark" if key is None else key.line(time.time()),
        mark="no key at all mark" if key is None else key.mark,
        environment=told,
        command=command,
        secrets={"token": "s3cret"},
    )


def nodes_of(remote: Remote, pool: PoolId = POOL) -> Mapping[NodeName, Observation]:
    return ssh_host.residents(remote, pool, key_mark(pool)).nodes


def eventually(question: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not question():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_survey_tells_what_the_host_has(found: Survey, host: Host) -> None:
    assert (found.machine, found.python, found.docker) == (host.run("uname", "-m").strip(), 11, None)
    assert found.no_docker == "it is not installed" and found.no_engine
    assert (found.state, found.cache) == (
        f"/home/ada/.local/state/kubeq/hosts/{host.name}",
        "/home/ada/.cache/kubeq",
    )
    assert found.free > 2**30
    assert found.wrong == ()


def test_a_home_that_cannot_be_written_is_said_to_be_so(host: Host) -> None:
    host.run(
        "sh",
        "-c",
        "mkdir -p /home/bob/.ssh && cp /root/.ssh/authorized_keys /home/bob/.ssh/ && "
        "echo bob:x:1001:1001::/home/bob:/bin/bash >> /etc/passwd && "
        "echo 'bob:*:19000:0:99999:7:::' >> /etc/shadow && chown -R 0:0 /home/bob && "
        "chmod -R a+rX /home/bob",
    )
    with connect(login(host, user="bob")) as remote:
        found = ssh_host.survey(remote)
    assert len(found.wrong) == 2
    assert f"/home/bob/.local/state/kubeq/hosts/{host.name}/nodes" in found.wrong[0]


def test_an_archive_is_sent_once(remote: Remote, found: Survey, tmp_path: Path) -> None:
    archive = tmp_path / "agent.pyz"
    archive.write_bytes(b"#!/bin/sh\n" * 1000)
    digest = Digest.of(archive.read_bytes())
    path, sent = ssh_host.install(remote, found, archive, digest)
    assert sent
    assert ssh_host.install(remote, found, archive, digest) == (path, False)
    remote.run(f"echo spoiled >> {path}")
    assert ssh_host.install(remote, found, archive, digest) == (path, True)


def test_an_agent_outlives_the_connection_and_leaves_when_it_is_asked_to(
    host: Host, remote: Remote, found: Survey
) -> None:
    with connect(login(host)) as other:
        pid = ssh_host.start(other, found, start(1, *LEAVES_WELL, GREETING='it\'s "fine" $HOME'))
    name = NodeName(f"{POOL}-1")
    seen = nodes_of(remote)[name]
    assert (seen.alive, seen.pid) == (True, pid)
    printed = f"cat {found.state}/nodes/{name}/agent.out"
    eventually(lambda: 'hello it\'s "fine" $HOME' in remote.run(printed).out, "the agent's first line")
    ssh_host.stop(remote, [name, NodeName("abc123-77")])
    eventually(lambda: not nodes_of(remote)[name].alive, "the agent leaves")
    assert nodes_of(remote)[name].reason == "bye"


def test_a_name_is_started_once(remote: Remote, found: Survey) -> None:
    first = ssh_host.start(remote, found, start(2, *LEAVES_WELL))
    assert ssh_host.start(remote, found, start(2, *LEAVES_WELL)) == first
    running = remote.run("grep -l 'echo .hell[o]' /proc/[0-9]*/cmdline | wc -l")
    assert running.out.strip() == "2"  # what keeps it, and itself


def test_what_an_agent_is_told_is_for_its_user_alone(remote: Remote, found: Survey) -> None:
    ssh_host.start(remote, found, start(3, *LEAVES_WELL))
    folder = f"{found.state}/nodes/{POOL}-3"
    assert remote.run(f"stat -c %a {folder} {folder}/agent.env {folder}/token").out.split() == ["700", "600", "600"]
    assert remote.run(f"cat {folder}/token").out == "s3cret"
    assert "s3cret" not in remote.run("cat /proc/*/cmdline /proc/*/environ 2>/dev/null | tr '\\0' '\\n'").out


def test_a_dead_agent_is_seen_with_its_last_words_and_forgotten(remote: Remote, found: Survey) -> None:
    ssh_host.start(remote, found, start(4, "sh", "-c", "echo working; echo no space left >&2; exit 1"))
    name = NodeName(f"{POOL}-4")
    eventually(lambda: not nodes_of(remote)[name].alive, "the agent ends")
    assert nodes_of(remote)[name].reason == "no space left"
    assert nodes_of(remote, PoolId("other")) == {}
    ssh_host.forget(remote, [name])
    assert nodes_of(remote) == {}


def test_a_node_with_outcomes_that_nobody_has_got_is_not_forgotten(remote: Remote, found: Survey) -> None:
    name = NodeName(f"{POOL}-5")
    ssh_host.start(remote, found, start(5, "true"))
    eventually(lambda: not nodes_of(remote)[name].alive, "the agent ends")
    remote.run(f"mkdir {found.state}/nodes/{name}/spool && touch {found.state}/nodes/{name}/spool/1.json")
    ssh_host.forget(remote, [name])
    assert name in nodes_of(remote)


def authorized(remote: Remote) -> str:
    return remote.run("cat ~/.ssh/authorized_keys").out


def test_the_key_of_a_pool_lets_in_until_its_last_node_leaves(
    host: Host, remote: Remote, found: Survey, tmp_path: Path
) -> None:
    key = pool_key(tmp_path, POOL)
    assert pool_key(tmp_path, POOL) == key
    remote.run("printf 'ssh-ed25519 AAAAinvalid somebody' >> ~/.ssh/authorized_keys")  # no newline at its end
    ssh_host.start(remote, found, start(6, *LEAVES_WELL, key=key))
    with connect(login(host, key.path)) as again:
        ssh_host.start(again, found, start(7, *LEAVES_WELL, key=key))
    assert authorized(remote).count(key.mark) == 1
    assert "AAAAinvalid somebody\n" in authorized(remote)
    ssh_host.stop(remote, [NodeName(f"{POOL}-6")])
    eventually(lambda: not nodes_of(remote)[NodeName(f"{POOL}-6")].alive, "the first leaves")
    ssh_host.sweep_key(remote, POOL, key.mark)
    assert key.mark in authorized(remote)
    ssh_host.stop(remote, [NodeName(f"{POOL}-7")])
    eventually(lambda: key.mark not in authorized(remote), "the key goes with the last")
    left = remote.run("cat ~/.ssh/authorized_keys; stat -c %a ~/.ssh/authorized_keys; ls -A ~/.ssh").out
    assert host.key.with_suffix(".pub").read_text().split()[1] in left
    assert ".kubeq" not in left


def test_an_agent_killed_hard_takes_the_key_with_it_too(remote: Remote, found: Survey, tmp_path: Path) -> None:
    key = pool_key(tmp_path, POOL)
    ssh_host.start(remote, found, start(8, "sh", "-c", "kill -9 $$", key=key))
    eventually(lambda: key.mark not in authorized(remote), "the key goes")


def test_a_key_that_a_power_cut_left_is_seen_and_swept(
    host: Host, remote: Remote, found: Survey, tmp_path: Path
) -> None:
    key = pool_key(tmp_path, POOL)
    pid = ssh_host.start(remote, found, start(9, *LEAVES_WELL, key=key))
    assert ssh_host.residents(remote, POOL, key.mark).has_key
    host.run("sh", "-c", f"kill -9 -{pid}")
    eventually(lambda: not nodes_of(remote)[NodeName(f"{POOL}-9")].alive, "it is dead")
    assert ssh_host.residents(remote, POOL, key.mark).has_key
    ssh_host.sweep_key(remote, POOL, key.mark)
    assert not ssh_host.residents(remote, POOL, key.mark).has_key
    assert key.mark not in authorized(remote)


def test_many_may_change_the_keys_at_once(host: Host, remote: Remote, found: Survey, tmp_path: Path) -> None:
    pools = [PoolId(f"many{number}") for number in range(6)]
    before = authorized(remote)

    def add(pool: PoolId) -> None:
        with connect(login(host)) as own:
            what = replace(start(1, *LEAVES_WELL, key=pool_key(tmp_path, pool)), name=NodeName(f"{pool}-1"))
            ssh_host.start(own, found, replace(what, environment={"KUBEQ_AGENT_POOL": pool}))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(add, pools))
    said = authorized(remote)
    assert all(key_mark(pool) in said for pool in pools)
    ssh_host.stop(remote, [NodeName(f"{pool}-1") for pool in pools])
    eventually(lambda: authorized(remote) == before, "all keys are gone, and nothing else")


def test_a_full_disk_costs_nobody_their_keys(host: Host, remote: Remote, found: Survey, tmp_path: Path) -> None:
    key = pool_key(tmp_path, POOL)
    before = authorized(remote)
    host.run(
        "sh",
        "-c",
        "mv /home/ada/.ssh /home/ada/.ssh-kept && mkdir -m 700 /home/ada/.ssh && "
        "mount -t tmpfs -o size=16k,mode=700,uid=1000,gid=1000 tmpfs /home/ada/.ssh && "
        "cp -p /home/ada/.ssh-kept/authorized_keys /home/ada/.ssh && "
        "cat /dev/zero > /home/ada/.ssh/filling 2>/dev/null; ls -la /home/ada/.ssh",
    )
    try:
        with pytest.raises(BackendError, match="authorized_keys cannot be written"):
            ssh_host.start(remote, found, start(10, *LEAVES_WELL, key=key))
        assert authorized(remote) == before
        assert remote.run("ls -A ~/.ssh").out.split() == ["authorized_keys", "filling"]
    finally:
        host.run("sh", "-c", "umount /home/ada/.ssh && rmdir /home/ada/.ssh && mv /home/ada/.ssh-kept /home/ada/.ssh")


def test_what_is_long_over_goes_and_what_is_still_to_be_delivered_stays(remote: Remote, found: Survey) -> None:
    names = {number: NodeName(f"{POOL}-{number}") for number in (11, 12, 13)}
    for number in names:
        ssh_host.start(remote, found, start(number, "true"))
    eventually(lambda: not any(seen.alive for seen in nodes_of(remote).values()), "all have ended")
    nodes = f"{found.state}/nodes"
    remote.run(
        f"mkdir {nodes}/{names[12]}/spool; touch {nodes}/{names[12]}/spool/1.json; "
        f"touch -d '2020-01-01 00:00:00' {nodes}/{names[11]} {nodes}/{names[12]}"
    )
    ssh_host.tidy(remote)
    assert set(nodes_of(remote)) == {names[12], names[13]}
