"""A machine that boots with the text that a cloud is given, works, and certainly ends."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest

from kubeq.core.machines import Machine, Machines
from kubeq.core.model import NodeName, PoolId
from kubeq.nodes.archive import Archive, agent_archive
from kubeq.nodes.base import NodeRequest
from kubeq.nodes.boot import PREFIX
from kubeq.nodes.forms import StoredAgent
from kubeq.nodes.machine_boot import EC2, machine_text
from tests.homes import Home, eventually
from tests.stand_ins.boot_box import boot_box

pytestmark = pytest.mark.docker
PROBE = """
ask() { (printf 'GET / HTTP/1.0\\r\\n\\r\\n'; sleep 1) | nc -w 3 $1 $2 2>/dev/null | grep credentials; }
for address in 169.254.169.254 169.254.170.2; do
    ask $address 80 && echo reached
    ask $address 53
done
echo done
"""


def text_for(told: Mapping[str, str], archive: Archive) -> str:
    """The boot text of a node that is told that, by the names of the agent's variables."""
    request = NodeRequest(
        pool=PoolId(told["POOL"]),
        queue_url=told["QUEUE"],
        store_url=told["STORE"],
        blobs_url=told.get("BLOBS", told["STORE"]),
        state_dir=Path("/nowhere"),
        cache_dir=Path("/nowhere"),
        linger_s=1.0,
        linger_others_s=1.0,
        poll_s=0.25,
        machines=Machines(region="here", lifetime_s=3600.0),
        agent=StoredAgent(url="s3://nowhere/x", digest=archive.digest, extras=(), archive=archive),
        environ={"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
    )
    machine = Machine(type="box", zone="here", spot=False)
    return machine_text(request, NodeName(told["NODE"]), int(told["NUMBER"]), machine, EC2)


def test_a_machine_boots_works_keeps_its_credentials_to_itself_and_switches_itself_off(
    home: Home, ssh_image: str, busybox_image: str, tmp_path: Path
) -> None:
    home.run("sub", "-n", "booted", "--prepare", "-i", busybox_image, "sh", "-c", PROBE)
    words = shlex.split(home.run("agent", "booted").stdout)
    pairs = (word.removeprefix(PREFIX).split("=", 1) for word in words if word.startswith(PREFIX))
    told = dict(pairs)
    archive = agent_archive((), tmp_path / "cache")
    with boot_box(ssh_image, f"kubeq-boot-{secrets.token_hex(4)}", [home.root]) as box:
        box.load(busybox_image)
        box.put(archive.path, f"/var/lib/kubeq/agents/{archive.digest.sha256}.pyz")
        box.boot(text_for(told, archive), tmp_path)
        eventually(lambda: home.stands("booted") == "succeeded", "the task has ended", home)
        assert home.run("logs", "booted/1").stdout == 2 * "the credentials of the node\n" + "done\n"
        box.wait_until_off()
        assert "this machine becomes node" in box.console()
    node = told["NODE"]
    first, *rest = home.run("logs", node).stdout.splitlines()
    assert first.startswith(f"kubeq: this machine becomes node {node}; it ends at the latest in 3600 s")
    assert any(f"node {node} of pool" in line for line in rest), "its agent's log follows"
    (row,) = [each for each in home.json("nodes", "--all")["nodes"] if each["name"] == node]
    assert (row["state"], row["reason"]) == ("gone", "idle")
