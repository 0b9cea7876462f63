"""What is made certain before a submission stores anything, besides all that the plan has refused already.

The keys for the user's own hosts are there; the image exists and fits; a cloud has a machine on which a task fits;
where queue and store are on the network, they answer, are complete and may be written. The questions are asked side by
side, so that a user waits for the slowest of them only. Requests besides those for the image and of the cloud: to each
network store a put and a delete of a small object; to a network queue one look at its index. (Whether a queue may be
written, its first write tells: the job's row, before anything else is stored.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from kubeq.actions.folders import check_store_dir
from kubeq.actions.images import resolve_elsewhere, resolve_image
from kubeq.actions.machines import machines_of, offer_text
from kubeq.actions.plan import Plan
from kubeq.actions.probing import StoreProbe
from kubeq.actions.session import Session
from kubeq.core.machines import Machines, Offer
from kubeq.core.model import Reach
from kubeq.core.table_rules import listing
from kubeq.errors import UsageError
from kubeq.nodes.hosts import check_keys, hosts_of
from kubeq.nodes.open import USUAL_IDENTITIES
from kubeq.queue.base import Partition
from kubeq.queue.swaps import insist
from kubeq.queue.takeover import HARMLESS_OFFSET_S
from kubeq.store.base import ObjectStore
from kubeq.store.parallel import run_parallel

Resolve = Callable[[str], str | None]
NOBODY = (
    "the machines act as nobody, as no node_identity is set, so they reach neither queue nor store unless their image "
    "brings credentials; kubeq setup makes them somebody"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """One thing that is certain now: what it is, and of which thing."""

    check: str
    thing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """A submission that can go ahead. `pinned` is the image by its digest; None without one, or if the nodes tell.

    `offers` are what machines there would be, in the order in which they would be tried; none where none are made.
    """

    pinned: str | None
    passed: tuple[Passed, ...]
    warnings: tuple[str, ...]
    offers: tuple[Offer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    passed: Passed
    offers: tuple[Offer, ...] = ()
    warning: str | None = None
    pinned: str | None = None


def preflight(session: Session, plan: Plan, resolve: Resolve | None = None) -> Preflight:
    """Everything that can be known before; leaves nothing behind. `resolve` is asked for the image.

    Raises UsageError for what of the user's own is missing; ImageUnavailable, AccessDenied or BackendError saying what
    else is in the way.
    """
    for url in (session.config.store_url, session.config.blobs_url):
        check_store_dir(url)
    if not session.config.local:
        check_keys(hosts_of(session.hosts), session.config.ssh_identity)
    answers = run_parallel(list(_questions(session, plan, resolve or resolver_of(session))))
    return Preflight(
        pinned=next((answer.pinned for answer in answers if answer.pinned), None),
        passed=(*_of_the_plan(plan), *(answer.passed for answer in answers)),
        warnings=tuple(answer.warning for answer in answers if answer.warning),
        offers=next((answer.offers for answer in answers if answer.offers), ()),
    )


def resolver_of(session: Session) -> Resolve:
    """Who is asked for an image: this machine's engine if its nodes are here, else the registry as far as possible."""
    return resolve_image if nodes_are_here(session) else resolve_elsewhere


def nodes_are_here(session: Session) -> bool:
    """Whether the nodes that the submission starts, or that its user is told how to start, are this machine."""
    if session.config.local:
        return True
    if session.provider.capabilities.reach is Reach.NETWORK:
        return False
    return not session.config.prepare or session.queue.reach is Reach.HOST


def clock_warning(offset_s: float) -> str | None:
    """The sentence about a clock that is too far from the queue's; None for one that is near enough."""
    if abs(offset_s) <= HARMLESS_OFFSET_S:
        return None
    side = "behind" if offset_s > 0 else "ahead of"
    return (
        f"this machine's clock is {abs(offset_s):.0f} s {side} the queue's; a node with such a clock takes over no "
        "work of a node that died (set it, best by a time service: timedatectl set-ntp true)"
    )


def _questions(session: Session, plan: Plan, resolve: Resolve) -> Iterator[Callable[[], _Answer]]:
    if plan.spec.image is not None:
        yield partial(_ask_image, plan.spec.image, resolve)
    if session.queue.reach is Reach.NETWORK:
        yield partial(_ask_queue, session)
    machines = None if session.config.local or session.config.prepare else machines_of(session)
    if machines is not None:
        yield partial(_ask_machines, session, machines)
    for store in dict.fromkeys((session.store, session.inputs_store)):
        if store.reach is Reach.NETWORK:
            yield partial(_ask_store, store)


def _ask_image(image: str, resolve: Resolve) -> _Answer:
    pinned = resolve(image)
    if pinned is not None:
        return _Answer(passed=Passed(check="image", thing=pinned), pinned=pinned)
    told = f"the image {image} cannot be looked up from here; the first node that has it decides which one is meant"
    return _Answer(passed=Passed(check="image", thing=f"{image}, by its first node"), warning=told)


def _ask_queue(session: Session) -> _Answer:
    insist(lambda: session.table.due(Partition("probe"), 0.0, None, 1))
    warning = clock_warning(session.table.clock_offset())
    return _Answer(passed=Passed(check="queue", thing=session.config.queue_url), warning=warning)


def _ask_machines(session: Session, machines: Machines) -> _Answer:
    offers = tuple(session.provider.offers(machines))
    if not offers:
        kinds, where = listing(machines.types) or "any type", listing(machines.zones) or machines.region
        raise UsageError(
            f"a task asks for {machines.need}, and no machine of {kinds} in {where} has that",
            hint="ask for less: -r cpu=N,memory=SIZE; or name another type: --machine-type TYPE",
        )
    warning = NOBODY if session.config.provider in USUAL_IDENTITIES and machines.identity is None else None
    return _Answer(passed=Passed(check="machine", thing=offer_text(offers[0])), offers=offers, warning=warning)


def _ask_store(store: ObjectStore) -> _Answer:
    probe = StoreProbe(store)
    try:
        probe.write()
    finally:
        probe.clear()
    return _Answer(passed=Passed(check="store", thing=store.url))


def _of_the_plan(plan: Plan) -> Iterator[Passed]:
    """What the plan would have been refused for."""
    if plan.table is not None:
        rows, columns = len(plan.table.rows), len(plan.table.columns)
        yield Passed(check="table", thing=f"{_counted(rows, 'row')} of {_counted(columns, 'column')}")
    yield Passed(check="inputs", thing=_counted(len(plan.inputs.paths()), "file"))
    yield Passed(check="resources", thing=str(plan.spec.resources))


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
