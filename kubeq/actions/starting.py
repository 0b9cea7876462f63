"""Starting nodes whose numbers were given out: what they are told, where they come up, what became of each.

How many there are to be is decided in `launching`. Nodes are as their pool has it, unless a `Wish` says otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from kubeq.actions.fleet import Fleet, failure_on_record, record_launch
from kubeq.actions.machines import machine_request
from kubeq.actions.naming import node_name
from kubeq.actions.node_requests import node_request
from kubeq.actions.session import Session
from kubeq.core.machines import Machines
from kubeq.core.model import Job, NodeName, Pool
from kubeq.core.table_rules import listing
from kubeq.errors import BackendError
from kubeq.nodes.base import Launched, NodeProvider, NodeRequest, Refused

Say = Callable[[str], None]


def nobody(sentence: str) -> None:
    """For callers who have nobody to tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the nodes of one launch are to be, whatever their pool has: such machines, or on those hosts and no others.

    None: as the pool has it. What may be wished is checked in `wishes`.
    """

    machines: Machines | None = None
    hosts: NodeProvider | None = None


AS_THE_POOL = Wish()


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """Numbers for new nodes. `needed`: one of them has to come up, as no other is there.

    Hosts that can never run the tasks of `job` are left out. `fleet` is what there was of a cloud's machines; None
    where the pool has none. `beyond` is how many more are missing than may be started.
    """

    numbers: Sequence[int] = ()
    needed: bool = False
    fleet: Fleet | None = None
    job: Job | None = None
    beyond: int = 0


def start_numbered(
    session: Session, pool: Pool, numbered: Numbered, say: Say = nobody, wish: Wish = AS_THE_POOL
) -> tuple[NodeName, ...]:
    """The names of those that were started; `say` is told of each that could not be.

    Raises BackendError if none came up of which one was needed.
    """
    names = {node_name(pool.id, number): number for number in numbered.numbers}
    if not names:
        return ()
    answers: dict[NodeName, Launched | Refused] = {}
    if wish == AS_THE_POOL:
        answers |= _on_hosts(session, pool, names, say, numbered.job)
    left = {name: number for name, number in names.items() if name not in answers}
    made = _made(session, pool, left, say, numbered, wish) if left else {}
    given_up = _record(session, pool, made, wish)
    answers |= made
    reasons = [answer.reason for answer in answers.values() if isinstance(answer, Refused)]
    came = tuple(name for name in names if isinstance(answers.get(name), Launched))
    if numbered.needed and not came:
        hint = "what was submitted stays: kubeq resume JOB tries again" if pool.machines is not None else None
        raise BackendError(f"no node could be started: {listing(list(dict.fromkeys(reasons)))}", hint=hint)
    for reason, times in Counter(reasons).items():
        say(f"{times:,} nodes could not be started: {reason}" if times > 1 else f"no node: {reason}")
    return tuple(name for name in came if name not in given_up)


def _on_hosts(
    session: Session, pool: Pool, names: Mapping[NodeName, int], say: Say, job: Job | None
) -> Mapping[NodeName, Launched]:
    """Those that come up on hosts of the user's own, which are paid for already; the others are left to the cloud."""
    hosts = session.hosts_of(pool.id)
    if hosts is None:
        return {}
    answers = hosts.launch(node_request(session, pool, job), names)
    reasons = dict.fromkeys(answer.reason for answer in answers.values() if isinstance(answer, Refused))
    for reason in reasons:
        say(f"{reason}; machines make up what is missing")
    return {name: answer for name, answer in answers.items() if isinstance(answer, Launched)}


def _made(
    session: Session, pool: Pool, names: Mapping[NodeName, int], say: Say, numbered: Numbered, wish: Wish
) -> Mapping[NodeName, Launched | Refused]:
    """What became of each. Machines of a launch that is interrupted are told to go again: nobody may know of them."""
    with failure_on_record(session, pool, names):
        if wish.hosts is not None:
            return wish.hosts.launch(node_request(session, pool, numbered.job), names)
        provider, request = session.provider_of(pool.id), _request(session, pool, say, numbered, wish)
        try:
            return provider.launch(request, names)
        except KeyboardInterrupt:
            if pool.machines is not None:
                provider.terminate(list(names))
            raise


def _record(
    session: Session, pool: Pool, made: Mapping[NodeName, Launched | Refused], wish: Wish
) -> Collection[NodeName]:
    """Have it on record what became of machines; those that somebody gave up while they were made, which are ended."""
    if pool.machines is None:
        return ()
    if wish.hosts is not None:  # who comes up there says so; a number of which nothing came must not wait to be seen
        made = {name: answer for name, answer in made.items() if isinstance(answer, Refused)}
    given_up = record_launch(session, pool, made.values())
    if given_up:
        session.provider_of(pool.id).terminate(given_up)
    return given_up


def _request(session: Session, pool: Pool, say: Say, numbered: Numbered, wish: Wish) -> NodeRequest:
    """What new nodes are told. Machines are ordinary ones once enough spot machines were taken back, unless the user
    has said what these are to be.
    """
    fleet, request = numbered.fleet, machine_request(session, pool, node_request(session, pool, numbered.job))
    if wish.machines is not None:
        return replace(request, machines=wish.machines)
    if fleet is None or pool.machines is None or not pool.machines.spot:
        return request
    taken = fleet.preempted
    if taken < pool.machines.spot_budget:
        return request
    say(f"{taken:,} spot machines were taken back; ordinary ones from here on")
    return replace(request, machines=replace(pool.machines, spot=False))
