"""The requests of a relay by name: from a document to a document. What a guest may do is decided by its desk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from kubeq.core import wire
from kubeq.core.model import JobId, NodeName, PoolId, Task
from kubeq.core.wire import Document, checks
from kubeq.errors import BackendError, VersionMismatch
from kubeq.queue.wire import (
    LONGEST_ID,
    Hold,
    decode_end,
    decode_hold,
    decode_room,
    encode_claimed,
    encode_grants,
)
from kubeq.relay.service import Desk, Relay
from kubeq.store.keys import LONGEST_KEY

MOST_KEYS = 1000
LONGEST_WAIT_S = 30.0
MOST_HELD = 10_000
Call = Callable[[Relay, Desk, Document], Document]


def answer(relay: Relay, desk: Desk, name: str, document: Document) -> Document:
    """The answer to a request. Raises KeyError for a name that means none, ValueError for what cannot be read, and what
    the guest's desk raises.
    """
    answered = CALLS[name](relay, desk, document)
    return {"schema": wire.SCHEMA, "at": desk.claims.now(), **answered}


def _claim(relay: Relay, desk: Desk, document: Document) -> Document:
    with _reading("claim"):
        pool, node = PoolId(_name(document["pool"])), NodeName(_name(document["node"]))
        life, room = _name(document["life"]), decode_room(document["room"])
        holding = _holds(document)
    desk.claims.check_self(pool, node)
    return encode_claimed(desk.claims.claim(life, holding, room))


def _renew(relay: Relay, desk: Desk, document: Document) -> Document:
    with _reading("renew"):
        holding = _holds(document)
        started = [None if at is None else checks.number(at) for at in document["started_at"]]
        if len(started) != len(holding):
            raise ValueError("there are not as many times as attempts")
    return {"grants": encode_grants(desk.claims.renew(holding, started))}


def _finish(relay: Relay, desk: Desk, document: Document) -> Document:
    with _reading("finish"):
        ends = [decode_end(end) for end in _few(document["ends"])]
    tasks = desk.claims.finish(ends, lambda: relay.neighbours(desk.guest))
    return {"tasks": [_task_row(task) for task in tasks]}


def _look(relay: Relay, desk: Desk, document: Document) -> Document:
    with _reading("look"):
        holding = _holds(document)
    seen = desk.claims.look(holding)
    return {"order": seen.order, "packages": seen.packages, "urgent": list(seen.urgent)}


def _report(relay: Relay, desk: Desk, document: Document) -> Document:
    with _reading("report"):
        node = wire.decode_node(NodeName(_name(document["node"])), checks.text(document["row"], 2**20))
    desk.claims.check_self(node.pool, node.name)
    return {"row": wire.encode_node(relay.report(desk, node))}


def _pin(relay: Relay, desk: Desk, document: Document) -> Document:
    with _reading("pin"):
        job, name = JobId(_name(document["job"])), _name(document["name"])
        value = checks.text(document["value"], 2 * LONGEST_ID)
    return {"value": desk.claims.pin(job, name, value, desk.objects.spec_of)}


def _peers(relay: Relay, desk: Desk, document: Document) -> Document:
    with _reading("peers"):
        pool = PoolId(_name(document["pool"]))
    desk.claims.check_self(pool, desk.guest.node)
    return {"nodes": [[node.name, wire.encode_node(node)] for node in desk.claims.peers()]}


def _packages(relay: Relay, desk: Desk, document: Document) -> Document:
    with _reading("packages"):
        pool = PoolId(_name(document["pool"]))
    desk.claims.check_self(pool, desk.guest.node)
    return {"packages": [wire.encode_package(package) for package in desk.claims.packages()]}


def _wait(relay: Relay, desk: Desk, document: Document) -> Document:
    with _reading("wait"):
        seen = None if document["seen"] is None else _name(document["seen"])
        seconds = checks.number(document["seconds"])
    return {"seen": desk.changes.wait(seen, min(seconds, LONGEST_WAIT_S), desk.uptime.touch)}


def _stat(relay: Relay, desk: Desk, document: Document) -> Document:
    with _reading("stat"):
        keys = _keys(document)
    return {"sizes": dict(desk.objects.stat(keys))}


def _list(relay: Relay, desk: Desk, document: Document) -> Document:
    with _reading("list"):
        prefix, after = (_any_text(document[name]) for name in ("prefix", "after"))
        limit = checks.whole(document["limit"], least=1, most=MOST_KEYS)
    found = list(islice(desk.objects.list(prefix, after), limit + 1))
    return {"objects": [[stored.key, stored.size] for stored in found[:limit]], "more": len(found) > limit}


def _delete(relay: Relay, desk: Desk, document: Document) -> Document:
    with _reading("delete"):
        keys = _keys(document)
    desk.objects.delete(keys)
    return {}


CALLS: Mapping[str, Call] = {
    "claim": _claim,
    "delete": _delete,
    "finish": _finish,
    "list": _list,
    "look": _look,
    "packages": _packages,
    "peers": _peers,
    "pin": _pin,
    "renew": _renew,
    "report": _report,
    "stat": _stat,
    "wait": _wait,
}


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """A block that reads what a node has sent: what is wrong with it leaves the block as a ValueError."""
    try:
        yield
    except VersionMismatch:
        raise
    except (BackendError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"the request {name!r} cannot be read: {str(error)[:300] or type(error).__name__}") from error


def _name(value: object) -> str:
    return checks.text(value, LONGEST_ID)


def _holds(document: Document) -> list[Hold]:
    return [decode_hold(hold) for hold in _few(document["holding"])]


def _few(documents: object) -> list[Any]:
    if not isinstance(documents, list):
        raise ValueError("a list is missing")
    checks.whole(len(documents), most=MOST_HELD)
    return documents


def _keys(document: Document) -> list[str]:
    keys = _few(document["keys"])
    checks.whole(len(keys), most=MOST_KEYS)
    return [_any_text(key) for key in keys]


def _any_text(value: object) -> str:
    """A text that may be no key at all: what is none is refused, or lists nothing."""
    if not isinstance(value, str) or len(value) > 4 * LONGEST_KEY:
        raise ValueError("a key is no text, or too long")
    return value


def _task_row(task: Task | None) -> list[object] | None:
    return None if task is None else [task.claimable_at, wire.encode_task(task)]
