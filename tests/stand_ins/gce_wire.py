"""How Compute Engine words things: errors, times, links, filters, pages."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Json = dict[str, Any]
ROOT = "https://www.googleapis.com/compute/v1"
_TERM = re.compile(r"""\(?\s*(?P<path>[\w.-]+)\s*(?P<operator>!=|=|:)\s*"?(?P<value>[^")]*)"?\s*\)?""")


class Refused(Exception):
    """The request is answered with an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message

    def told(self) -> Json:
        """As Google words it."""
        errors = [{"domain": "global", "reason": self.reason, "message": self.message}]
        return {"error": {"code": self.status, "message": self.message, "errors": errors}}


def not_found(kind: str, name: str) -> Refused:
    return Refused(404, "notFound", f"The resource '{kind}/{name}' was not found")


def stamp(at: float) -> str:
    """A time as Google writes it: in the zone of California."""
    moment = time.gmtime(at - 8 * 3600)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{int(at % 1 * 1000):03d}-08:00", moment)


def link(*parts: str) -> str:
    return "/".join((ROOT, *parts))


def last(url: str) -> str:
    return url.rpartition("/")[2]


def matches(one: Mapping[str, Any], wanted: str | None) -> bool:
    """Whether a resource is what a filter describes: terms joined by AND or OR, not by both."""
    if not wanted:
        return True
    together = all if " AND " in wanted else any
    return together(_holds(one, term) for term in re.split(r" (?:AND|OR) ", wanted))


def _holds(one: Mapping[str, Any], term: str) -> bool:
    parts = _TERM.fullmatch(term.strip())
    if parts is None:
        raise Refused(400, "invalid", f"Invalid value for field 'filter': '{term}'.")
    value: Any = one
    for name in parts["path"].split(".", 1):
        value = value.get(name) if isinstance(value, Mapping) else None
    if parts["value"] == "*":
        return value is not None
    equal = str(value) == parts["value"]
    return not equal if parts["operator"] == "!=" else equal


def page(items: Sequence[Json], query: Mapping[str, str]) -> Json:
    """Some of the items, and how to ask for the next."""
    start, most = int(query.get("pageToken") or 0), int(query.get("maxResults", 500))
    answer: Json = {"items": list(items[start : start + most])}
    if start + most < len(items):
        answer["nextPageToken"] = str(start + most)
    return answer


def by_zone(kind: str, items: Iterable[Json], zones: Iterable[str], query: Mapping[str, str]) -> Json:
    """The same for items of all zones."""
    answer = page(list(items), query)
    scopes: dict[str, Json] = {f"zones/{zone}": {"warning": {"code": "NO_RESULTS_ON_PAGE"}} for zone in zones}
    for item in answer["items"]:
        scope = scopes.setdefault(f"zones/{last(item['zone'])}", {})
        scope.pop("warning", None)
        scope.setdefault(kind, []).append(item)
    return {**answer, "items": scopes}
