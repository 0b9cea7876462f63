"""How many attempts run side by side: what fits the node's cpu and memory, and what may be claimed next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubeq.core.resources import Resources, fits, minus
from kubeq.queue.claims import Room
from kubeq_consumer.attempt import Attempt, Phase

MOST_STARTS = 64
"""Attempts claimed in one go: enough to fill any node in a few rounds, few enough to share a pool's first moments."""
HOLDING_SLOT = frozenset({Phase.PREPARING, Phase.READY, Phase.RUNNING})


def waiting(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Attempts whose command has not been let go yet, oldest claim first."""
    return [attempt for attempt in attempts if attempt.phase in (Phase.PREPARING, Phase.READY) and not attempt.gone]


def running(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Attempts whose command has been let go, and of which something may still run."""
    return [attempt for attempt in attempts if attempt.gone and attempt.phase in HOLDING_SLOT]


def own_share(attempts: Iterable[Attempt], total: Resources, free: Resources) -> Resources:
    """What this agent may still give: what the machine has left, within what the agent was told to give at most."""
    left = total
    for attempt in running(attempts):
        left = minus(left, attempt.grant.need)
    if left.memory is None or free.memory is None:
        memory = left.memory if free.memory is None else free.memory
    else:
        memory = min(left.memory, free.memory)
    return Resources(cpu=min(left.cpu, free.cpu), memory=memory, gpus=min(left.gpus, free.gpus))


def room_for(attempts: Sequence[Attempt], free: Resources, total: Resources, nodes: int, *, ahead: bool) -> Room:
    """What may be claimed now, when `free` is what the machine's ledger has left and `nodes` share the pool.

    With `ahead` (tasks are short), at most one attempt ahead for every two that run, and one more: enough to hide the
    start of the next, and the fewer are held back from other nodes the better. A long task's successor can wait for its
    end.
    """
    held_back = 0
    for attempt in waiting(attempts):
        if fits(attempt.grant.need, free):
            free = minus(free, attempt.grant.need)
        else:
            held_back += 1
    busy = len(running(attempts))
    allowed = busy // 2 + 1 if ahead else 0
    return Room(
        free=free,
        total=total,
        starts=MOST_STARTS if free.cpu > 0 else 0,
        ahead=max(0, allowed - held_back),
        pool_slots=max(1, busy) * nodes if nodes > 1 else 0,  # alone in its pool, it leaves nothing to others
    )


def free_slot(attempts: Iterable[Attempt]) -> int:
    """The smallest slot number that no attempt holds whose command has yet to end."""
    taken = {attempt.slot for attempt in attempts if attempt.phase in HOLDING_SLOT}
    return next(number for number in range(len(taken) + 1) if number not in taken)
