"""Hosts of one's own with queue and store in a cloud: nothing of the submitter's machine is between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.ssh import ssh_home
from tests.homes import Home, eventually
from tests.stand_ins.line import Line
from tests.stand_ins.ministack import REGION, Cloud
from tests.stand_ins.ssh_hosts import Host

CREDENTIALS = "[default]\naws_access_key_id = test\naws_secret_access_key = test\n"


@pytest.fixture
def reachable(ministack: Cloud, hosts: list[Host]) -> Iterator[dict[str, str]]:
    """What leads this machine and the hosts to the emulated cloud; the hosts have credentials of their own."""
    gateway = hosts[0].run("sh", "-c", "ip -4 route show default | cut -d' ' -f3").strip()
    line = Line("127.0.0.1", int(ministack.url.rpartition(":")[2]), 0.0, at=gateway)
    write = f"mkdir -p ~/.aws && printf '{CREDENTIALS}' > ~/.aws/credentials"
    for host in hosts:
        host.run("su", "ada", "-c", write)
    yield {**ministack.environment, "AWS_ENDPOINT_URL": f"http://{gateway}:{line.port}"}
    for host in hosts:
        host.run("rm", "-rf", "/home/ada/.aws")
    line.close()


def test_hosts_go_on_by_themselves_when_the_submitters_machine_is_gone(
    ministack: Cloud, hosts: list[Host], reachable: dict[str, str], tmp_path: Path
) -> None:
    keys = {"default_url_prefix": f"s3://{ministack.name()}/me", "queue_url": f"dynamodb://{REGION}/{ministack.name()}"}
    settings = "[config]\n" + "".join(f"{name} = {value}\n" for name, value in keys.items())
    with ssh_home(tmp_path / "home", hosts, **reachable, KUBEQ_POLL="0.5") as home:
        (home.cwd / ".kubeq").write_text(settings)
        (home.cwd / "in.txt").write_text("from here\n")
        home.run("setup")
        addresses = ",".join(host.address for host in hosts[:2])
        words = ["sh", "-c", "sleep 3; cat in.txt > made.txt; echo {index} >> made.txt"]
        job = home.submit("--hosts", addresses, "-u", "in.txt", "--seq", "6", *words)
        assert home.relay() is None, "there is nothing that only this machine could see"
        home.end()
        other = Home(tmp_path / "other", **reachable)
        (other.cwd / ".kubeq").write_text(settings)
        eventually(lambda: other.stands(job) == "succeeded", "the hosts end the job", other)
        other.run("fetch", job, "out")
        assert [(other.cwd / f"out/{index}/made.txt").read_text() for index in range(1, 7)] == [
            f"from here\n{index}\n" for index in range(1, 7)
        ]
        assert {(task["losses"], task["failures"]) for task in other.tasks(job)} == {(0, 0)}
        other.end()
