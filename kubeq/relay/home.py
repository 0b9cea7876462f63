"""Where a relay of this user lives on this machine: one for each state folder, found again by every command.

`<state folder>/relay/` holds `socket`, `relay.json` (which process it is), `seen.json` (when it heard whom last),
`nodes/` (whom it knows), `tokens/` (of nodes that are started by hand), `relay.log`, and `relay.out` (what it printed).
Who holds `life` is the relay. Whoever starts one, or is one and wants to end, holds `turn` while it looks who does.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kubeq.core.model import NodeName
from kubeq.errors import BackendError
from kubeq.machine import ProcessMark, has_ended, own_mark
from kubeq.relay.admissions import Admissions, write_private
from kubeq.store.disk import make_directory

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A relay that runs, as it says of itself."""

    mark: ProcessMark
    started_at: float
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a relay last wrote of its nodes: when, and when each was heard last. Epoch seconds."""

    at: float
    heard_at: Mapping[NodeName, float]


class RelayHome:
    """The folder of the relay that belongs to a state folder."""

    def __init__(self, state_dir: Path) -> None:
        self.folder = state_dir / "relay"
        self.socket = self.folder / "socket"
        self.log = self.folder / "relay.log"
        self.printed = self.folder / "relay.out"
        self._record = self.folder / "relay.json"
        self._seen = self.folder / "seen.json"

    @property
    def admissions(self) -> Admissions:
        """The nodes that the relay knows."""
        return Admissions(self.folder / "nodes")

    def token_file(self, node: NodeName) -> Path:
        """Where the token of a node lies that is started by hand on this machine."""
        return self.folder / "tokens" / node

    def forget(self, node: NodeName) -> None:
        """Remove all that is known of a node; one that is not known is no error. Raises BackendError."""
        self.admissions.forget(node)
        with suppress(OSError):
            self.token_file(node).unlink(missing_ok=True)

    def record(self) -> Record | None:
        """The relay that runs now, as far as its process is there; one that crashed is none."""
        try:
            document = json.loads(self._record.read_bytes())
            mark = ProcessMark.parse(document["process"])
            if mark is None or has_ended(mark):
                return None
            return Record(mark=mark, started_at=float(document["started_at"]), version=str(document["version"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def sight(self) -> Sight | None:
        """What a relay wrote last of its nodes; None before it has."""
        try:
            document = json.loads(self._seen.read_bytes())
            return Sight(
                at=float(document["at"]), heard_at={NodeName(k): float(v) for k, v in document["heard"].items()}
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write_record(self, *, started_at: float, version: str) -> None:
        """Say that this process is the relay. Raises BackendError."""
        document = {"schema": SCHEMA, "process": str(own_mark()), "started_at": started_at, "version": version}
        write_private(self._record, json.dumps(document).encode())

    def remove_record(self) -> None:
        """Say that there is no relay any more."""
        with suppress(OSError):
            self._record.unlink(missing_ok=True)

    def write_sight(self, sight: Sight) -> None:
        """Tell whom the relay has heard; what is lost with a power cut is told again. Raises BackendError."""
        temporary = self._seen.with_suffix(".new")
        try:
            temporary.write_text(json.dumps({"schema": SCHEMA, "at": sight.at, "heard": sight.heard_at}), "utf-8")
            temporary.replace(self._seen)
        except OSError as error:
            raise BackendError(f"{self._seen} cannot be written: {error.strerror or error}") from error

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A block in which nobody else starts a relay or ends one. Raises BackendError."""
        handle = self._open_lock("turn")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def take_life(self) -> int | None:
        """The handle that makes this process the relay until it is closed; None if another process is. In `turn` only.

        Raises BackendError.
        """
        handle = self._open_lock("life")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle

    def is_taken(self) -> bool:
        """Whether some process is the relay, perhaps one that is only just starting. In `turn` only."""
        handle = self.take_life()
        if handle is None:
            return True
        os.close(handle)
        return False

    def _open_lock(self, name: str) -> int:
        path = self.folder / name
        try:
            make_directory(os.fsencode(self.folder), durable=False)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BackendError(f"{path} cannot be used: {error.strerror or error}") from error
