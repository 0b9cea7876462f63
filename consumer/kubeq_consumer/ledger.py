"""The machine's slot ledger: what every agent on this machine has given to attempts, in one locked file.

Agents of several pools on one machine share it; an attempt starts only when it fits what the others leave. Entries of a
process that has died count for nothing and are dropped by whoever comes next.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubeq.core.resources import Resources, fits, minus
from kubeq.errors import BackendError
from kubeq_consumer.runtimes.identity import ProcessMark, has_ended, own_mark

_Entries = list[dict[str, object]]


class Ledger:
    """The ledger in a state folder, as one agent uses it. Safe to use from several threads."""

    def __init__(self, path: Path, total: Resources) -> None:
        self._path = path
        self._total = total
        self._me = str(own_mark())

    def free(self) -> Resources:
        """What nobody on this machine holds now."""
        with self._locked(write=False) as entries:
            return self._left(entries)

    def reserve(self, what: str, need: Resources) -> bool:
        """Hold `need` under the name `what`; False if it does not fit what is left now."""
        with self._locked() as entries:
            if not fits(need, self._left(entries)):
                return False
            entries.append({"agent": self._me, "what": what, "cpu": need.cpu, "memory": need.memory})
            return True

    def release(self, what: str) -> None:
        """Give back what this process holds under that name; nothing held is no error."""
        with self._locked() as entries:
            entries[:] = [entry for entry in entries if entry["what"] != what or entry["agent"] != self._me]

    def _left(self, entries: _Entries) -> Resources:
        left = self._total
        for entry in entries:
            left = minus(left, Resources(cpu=float(str(entry["cpu"])), memory=_whole(entry["memory"])))
        return left

    @contextmanager
    def _locked(self, *, write: bool = True) -> Iterator[_Entries]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BackendError(f"the slot ledger {self._path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            text = os.pread(handle, os.fstat(handle).st_size, 0)
            entries = [entry for entry in _parse(text) if _alive(entry)]
            yield entries
            if write:
                new = json.dumps(entries).encode()
                os.pwrite(handle, new, 0)
                os.ftruncate(handle, len(new))
        finally:
            os.close(handle)


def _parse(text: bytes) -> _Entries:
    """The entries; a ledger cut short by a crash is an empty one, since every entry can be made again."""
    try:
        entries = json.loads(text) if text else []
    except ValueError:
        return []
    return [
        entry for entry in entries if isinstance(entry, dict) and {"agent", "what", "cpu", "memory"} <= entry.keys()
    ]


def _alive(entry: dict[str, object]) -> bool:
    mark = ProcessMark.parse(str(entry["agent"]))
    return mark is not None and not has_ended(mark)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
