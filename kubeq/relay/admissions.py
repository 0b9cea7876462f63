"""Which nodes a relay knows: a file for each, which any command of this user writes and the relay reads.

A file holds everything but the token, of which it has the hash. Written anew it takes effect with the next request.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kubeq.core.model import NodeName, PoolId
from kubeq.errors import AccessDenied, BackendError
from kubeq.relay_wire import Token, is_node_name
from kubeq.store.disk import make_directory

SCHEMA = 1
_NOBODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backplane:
    """The queue and the stores that a node takes part in, by their URLs on this machine."""

    queue_url: str
    store_url: str
    blobs_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A node that takes part through the relay. `place` is the machine it is on, as far as that is known: a node tells
    the outcomes that dead nodes of its pool left at the same place.
    """

    node: NodeName
    pool: PoolId
    number: int
    provider: str
    place: str
    backplane: Backplane


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """When a guest may come, and how it is known."""

    guest: Guest
    secret_sha256: str = field(repr=False)
    admitted_at: float
    revoked_at: float | None = None


class Admissions:
    """The folder of admissions. Every method may raise BackendError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[NodeName, tuple[tuple[int, int, int], Admission]] = {}

    def admit(self, guest: Guest, *, now: float) -> Token:
        """The token with which the node may come from now on; one that it had before is worth nothing any more."""
        token = Token(guest.node, secrets.token_hex(32))
        self._write(Admission(guest=guest, secret_sha256=_hash(token.secret), admitted_at=now))
        return token

    def check(self, token: Token) -> Guest:
        """The guest whose token that is. Raises AccessDenied, which takes as long for a wrong one as for an unknown."""
        known = self.get(token.node)
        expected = known.secret_sha256 if known is not None and known.revoked_at is None else _NOBODY
        if not hmac.compare_digest(_hash(token.secret), expected) or known is None or known.revoked_at is not None:
            raise AccessDenied(
                "the relay does not know this node, or has let it go",
                hint="kubeq agent --relay prints another node's command",
            )
        return known.guest

    def get(self, node: NodeName) -> Admission | None:
        """What is known of a node, let go or not; None for one that was never admitted."""
        path = self._path(node)
        try:
            found = path.stat()
            mark = (found.st_mtime_ns, found.st_ino, found.st_size)
            standing = self._read.get(node)
            if standing is None or standing[0] != mark:
                self._read[node] = standing = (mark, _decode(json.loads(path.read_bytes())))
        except FileNotFoundError:
            self._read.pop(node, None)
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BackendError(f"what the relay knows of node {node} cannot be read from {path}: {error}") from error
        return standing[1]

    def every(self) -> list[Admission]:
        """All there are, those let go too, by name."""
        try:
            names = sorted(path.stem for path in self._folder.glob("*.json"))
        except OSError as error:
            raise BackendError(f"the nodes of the relay cannot be listed in {self._folder}: {error}") from error
        found = (self.get(NodeName(name)) for name in names if is_node_name(name))
        return [admission for admission in found if admission is not None]

    def revoke(self, node: NodeName, *, now: float) -> None:
        """Let a node go: its token is worth nothing from now on. One that is not known is no error."""
        known = self.get(node)
        if known is not None and known.revoked_at is None:
            self._write(replace(known, revoked_at=now))

    def forget(self, node: NodeName) -> None:
        """Remove all that is known of a node; one that is not known is no error."""
        try:
            self._path(node).unlink(missing_ok=True)
        except OSError as error:
            raise BackendError(f"node {node} cannot be removed from the relay: {error.strerror}") from error

    def _path(self, node: NodeName) -> Path:
        if not is_node_name(node):
            raise AccessDenied("that cannot be the name of a node")
        return self._folder / f"{node}.json"

    def _write(self, admission: Admission) -> None:
        path = self._path(admission.guest.node)
        write_private(path, json.dumps({"schema": SCHEMA, **asdict(admission)}).encode())


def write_private(path: Path, content: bytes) -> None:
    """Have a file with that content, durable and for its owner alone; readers see the old one or all of the new.

    Raises BackendError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        make_directory(os.fsencode(path.parent))
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BackendError(f"{path} cannot be written: {error.strerror or error}") from error


def _decode(document: Mapping[str, Any]) -> Admission:
    if document["schema"] > SCHEMA:
        raise ValueError(f"schema {document['schema']} is a newer kubeq's")
    guest = document["guest"]
    return Admission(
        guest=Guest(**{**guest, "backplane": Backplane(**guest["backplane"])}),
        secret_sha256=document["secret_sha256"],
        admitted_at=document["admitted_at"],
        revoked_at=document["revoked_at"],
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
