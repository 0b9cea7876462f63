"""The machine's slot ledger: what every agent on this machine has given to attempts, in one file behind a lock.

Agents of several pools on one machine share it; an attempt starts only when it fits what the others leave. Entries of a
process that has died count for nothing. An agent writes its own entries anew each time it writes, so that a ledger that
was lost or spoilt is whole again as soon as everybody has used it once.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from kubeq.core.resources import Resources, fits, minus
from kubeq.errors import BackendError
from kubeq.machine import ProcessMark, has_ended, own_mark

_Entry = dict[str, object]


class Ledger:
    """The ledger in a state folder, as one agent uses it. Safe to use from several threads."""

    def __init__(self, path: Path, total: Resources) -> None:
        self._path = path
        self._total = total
        self._process = str(own_mark())
        self._id = token_hex(4)
        self._mine: dict[str, Resources] = {}
        self._devices: dict[str, tuple[int, ...]] = {}
        self._turn = threading.Lock()

    def devices(self, what: str) -> tuple[int, ...]:
        """The GPUs, by the driver's numbers, that this process holds under that name."""
        return self._devices.get(what, ())

    def free(self) -> Resources:
        """What nobody on this machine holds now. Raises BackendError."""
        with self._locked() as others:
            return self._left(others)

    def reserve(self, what: str, need: Resources) -> bool:
        """Hold `need` under the name `what`; False if it does not fit what is left now. Raises BackendError."""
        with self._locked() as others:
            if not fits(need, self._left(others)):
                return False
            self._mine[what] = need
            if need.gpus:
                self._devices[what] = self._untaken(others)[: need.gpus]
            self._write(others)
            return True

    def release(self, what: str) -> None:
        """Give back what this process holds under that name; nothing held is no error.

        Raises BackendError if the file cannot be written; the next write of this process tells it all the same.
        """
        with self._locked() as others:
            self._devices.pop(what, None)
            if self._mine.pop(what, None) is not None:
                self._write(others)

    def _untaken(self, others: list[_Entry]) -> tuple[int, ...]:
        """The GPUs that nobody on this machine holds."""
        taken = {device for entry in others for device in _devices_of(entry)}
        taken.update(device for devices in self._devices.values() for device in devices)
        return tuple(device for device in range(self._total.gpus) if device not in taken)

    def _left(self, others: list[_Entry]) -> Resources:
        left = self._total
        for entry in others:
            memory = entry["memory"]
            held = Resources(
                cpu=float(str(entry["cpu"])),
                memory=memory if isinstance(memory, int) else None,
                gpus=len(_devices_of(entry)),
            )
            left = minus(left, held)
        for need in self._mine.values():
            left = minus(left, need)
        return left

    def _write(self, others: list[_Entry]) -> None:
        whose = {"agent": self._process, "ledger": self._id}
        mine = [
            {**whose, "what": what, "cpu": need.cpu, "memory": need.memory, "gpus": list(self.devices(what))}
            for what, need in self._mine.items()
        ]
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps([*others, *mine]), encoding="utf-8")
        temporary.replace(self._path)

    @contextmanager
    def _locked(self) -> Iterator[list[_Entry]]:
        """The entries of the other live agents, while nobody else can read or write."""
        with self._turn:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    yield [entry for entry in self._read() if entry["ledger"] != self._id and _alive(entry)]
                finally:
                    os.close(lock)
            except OSError as error:
                raise BackendError(
                    f"the slot ledger {self._path} cannot be used: {error.strerror or error}", transient=True
                ) from error

    def _read(self) -> list[_Entry]:
        try:
            entries = json.loads(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return []
        needed = {"agent", "ledger", "what", "cpu", "memory"}
        return [entry for entry in entries if isinstance(entry, dict) and needed <= entry.keys()]


def _devices_of(entry: _Entry) -> list[int]:
    devices = entry.get("gpus", [])
    return [device for device in devices if isinstance(device, int)] if isinstance(devices, list) else []


def _alive(entry: _Entry) -> bool:
    mark = ProcessMark.parse(str(entry["agent"]))
    return mark is not None and not has_ended(mark)
