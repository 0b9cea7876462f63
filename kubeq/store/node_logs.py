"""A node's own log in the store, for nodes whose files nobody here can see: JSON lines, as they come.

nodes/<node name>/log/<number, eight digits>
"""

from __future__ import annotations

from kubeq.core.model import NodeName
from kubeq.store.base import ObjectStore
from kubeq.store.segments import SegmentReader, SegmentWriter, delete_segments


def node_log_writer(store: ObjectStore, node: NodeName) -> SegmentWriter:
    """Appends to the node's log, behind what an earlier life of its agent has written. One listing."""
    prefix = _prefix(node)
    return SegmentWriter(store, prefix, first=sum(1 for _ in store.list(prefix)) + 1)


def node_log_reader(store: ObjectStore, node: NodeName) -> SegmentReader:
    """Follows the node's log from its beginning."""
    return SegmentReader(store, _prefix(node))


def delete_node_log(store: ObjectStore, node: NodeName) -> None:
    """Remove the node's log. May be repeated."""
    delete_segments(store, _prefix(node))


def _prefix(node: NodeName) -> str:
    return f"nodes/{node}/log/"
