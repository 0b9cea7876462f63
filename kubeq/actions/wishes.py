"""What the nodes of one `addnodes` are to be, whatever their pool has: checked before anything is started.

Spot or ordinary machines, machines of other types, or nodes on further hosts of the user's own: then the pool grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kubeq.actions.session import Session
from kubeq.actions.starting import AS_THE_POOL, Say, Wish
from kubeq.core.model import Pool
from kubeq.core.table_rules import listing
from kubeq.errors import BackendError, UsageError
from kubeq.nodes.hosts import Host, check_keys, read_hosts, with_further
from kubeq.nodes.open import HERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the options say; what they leave out is as the pool has it. `hosts` are words of a list, or files."""

    types: tuple[str, ...] = ()
    spot: bool | None = None
    hosts: tuple[str, ...] = ()

    @property
    def machines(self) -> bool:
        """Whether it is about machines of a cloud."""
        return bool(self.types) or self.spot is not None


def check_asked(session: Session, pool: Pool, asked: Asked) -> tuple[Host, ...]:
    """The hosts that are named. Raises UsageError for what nodes of such a pool cannot be; makes no request."""
    if asked.machines and asked.hosts:
        raise UsageError(
            "a node is on a host of yours or on a machine of a cloud, so --hosts goes neither with -m nor with --spot",
            hint="call addnodes once for the hosts and once for the machines",
        )
    if asked.machines and pool.machines is None:
        where = "agents on this machine" if pool.provider == HERE else "on hosts of your own"
        raise UsageError(
            f"-m and --spot are about machines of a cloud, and the nodes of pool {pool.id} are {where}",
            hint="leave them out",
        )
    if not asked.hosts:
        return ()
    if pool.provider == HERE:
        raise UsageError(
            f"the nodes of pool {pool.id} are agents on this machine, so no other host can join it",
            hint="a job that is submitted with --hosts has a pool of hosts",
        )
    place = session.config.place
    found = read_hosts(asked.hosts, place.base, place.home)
    check_keys(found, session.config.ssh_identity)
    with_further(pool.hosts, found)
    return found


def wished(session: Session, pool: Pool, asked: Asked, say: Say) -> tuple[Pool, Wish]:
    """The pool, which may have grown by hosts, and what is wished of its new nodes.

    Raises UsageError for what cannot be, BackendError if none of the hosts can be used; then nothing has changed.
    """
    hosts = check_asked(session, pool, asked)
    if hosts:
        return _joined(session, pool, hosts, say)
    if pool.machines is None or not asked.machines:
        return pool, AS_THE_POOL
    spot = pool.machines.spot if asked.spot is None else asked.spot
    return pool, Wish(machines=replace(pool.machines, types=asked.types or pool.machines.types, spot=spot))


def _joined(session: Session, pool: Pool, hosts: Sequence[Host], say: Say) -> tuple[Pool, Wish]:
    """The pool with those of the hosts that can be used; the others are told, and stay out."""
    lines = [host.line for host in hosts]
    seen = session.on_hosts(lines).look(pool.id)
    problems = [each.problem for each in seen if each.problem is not None]
    good = [host for host, each in zip(hosts, seen, strict=True) if each.problem is None]
    if not good:
        raise BackendError(
            f"none of these hosts can be used: {listing(problems)}", hint="mend that; nothing was started or changed"
        )
    for problem in problems:
        say(f"{problem}; it is left out")
    grown = session.queue.set_hosts(pool, lambda standing: with_further(standing, good))
    session.adopt(grown, anew=True)
    return grown, Wish(hosts=session.on_hosts([host.line for host in good]))
