"""From a URL to a RecordTable, to what makes it where it has to be made first, and to an agent's half of it.

The one place that knows which queue backends exist; imports one on first use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kubeq.core.clock import Clock
from kubeq.core.model import Reach
from kubeq.core.provisioning import Provisioner
from kubeq.errors import UsageError
from kubeq.extras import extra
from kubeq.queue.base import RecordTable
from kubeq.queue.claims import Claims

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<rest>.*)", re.DOTALL)
_DATASTORE = re.compile(
    r"//(?P<project>([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9])(/(?P<namespace>[0-9A-Za-z._-]{0,100}))?"
    r"(\?database=(?P<database>\(default\)|[a-z][a-z0-9-]{2,61}[a-z0-9]))?"
)
_DYNAMODB = re.compile(r"//(?P<region>[a-z]{2,}(-[a-z0-9]+)+)/(?P<table>[A-Za-z0-9_.-]{3,255})/?")
_CREDENTIALS = re.compile(r"//[^/?#]*@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of queue: how the rest of its URL is opened, and who can see it (as the backend itself says).

    `check` raises UsageError for names that cannot be, as `open` does, and imports no backend.
    `provision` gives what makes it in a cloud; its second argument is the region to make it in where the URL names
    none, None for the cloud's own choice. Without it, nothing has to be made.
    """

    open: Callable[[str], RecordTable]
    reach: Reach
    check: Callable[[str], object] | None = None
    provision: Callable[[str, str | None], Provisioner] | None = None


def open_table(url: str) -> RecordTable:
    """The table behind the URL; nothing is connected or made yet. Raises UsageError for a URL that names none."""
    kind, rest = _parse(url)
    return kind.open(rest)


def open_claims(url: str, clock: Clock, token: str | None = None) -> Claims:
    """The agent's half of the queue behind the URL: the table's own, or what a relay gives to whom has its token.

    Nothing is connected yet. Raises UsageError as `open_table` does, and for a token that is none.
    """
    from kubeq.queue.granting import Granting

    match = _URL.fullmatch(url)
    through = RELAYS.get(match["scheme"].lower()) if match is not None else None
    return Granting(open_table(url), clock) if through is None else through(url, clock, token)


def open_provisioner(url: str, region: str | None = None) -> Provisioner | None:
    """What makes the table behind the URL, in that region where the URL names none; None if nothing has to be made.

    Raises UsageError as `open_table` does; makes no request.
    """
    kind, rest = _parse(url)
    return None if kind.provision is None else kind.provision(rest, region)


def check_url(url: str) -> None:
    """Raises UsageError for a URL that names what cannot be, as `open_table` does; imports no backend."""
    kind, rest = _parse(url)
    if kind.check is not None:
        kind.check(rest)


def reach_of(url: str) -> Reach:
    """Who can see the table behind the URL; imports no backend. Raises UsageError as `open_table` does."""
    return _parse(url)[0].reach


def _parse(url: str) -> tuple[Kind, str]:
    match = _URL.fullmatch(url)
    if match is not None and _CREDENTIALS.match(match["rest"]):
        raise UsageError(
            f"the queue URL of scheme {match['scheme']} holds a user name or a password",
            hint="leave them out; credentials come from the cloud's own tools and are never part of a URL",
        )
    if match is None or match["scheme"].lower() not in TABLES:
        shown = repr(match["scheme"] + ":") if match else "without a scheme"
        known = ", ".join(f"{scheme}:" for scheme in sorted(TABLES))
        raise UsageError(
            f"the queue URL {shown} names no kind of queue", hint=f"the known kinds are {known}; write sqlite:PATH"
        )
    return TABLES[match["scheme"].lower()], match["rest"]


