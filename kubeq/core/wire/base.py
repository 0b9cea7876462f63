"""What all records share: the schema number, the JSON text, and how a record that cannot be read is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from kubeq.core.resources import Resources
from kubeq.errors import BackendError, VersionMismatch

SCHEMA = 1
Document = dict[str, Any]
T = TypeVar("T")


def dumps(document: Mapping[str, Any]) -> str:
    """The compact JSON text of a document. Text that is not valid Unicode is refused by the callers, not here."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def loads(text: str | bytes, what: str) -> Document:
    """The document. Raises VersionMismatch for a newer schema and BackendError for anything that is not ours."""
    try:
        document = json.loads(text)
        schema = document["schema"]
    except (ValueError, TypeError, KeyError) as error:
        raise BackendError(f"the record of {what} cannot be read: {error}") from error
    if not isinstance(schema, int) or schema > SCHEMA:
        raise VersionMismatch(
            f"the record of {what} has schema {schema}; this kubeq reads up to {SCHEMA}",
            hint="install a newer kubeq",
        )
    return dict(document)


def read(what: str, content: str | bytes, build: Callable[[Document], T]) -> T:
    """The record that `build` makes of the text; BackendError for one that lacks a field or has a wrong one."""
    document = loads(content, what)
    try:
        return build(document)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BackendError(f"the record of {what} cannot be read: {error!r}") from error


def sparse(document: Document) -> Document:
    """The document without its absent values."""
    return {name: value for name, value in document.items() if value is not None}


def optional(kind: Callable[[str], T], value: str | None) -> T | None:
    """The value as its kind, None if it is absent."""
    return None if value is None else kind(value)


def encode_resources(resources: Resources) -> Document:
    """An amount of resources."""
    return {"cpu": resources.cpu, "memory": resources.memory, **({"gpus": resources.gpus} if resources.gpus else {})}


def decode_resources(document: Document) -> Resources:
    """The amount that `encode_resources` wrote."""
    return Resources(cpu=document["cpu"], memory=document["memory"], gpus=document.get("gpus", 0))
