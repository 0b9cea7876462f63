"""The list of the pool's nodes that every task sees: which nodes there are, and which of them this one is.

A file of JSON lines, a node a line by number, in a folder of its own, so that a container sees each new list: it is
written beside the old one and takes its name at once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from kubeq.core.model import Node

log = logging.getLogger(__name__)
FOLDER, FILE = "peers", "nodes.jsonl"


class PeerList:
    """The list in this node's folder; `own` is this node."""

    def __init__(self, node_folder: Path, own: Node) -> None:
        self.path = node_folder / FOLDER / FILE
        self._own = own
        self._written: str | None = None

    def write(self, others: Sequence[Node]) -> None:
        """Have the list say that those work beside this node. A disk that is full keeps the list that stands there."""
        nodes = sorted((*others, self._own), key=lambda node: (node.number, node.name))
        text = "".join(f"{self._line(node)}\n" for node in nodes)
        if text == self._written:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.parent.chmod(0o755)  # whoever a task runs as
            temporary = self.path.with_suffix(".new")
            temporary.write_text(text, encoding="utf-8")
            temporary.chmod(0o644)
            temporary.replace(self.path)
        except OSError as error:
            log.warning("the list of nodes cannot be written: %s", error)
            return
        self._written = text

    def _line(self, node: Node) -> str:
        fields = {
            "number": node.number,
            "name": node.name,
            "host": node.host,
            "address": node.address or node.host,
            "self": node.name == self._own.name,
        }
        return json.dumps(fields, ensure_ascii=False)
