"""What ended nodes leave on this machine goes when nobody needs it, and never what a live one has."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from kubeq.core.model import PoolId
from kubeq.machine import ProcessMark, own_mark
from kubeq.nodes.local import LocalProvider

POOL, OTHER = PoolId("0123456789ab"), PoolId("feedfeedfeed")
DAY_S = 86400.0
DEAD = ProcessMark(pid=1, started=1, boot="another-boot", namespace="1")


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    (tmp_path / "nodes").mkdir()
    return tmp_path / "nodes"


def leave(
    nodes: Path,
    name: str,
    *,
    launched: ProcessMark | None = None,
    agent: ProcessMark | None = None,
    spooled: bool = False,
    age_s: float = DAY_S + 1,
) -> None:
    """A node's folder as it looks so long after it was written to last."""
    folder = nodes / name
    (folder / "spool").mkdir(parents=True)
    (folder / "attempts" / "0").mkdir(parents=True)
    (folder / "agent.log").write_text("{}")
    if spooled:
        (folder / "spool" / "job-1-1.json").write_text("{}")
    if launched is not None:
        process = {"pid": launched.pid, "started": launched.started, "boot": launched.boot}
        (folder / "process.json").write_text(
            json.dumps({"schema": 1, "pool": name.rpartition("-")[0], "number": 1, **process})
        )
    if agent is not None:
        (folder / "agent.json").write_text(json.dumps({"agent": str(agent), "pool": name.rpartition("-")[0]}))
    for path in (*folder.iterdir(), folder):
        os.utime(path, (time.time() - age_s,) * 2)


def names(nodes: Path) -> list[str]:
    return sorted(path.name for path in nodes.iterdir())


def test_folders_of_nodes_that_ended_long_ago_go_in_every_pool(nodes: Path) -> None:
    leave(nodes, f"{POOL}-1", launched=DEAD, agent=DEAD)
    leave(nodes, f"{OTHER}-1", agent=DEAD)
    leave(nodes, f"{OTHER}-2", launched=DEAD)
    leave(nodes, f"{POOL}-2", launched=DEAD, agent=DEAD, age_s=DAY_S - 60)
    LocalProvider(nodes.parent).forget(None, DAY_S)
    assert names(nodes) == [f"{POOL}-2"]


def test_the_folder_of_a_live_node_stays_whoever_started_it(nodes: Path) -> None:
    leave(nodes, f"{POOL}-1", launched=own_mark())
    leave(nodes, f"{POOL}-2", agent=own_mark())
    elsewhere = ProcessMark(pid=1, started=1, boot=own_mark().boot, namespace="1")
    leave(nodes, f"{POOL}-3", agent=elsewhere)
    for pool in (None, POOL):
        LocalProvider(nodes.parent).forget(pool, 0.0)
    assert names(nodes) == [f"{POOL}-1", f"{POOL}-2", f"{POOL}-3"]


def test_undelivered_outcomes_are_kept_as_long_as_their_pool_is(nodes: Path) -> None:
    leave(nodes, f"{POOL}-1", launched=DEAD, agent=DEAD, spooled=True)
    LocalProvider(nodes.parent).forget(None, DAY_S)
    assert names(nodes) == [f"{POOL}-1"]
    LocalProvider(nodes.parent).forget(POOL, 0.0)
    assert names(nodes) == []


def test_forgetting_a_pool_leaves_the_nodes_of_others(nodes: Path) -> None:
    leave(nodes, f"{POOL}-1", launched=DEAD, age_s=0)
    leave(nodes, f"{OTHER}-1", launched=DEAD, age_s=0)
    LocalProvider(nodes.parent).forget(POOL, 0.0)
    assert names(nodes) == [f"{OTHER}-1"]


def test_nothing_of_other_pools_is_read_to_observe_one(nodes: Path) -> None:
    leave(nodes, f"{POOL}-1", launched=DEAD)
    leave(nodes, f"{OTHER}-1", launched=DEAD)
    record = nodes / f"{OTHER}-1" / "process.json"
    os.utime(record, (0, time.time()))
    assert set(LocalProvider(nodes.parent).observe(POOL)) == {f"{POOL}-1"}
    assert record.stat().st_atime == 0


def test_without_a_state_folder_there_is_nothing_to_forget(tmp_path: Path) -> None:
    LocalProvider(tmp_path / "state").forget(None, DAY_S)
    assert not (tmp_path / "state").exists()
