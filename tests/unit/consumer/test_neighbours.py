"""Who of a pool is taken for alive, and how often a node asks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from kubeq.core.model import Node, NodeName, NodeState, PoolId
from kubeq.errors import BackendError
from kubeq.queue.claims import Claims
from kubeq_consumer.neighbours import LOOK_AROUND_S, SILENT_S, Neighbours
from kubeq_consumer.peers import PeerList
from kubeq_consumer.settings import AgentConfig

NOW = 1_000_000.0


class Pool:
    """The part of Claims that is asked here."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = nodes
        self.asked = 0
        self.away = False

    def peers(self, pool: PoolId) -> Sequence[Node]:
        self.asked += 1
        if self.away:
            raise BackendError("nobody answered", transient=True)
        return self.nodes


def node(number: int, state: NodeState = NodeState.ACTIVE, seen_at: float | None = NOW) -> Node:
    return Node(
        name=NodeName(f"p-{number}"),
        pool=PoolId("p"),
        number=number,
        provider="local",
        state=state,
        host="h",
        requested_at=NOW - 1000,
        seen_at=seen_at,
    )


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    return AgentConfig(
        pool=PoolId("p"),
        node=NodeName("p-3"),
        number=3,
        provider="local",
        queue_url="memory:",
        store_url="memory:",
        blobs_url="memory:",
        state_dir=tmp_path,
        cache_dir=tmp_path / "cache",
        log_path=None,
        linger_s=1.0,
        linger_others_s=1.0,
        poll_s=1.0,
        until_idle=False,
    )


def neighbours(config: AgentConfig, pool: Pool) -> Neighbours:
    return Neighbours(config, cast(Claims, pool), lambda: NOW, PeerList(config.folder, node(3)))


def test_others_count_while_they_report_themselves_as_active(config: AgentConfig) -> None:
    late, silent = node(2, seen_at=NOW - SILENT_S + 1), node(1, seen_at=NOW - SILENT_S)
    rest = [node(4, NodeState.STARTING), node(5, seen_at=None), node(6, NodeState.DRAINING)]
    seen = neighbours(config, Pool(late, silent, node(3), *rest))
    seen.look(0.0)
    assert (seen.count, seen.first) == (2, False)
    alone = neighbours(config, Pool(silent, node(3), node(9)))
    alone.look(0.0)
    assert (alone.count, alone.first) == (2, True)


def test_it_is_asked_once_a_while_and_what_was_seen_stands_while_nobody_answers(config: AgentConfig) -> None:
    pool = Pool(node(1), node(3))
    seen = neighbours(config, pool)
    assert [seen.look(second) for second in (0.0, 1.0, LOOK_AROUND_S - 1, LOOK_AROUND_S)] == [True, False, False, True]
    assert pool.asked == 2
    pool.away = True
    assert seen.look(2 * LOOK_AROUND_S)
    assert (seen.count, seen.first) == (2, False)


def test_ten_thousand_nodes_read_no_more_rows_of_each_other_than_one_place_in_a_table_can_give(
    config: AgentConfig,
) -> None:
    seen = neighbours(config, pool := Pool(*map(node, range(1, 10_001))))
    looks = sum(seen.look(float(second)) for second in range(0, 3600, 10))
    assert looks == 3600 / LOOK_AROUND_S
    assert seen.count == 10_000
    assert pool.asked == 2  # now, and every 50 minutes: all of them read 33,000 rows of 0.3 KB, 2,500 units, a second


def test_whoever_works_beside_this_node_stands_in_the_list_that_tasks_see(config: AgentConfig) -> None:
    peers = PeerList(config.folder, node(3))
    pool = Pool(node(10), node(2), node(3), node(4, NodeState.DRAINING))
    seen = Neighbours(config, cast(Claims, pool), lambda: NOW, peers)
    seen.look(0.0)
    assert [json.loads(line)["name"] for line in peers.path.read_text().splitlines()] == ["p-2", "p-3", "p-10"]
    pool.away = True
    seen.look(LOOK_AROUND_S)
    assert len(peers.path.read_text().splitlines()) == 3, "what was seen last stands"


def test_a_node_is_alone_when_nobody_else_works_or_nobody_can_be_asked(config: AgentConfig) -> None:
    pool = Pool(node(3), node(4, NodeState.DRAINING))
    assert neighbours(config, pool).alone()
    pool.nodes = (node(3), node(4))
    seen = neighbours(config, pool)
    assert not seen.alone()
    pool.away = True
    assert seen.alone()
