"""`check`: every dependency of a configuration tried for real, one finding after the other, and nothing left behind.

What is tried of a store and of a queue is in `probing`, of a node in `probe_job`. A step that fails is told with its
hint; those that build on it are skipped, the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from kubeq.actions.backplane import check_reach
from kubeq.actions.folders import check_cache_dir, check_state_dir
from kubeq.actions.images import describe_engine
from kubeq.actions.preflight import clock_warning, nodes_are_here, resolver_of
from kubeq.actions.probe_job import run_probe_job
from kubeq.actions.probing import INDEX_PATIENCE_S, Probe, Step, StoreProbe, TableProbe
from kubeq.actions.session import Session
from kubeq.errors import BackendError, KubeqError

CHECKS = (
    "configuration", "state-folder", "cache-folder",
    "store-write", "store-read", "store-list", "store-write-once", "store-delete",
    "inputs-write", "inputs-read", "inputs-list", "inputs-write-once", "inputs-delete",
    "queue-insert", "queue-swap", "queue-due", "queue-list", "queue-delete", "clock",
    "engine", "image", "node",
)  # fmt: skip
"""Every name that a finding may have, in their order."""


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of one step. `target` is what was tried, `message` what there is to tell, `hint` what mends a failure;
    `duration_s` how long it took, None for a step that was skipped.
    """

    check: str
    target: str
    outcome: Outcome
    message: str = ""
    hint: str | None = None
    duration_s: float | None = None


def check(session: Session, *, node: bool, index_patience_s: float = INDEX_PATIENCE_S) -> Iterator[Finding]:
    """A finding for each step, as it is made. `node`: also start a node that runs a task.

    A row that is written may take `index_patience_s` to show in the queue's index.
    """
    config = session.config
    yield from _in_turn(session, _basics(session))
    yield from _probed(session, "store", session.store.url, StoreProbe(session.store))
    if session.inputs_store is not session.store:
        yield from _probed(session, "inputs", session.inputs_store.url, StoreProbe(session.inputs_store))
    table = TableProbe(session.table, session.clock, index_patience_s)
    clock = ("clock", config.queue_url, partial(_clock, session))
    yield from _probed(session, "queue", config.queue_url, table, clock)
    yield from _in_turn(session, _images(session))
    yield from _node(session, node)


_Try = tuple[str, str, Callable[[], str]]
"""A check's name, its target, and what tries it."""


def _basics(session: Session) -> Sequence[_Try]:
    config = session.config

    def configuration() -> str:
        check_reach(config, session.provider.capabilities)
        return ""

    def folder() -> str:
        check_state_dir(config.state_dir)
        return ""

    def cache() -> str:
        check_cache_dir(config.cache_dir)
        return ""

    return (
        ("configuration", "no file" if config.path is None else str(config.path), configuration),
        ("state-folder", str(config.state_dir), folder),
        ("cache-folder", str(config.cache_dir), cache),
    )


def _images(session: Session) -> Sequence[_Try]:
    image = session.config.container_image
    if image is None:
        return ()

    def resolve() -> str:
        pinned = resolver_of(session)(image)
        return f"it is {pinned}" if pinned else "it cannot be looked up from here; the first node decides"

    engine: Sequence[_Try] = (("engine", "this machine", describe_engine),) if nodes_are_here(session) else ()
    return (*engine, ("image", image, resolve))


def _clock(session: Session) -> str:
    offset = session.table.clock_offset()
    warning = clock_warning(offset)
    if warning is not None:
        raise BackendError(warning)
    return f"{abs(offset):.1f} s from the queue's"


def _node(session: Session, wanted: bool) -> Iterator[Finding]:
    target = f"provider {session.config.provider}"
    if not wanted:
        told = "not tried; kubeq check --node starts a node that runs one task"
        yield Finding(check="node", target=target, outcome=Outcome.SKIPPED, message=told)
        return
    yield from _in_turn(session, [("node", target, partial(run_probe_job, session))])


def _probed(session: Session, what: str, target: str, probe: Probe, *more: _Try) -> Iterator[Finding]:
    """The findings of a probe, which is cleared whatever happens."""
    try:
        yield from _in_turn(session, [*(_named(what, target, step) for step in probe.steps()), *more])
    finally:
        probe.clear()


def _named(what: str, target: str, step: Step) -> _Try:
    return f"{what}-{step[0]}", target, step[1]


def _in_turn(session: Session, tries: Sequence[_Try]) -> Iterator[Finding]:
    """The tries until one fails; those behind it are skipped."""
    failed: str | None = None
    for name, target, attempt in tries:
        if failed is not None:
            yield Finding(check=name, target=target, outcome=Outcome.SKIPPED, message=f"{failed} failed")
            continue
        finding = _tried(session, name, target, attempt)
        failed = name if finding.outcome is Outcome.FAILED else None
        yield finding


def _tried(session: Session, name: str, target: str, attempt: Callable[[], str]) -> Finding:
    began = session.clock.monotonic()
    outcome, hint = Outcome.PASSED, None
    try:
        message = attempt()
    except KubeqError as error:
        outcome, message, hint = Outcome.FAILED, error.message, error.hint
    took = session.clock.monotonic() - began
    return Finding(check=name, target=target, outcome=outcome, message=message, hint=hint, duration_s=took)
