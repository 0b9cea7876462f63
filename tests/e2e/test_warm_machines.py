"""Machines that are up serve the next job, cost what is said, and are replaced for whoever watches."""

from __future__ import annotations

import time

import pytest

from kubeq.nodes.prices import Prices, keep_prices
from tests.e2e.test_gce import Cloud, cloud
from tests.stand_ins.gce_catalogue import REGION

__all__ = ["cloud"]
pytestmark = pytest.mark.docker


def test_a_warm_machine_takes_the_next_job_and_a_watcher_replaces_one_that_was_taken_back(
    cloud: Cloud, agent_image: str, busybox_image: str
) -> None:
    home = cloud.home("user")
    home.env["KUBEQ_LINGER"] = "120"
    rates = {"cores": {"e2": 0.02}, "gibibytes": {"e2": 0.0025}, "gpus": {}}
    prices = Prices(date="2026-01-01", source="this test", tables={"gce": {REGION: rates}})
    keep_prices(home.root / "cache/kubeq", prices)
    words = ("sub", "-i", busybox_image, "--nodes", "1", "--spot", "--timeout", "10m")
    dry = home.run(*words, "--dry-run", "--seq", "3", "true")
    assert "would start 1 machine:" in dry.stdout
    assert "e2-standard-2" in dry.stdout
    assert "$0.58" in dry.stdout
    first = home.run(*words, "echo", "one")
    assert first.stdout.strip().endswith("one")
    began = time.monotonic()
    second = home.run(*words, "-n", "two", "echo", "two")
    took = time.monotonic() - began
    assert "1 machine of the pool is up, and takes what there is to do" in second.stderr
    assert cloud.gce.instances.made == 1
    assert took < 120, "a machine that is up needs no boot"
    (node,) = home.json("nodes")["nodes"]
    assert (node["class"], node["machine_type"]) == ("gce spot", "e2-standard-2")
    assert node["price_per_hour"] == pytest.approx(0.06 * 0.4)
    (job,) = home.json("status", "two")["jobs"]
    assert 0 <= job["spent"] < node["price_per_hour"]
    assert home.json("nodes", "--orphans")["orphans"] == []

    first_sleeps = 'case "$KUBEQ_NODE_NAME" in *-1) sleep 900;; esac'
    third = home.submit("-n", "three", "-i", busybox_image, "--nodes", "1", "--spot", "sh", "-c", first_sleeps)
    cloud.eventually(lambda: home.tasks(third)[0]["started_at"], "the warm machine runs it")
    cloud.gce.instances.warning_s = 1.0
    (name,) = cloud.gce.instances.states()
    cloud.gce.instances.preempt(name)
    watching = home.start("watch", third)
    cloud.eventually(lambda: home.stands(third) == "succeeded", "another machine does the work")
    _, told = watching.communicate(timeout=60)
    assert "-1 (e2-standard-2, spot, " in told
    assert ") has ended: " in told
    assert cloud.gce.instances.made == 2
    home.end()
