"""Pools and their nodes over any table, as the user's commands see them. An agent's own report is in `granting`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from kubeq.core.digest import Digest
from kubeq.core.machines import with_id
from kubeq.core.model import Node, NodeName, NodeOrder, NodeState, Pool, PoolId
from kubeq.core.nodes import has_begun
from kubeq.core.packages import Package
from kubeq.errors import BackendError, Conflict
from kubeq.queue.base import Change, Key, RecordTable, Row, Swapped
from kubeq.queue.looking import Listings
from kubeq.queue.rows import POOLS, jobs_of, node_change, node_of, node_row, nodes_of, pool_change, pool_of, pool_row
from kubeq.queue.swaps import batches, edit_row, insist, swap_all
from kubeq.queue.sweeping import list_all

STRENGTH = {NodeOrder.SHRINK: 0, NodeOrder.FINISH: 1, NodeOrder.RELEASE: 2}
"""An order never takes the place of a stronger one: that a user has stopped a node stays on record."""
KEPT_ARCHIVES = 16
"""Of one pool, the newest ones: more only come together where kubeq itself is being changed."""
MOST_PACKAGES = 64
"""Of one pool; each takes up to 300 bytes of its row, which may have 300 kB."""


class Pools:
    """The part of a queue that numbers nodes and gives them orders. The table and the listings are the queue's."""

    _table: RecordTable
    _listings: Listings

    def pool(self, id: PoolId) -> Pool | None:
        """The pool, if anybody has made it."""
        row = insist(lambda: self._table.get([Key(POOLS, id)]))[0]
        return None if row is None else pool_of(row)

    def pools(self) -> list[Pool]:
        """Every pool there is."""
        return list(self._listings.read(list_all(self._table, POOLS), pool_of))

    def make_pool(self, pool: Pool) -> bool:
        """Have the pool on record as it is; False if it stands there already. Atomic."""
        return insist(lambda: self._table.insert([pool_row(replace(pool, nodes=0))]))[0] is None

    def number_nodes(self, pool: Pool, count: int) -> list[int]:
        """The next `count` node numbers of the pool, never given out before; makes the pool if need be. Atomic."""
        self.make_pool(pool)

        def edit(row: Row) -> Change:
            standing = pool_of(row)
            return pool_change(replace(standing, nodes=standing.nodes + count), row.version)

        row = edit_row(self._table, Key(POOLS, pool.id), f"pool {pool.id}", edit)
        if row is None:
            raise BackendError(f"the pool {pool.id} was removed while nodes were being added", transient=True)
        last = pool_of(row).nodes
        return list(range(last - count + 1, last + 1))

    def number_next(self, pool: Pool, count: int, *, standing: int, first: int, at: float) -> list[int]:
        """As `number_nodes`, if `standing` numbers were given out before; none if the row has changed: look again.

        `at` is written down as the time, and `first` as the first number of which it may not be known what came of it.
        Atomic.
        """
        self.make_pool(pool)
        row = insist(lambda: self._table.get([Key(POOLS, pool.id)]))[0]
        found = None if row is None else pool_of(row)
        if row is None or found is None or found.nodes != standing:
            return []
        numbered = replace(found, nodes=standing + count, numbered_from=first, numbered_at=at)
        change = pool_change(numbered, row.version)
        if not isinstance(swap_all(self._table, [change])[0], Swapped):
            return []
        return list(range(standing + 1, standing + count + 1))

    def record_requested(self, nodes: Sequence[Node]) -> list[NodeName]:
        """Have rows of machines that were asked for; one that its agent has written already is only told its id.

        Those of which the row says that they have ended: nobody wants them any more.
        """
        unwanted = []
        for batch in batches(nodes, self._table.batch):
            rows = [node_row(node) for node in batch]
            standing = insist(partial(self._table.insert, rows))
            for node, found in zip(batch, standing, strict=True):
                if found is not None:
                    self._tell_id(node)
                    unwanted += [node.name] if node_of(found).state is NodeState.GONE else []
        return unwanted

    def withdraw(self, node: Node) -> bool:
        """Have it on record, as the caller has it, that a node ended before it began; False if its agent has begun.

        An agent that comes up under that name all the same finds its order there before it may claim anything. Atomic.
        """

        def edit(row: Row) -> Change | None:
            found = node_of(row)
            if has_begun(found) or found.state is NodeState.GONE:
                return None
            ended = replace(found, state=node.state, gone=node.gone, ended_at=node.ended_at, note=node.note)
            return node_change(replace(ended, order=node.order), row.version)

        written = edit_row(self._table, Key(nodes_of(node.pool), node.name), f"node {node.name}", edit)
        if written is None:
            standing = insist(lambda: self._table.insert([node_row(node)]))[0]
            return standing is None or self.withdraw(node)
        found = node_of(written)
        return (found.state, found.order) == (node.state, node.order)

    def _tell_id(self, node: Node) -> None:
        def edit(row: Row) -> Change | None:
            standing = node_of(row)
            machine = with_id(standing.machine, node.machine)
            return None if machine == standing.machine else node_change(replace(standing, machine=machine), row.version)

        edit_row(self._table, Key(nodes_of(node.pool), node.name), f"node {node.name}", edit)

    def record_end(self, node: Node) -> Node:
        """The row of a node that has ended, as the caller has it or, if it said so itself, as it stands. Atomic."""

        def edit(row: Row) -> Change | None:
            standing = node_of(row)
            if standing.state is NodeState.GONE:
                return None
            kept = replace(node, order=standing.order, packages=standing.packages, begun=has_begun(standing))
            return node_change(kept, row.version)

        written = edit_row(self._table, Key(nodes_of(node.pool), node.name), f"node {node.name}", edit)
        if written is not None:
            return node_of(written)
        found = insist(lambda: self._table.insert([node_row(node)]))[0]
        return node if found is None else node_of(found)

    def set_hosts(self, pool: Pool, merge: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Pool:
        """The pool with the hosts that `merge` makes of those it has; makes the pool if need be. Atomic.

        What `merge` raises leaves the row as it is.
        """
        self.make_pool(pool)

        def edit(row: Row) -> Change | None:
            found = pool_of(row)
            hosts = merge(found.hosts)
            return None if hosts == found.hosts else pool_change(replace(found, hosts=hosts), row.version)

        row = edit_row(self._table, Key(POOLS, pool.id), f"pool {pool.id}", edit)
        if row is None:
            raise BackendError(f"the pool {pool.id} was removed while hosts were being added", transient=True)
        return pool_of(row)

    def keep_archive(self, pool: Pool, archive: Digest) -> None:
        """Have it on record that nodes of the pool come from that agent archive; makes the pool if need be. Atomic."""
        standing = self.pool(pool.id)
        if standing is not None and archive in standing.archives:
            return
        self.make_pool(pool)

        def edit(row: Row) -> Change:
            found = pool_of(row)
            others = (digest for digest in found.archives if digest != archive)
            return pool_change(replace(found, archives=(*others, archive)[-KEPT_ARCHIVES:]), row.version)

        if edit_row(self._table, Key(POOLS, pool.id), f"pool {pool.id}", edit) is None:
            raise BackendError(f"the pool {pool.id} was removed while nodes were being added", transient=True)

    def add_package(self, pool: Pool, package: Package, *, again: bool) -> Package:
        """The package as it is on record now, under the next number; makes the pool if need be. Atomic.

        It takes the place of one of its name. One that is on record already, the very same, stays as it is: unless
        `again`. Raises Conflict for a pool that has too many.
        """
        self.make_pool(pool)

        def edit(row: Row) -> Change | None:
            found = pool_of(row)
            others = [other for other in found.packages if other.name != package.name]
            number = 1 + max((other.number for other in found.packages), default=0)
            if not again and _recorded(found, package) is not None:
                return None
            if len(others) >= MOST_PACKAGES:
                raise Conflict(
                    f"the pool has {len(others)} packages already, which is the most",
                    hint="inject what belongs together as one package",
                )
            return pool_change(replace(found, packages=(*others, replace(package, number=number))), row.version)

        row = edit_row(self._table, Key(POOLS, pool.id), f"pool {pool.id}", edit)
        recorded = None if row is None else _recorded(pool_of(row), package)
        if recorded is None:
            raise BackendError(f"the pool {pool.id} was changed while a package was injected", transient=True)
        return recorded

    def tell_of_packages(self, pool: PoolId, number: int) -> list[Node]:
        """Have every node of the pool know that there is a package of that number; the nodes that have not left."""
        told = []
        for row in list_all(self._table, nodes_of(pool)):
            if node_of(row).state is NodeState.GONE:
                continue

            def edit(row: Row) -> Change | None:
                node = node_of(row)
                return None if node.packages >= number else node_change(replace(node, packages=number), row.version)

            written = edit_row(self._table, row.key, f"node {row.key.name}", edit)
            if written is not None:
                told.append(node_of(written))
        return told

    def order(self, node: Node, order: NodeOrder) -> Node | None:
        """Ask a node to leave; its row as it stands then, None if it has none. A stronger order is left as it is."""

        def edit(row: Row) -> Change | None:
            standing = node_of(row)
            weaker = standing.order is None or STRENGTH[standing.order] < STRENGTH[order]
            return node_change(replace(standing, order=order), row.version) if weaker else None

        written = edit_row(self._table, Key(nodes_of(node.pool), node.name), f"node {node.name}", edit)
        return None if written is None else node_of(written)

    def forget_nodes(self, nodes: Sequence[Node]) -> None:
        """Remove the rows of nodes that have gone; their numbers are not given out again."""
        self._delete([Key(nodes_of(node.pool), node.name) for node in nodes])

    def forget_pool(self, pool: PoolId) -> None:
        """Remove a pool that no job uses, with its node rows, whichever kubeq wrote them."""
        self._delete([*(row.key for row in list_all(self._table, nodes_of(pool))), Key(POOLS, pool)])

    def has_jobs(self, pool: PoolId) -> bool:
        """Whether any job, ended or not, belongs to the pool."""
        return bool(insist(lambda: self._table.list(jobs_of(pool), None, 1)).rows)

    def has_open_jobs(self, pool: PoolId) -> bool:
        """Whether any job of the pool has something unfinished; may be stale."""
        return bool(insist(lambda: self._table.due(jobs_of(pool), float("inf"), None, 1)).rows)

    def _delete(self, keys: Sequence[Key]) -> None:
        for batch in batches(keys, self._table.batch):
            insist(partial(self._table.delete, batch))


def _recorded(pool: Pool, package: Package) -> Package | None:
    """That very package in the pool's row, whichever number it has there."""
    return next((one for one in pool.packages if replace(package, number=one.number) == one), None)
