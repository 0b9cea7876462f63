"""The list of nodes that tasks see: whole at any time, readable by whoever a task runs as."""

from __future__ import annotations

import json
import os
from pathlib import Path

from kubeq.core.model import Node, NodeName, NodeState, PoolId
from kubeq_consumer.peers import PeerList


def node(number: int, address: str | None = None) -> Node:
    return Node(
        name=NodeName(f"p-{number}"),
        pool=PoolId("p"),
        number=number,
        provider="ssh",
        state=NodeState.ACTIVE,
        host=f"machine{number}",
        address=address,
        requested_at=0.0,
    )


def test_each_node_is_a_line_with_its_number_and_address_and_this_one_is_marked(tmp_path: Path) -> None:
    peers = PeerList(tmp_path, node(2))
    peers.write([node(10, "10.0.0.7"), node(1)])
    assert [json.loads(line) for line in peers.path.read_text().splitlines()] == [
        {"number": 1, "name": "p-1", "host": "machine1", "address": "machine1", "self": False},
        {"number": 2, "name": "p-2", "host": "machine2", "address": "machine2", "self": True},
        {"number": 10, "name": "p-10", "host": "machine10", "address": "10.0.0.7", "self": False},
    ]


def test_a_reader_has_the_old_list_or_the_new_one_and_never_a_part(tmp_path: Path) -> None:
    peers = PeerList(tmp_path, node(2))
    peers.write([])
    with peers.path.open() as reader:
        peers.write([node(1)])
        assert len(reader.read().splitlines()) == 1
    assert len(peers.path.read_text().splitlines()) == 2
    assert [path.name for path in peers.path.parent.iterdir()] == [peers.path.name]


def test_a_list_that_says_the_same_is_not_written_again(tmp_path: Path) -> None:
    peers = PeerList(tmp_path, node(2))
    peers.write([node(1)])
    before = peers.path.stat().st_ino
    peers.write([node(1)])
    assert peers.path.stat().st_ino == before


def test_other_users_can_read_it_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        peers = PeerList(tmp_path, node(2))
        peers.write([])
    finally:
        os.umask(before)
    assert (peers.path.parent.stat().st_mode & 0o777, peers.path.stat().st_mode & 0o777) == (0o755, 0o644)


def test_a_disk_that_cannot_be_written_is_no_end_of_the_agent(tmp_path: Path) -> None:
    (tmp_path / "peers").write_text("in the way")
    PeerList(tmp_path, node(2)).write([node(1)])
    assert (tmp_path / "peers").read_text() == "in the way"