def _sqlite(rest: str) -> RecordTable:
    from kubeq.queue.sqlite import SqliteTable

    if rest.startswith("//") and not rest.startswith("///"):
        raise UsageError(
            f"the queue URL 'sqlite:{rest}' names another machine; SQLite files are on this one",
            hint="write sqlite:PATH or sqlite:///ABSOLUTE/PATH",
        )
    path = rest[2:] if rest.startswith("///") else rest
    if not path or path.endswith("/") or "\0" in path:
        raise UsageError(f"the queue URL 'sqlite:{rest}' names no file", hint="write sqlite:PATH")
    return SqliteTable(Path(path).expanduser().absolute())


def _memory(rest: str) -> RecordTable:
    from kubeq.queue.memory import MemoryTable

    if rest.strip("/"):
        raise UsageError(f"the queue URL 'memory:{rest}' has a path, and memory has none", hint="write memory:")
    return MemoryTable()


def _datastore(rest: str) -> RecordTable:
    with extra("gcp"):
        from kubeq.queue.datastore import DatastoreTable
        from kubeq.queue.datastore_entities import Place
    return DatastoreTable(Place(*place_in_a_project(rest)))


def _datastore_setup(rest: str, region: str | None) -> Provisioner:
    with extra("gcp"):
        from kubeq.queue.datastore_entities import Place
        from kubeq.queue.datastore_setup import DatastoreProvisioner
    return DatastoreProvisioner(Place(*place_in_a_project(rest)), region)


def place_in_a_project(rest: str) -> tuple[str, str, str]:
    """Project, namespace and database; the database named `(default)` is "" to Google's data service."""
    match = _DATASTORE.fullmatch(rest)
    if match is None:
        raise UsageError(
            f"the queue URL 'datastore:{rest}' names no project, or a namespace or database that cannot be",
            hint="write datastore://PROJECT, datastore://PROJECT/NAMESPACE or datastore://PROJECT?database=DATABASE; a "
            "project's id has 6 to 30 lower-case letters, digits and -, and begins with a letter",
        )
    database = match["database"] or ""
    return match["project"], match["namespace"] or "", "" if database == "(default)" else database


def _dynamodb(rest: str) -> RecordTable:
    from kubeq.queue.dynamodb import DynamoDbTable

    return DynamoDbTable(*_table_in_a_region(rest))


def _dynamodb_setup(rest: str, region: str | None) -> Provisioner:
    from kubeq.queue.dynamodb_setup import DynamoDbSetup

    return DynamoDbSetup(*_table_in_a_region(rest))


def _table_in_a_region(rest: str) -> tuple[str, str]:
    match = _DYNAMODB.fullmatch(rest)
    if match is None:
        raise UsageError(
            f"the queue URL 'dynamodb:{rest}' names no region and table",
            hint="write dynamodb://REGION/TABLE; a region is called like eu-west-1, and a table's name has 3 to 255 "
            "letters, digits, '_', '-' and '.'",
        )
    return match["region"], match["table"]


def _relay(url: str, clock: Clock, token: str | None) -> Claims:
    from kubeq.queue.relay import RelayClaims
    from kubeq.relay_client import RelayClient
    from kubeq.relay_wire import parse_token, parse_url

    return RelayClaims(RelayClient(parse_url(url), parse_token(token or "")), clock)


TABLES: Mapping[str, Kind] = {
    "datastore": Kind(open=_datastore, reach=Reach.NETWORK, check=place_in_a_project, provision=_datastore_setup),
    "dynamodb": Kind(open=_dynamodb, reach=Reach.NETWORK, check=_table_in_a_region, provision=_dynamodb_setup),
    "memory": Kind(open=_memory, reach=Reach.HOST),
    "sqlite": Kind(open=_sqlite, reach=Reach.HOST),
}
BESIDE: Mapping[str, str] = {
    "gs": "datastore://{project}",
    "s3": "dynamodb://{region}/kubeq",
}
"""The queue that goes with a store of that scheme where nobody names one; in braces: keys of the configuration."""
RELAYS: Mapping[str, Callable[[str, Clock, str | None], Claims]] = {"relay": _relay}
"""What gives only the agent's half of a queue, by the scheme of its URL."""
