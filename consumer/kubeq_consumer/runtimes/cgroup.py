"""What a container has used, read from its cgroup: versions 1 and 2, made by the engine itself or by systemd.

Reading only; when to read is the sampler's business, and what the figures mean for a task is `docker_run`'s.

Peak memory is the kernel's own mark. It counts what the limit counts: the page cache that the container filled too.
"""

# Read many times a second: places are plain text, since Path objects would cost more than the reading.
# ruff: noqa: PTH110

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

ROOT = Path("/sys/fs/cgroup")
PROC = Path("/proc")
_PLACES = ("docker/{id}", "system.slice/docker-{id}.scope")
N = TypeVar("N", int, float)
_CONTROLLERS = {"cpuacct": ("cpuacct", "cpu,cpuacct"), "memory": ("memory",), "blkio": ("blkio",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at a cgroup; None where the kernel or the rights do not give it."""

    cpu_s: float | None = None
    memory_bytes: int | None = None
    peak_memory_bytes: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    oom_kills: int | None = None


@dataclass(frozen=True, slots=True)
class GroupV1:
    """A cgroup of version 1: one directory a controller."""

    directories: Mapping[str, str]

    @property
    def whole(self) -> bool:
        """Whether every controller that is read was there; the engine makes their directories one after the other."""
        return self.directories.keys() == _CONTROLLERS.keys()

    def process(self) -> int | None:
        """A process in it; None if there is certainly none, 0 if that cannot be seen from here."""
        return _first_process(next(iter(self.directories.values())))

    def read(self) -> Reading:
        """The figures of now; all None once the cgroup is gone."""
        cpu, memory, blkio = (self.directories.get(name) for name in _CONTROLLERS)
        cpu_ns = _number(cpu, "cpuacct.usage")
        reads, writes = _service_bytes(_text(blkio, "blkio.throttle.io_service_bytes_recursive"))
        return Reading(
            cpu_s=None if cpu_ns is None else cpu_ns / 1e9,
            memory_bytes=_number(memory, "memory.usage_in_bytes"),
            peak_memory_bytes=_number(memory, "memory.max_usage_in_bytes"),
            read_bytes=reads,
            written_bytes=writes,
            oom_kills=_keyed(_text(memory, "memory.oom_control"), "oom_kill"),
        )


@dataclass(frozen=True, slots=True)
class GroupV2:
    """A cgroup of version 2: one directory for everything."""

    directory: str
    whole: ClassVar[bool] = True

    def process(self) -> int | None:
        """A process in it; None if there is certainly none, 0 if that cannot be seen from here."""
        first = _first_process(self.directory)
        below = first is None and _keyed(_text(self.directory, "cgroup.events"), "populated")
        return 0 if below else first

    def read(self) -> Reading:
        """The figures of now; all None once the cgroup is gone. `memory.peak` exists from Linux 5.19 on."""
        cpu_us = _keyed(_text(self.directory, "cpu.stat"), "usage_usec")
        reads, writes = _io_stat(_text(self.directory, "io.stat"))
        return Reading(
            cpu_s=None if cpu_us is None else cpu_us / 1e6,
            memory_bytes=_number(self.directory, "memory.current"),
            peak_memory_bytes=_number(self.directory, "memory.peak"),
            read_bytes=reads,
            written_bytes=writes,
            oom_kills=_keyed(_text(self.directory, "memory.events"), "oom_kill"),
        )


def find_group(
    container: str, pid: int | None = None, *, root: Path = ROOT, proc: Path = PROC
) -> GroupV1 | GroupV2 | None:
    """The cgroup of a container by its id, or else by a process in it; None if it is not (or no longer) there."""
    places = [place.format(id=container) for place in _PLACES]
    by_pid = _places_of(pid, proc) if pid else {}
    if os.path.exists(f"{root}/cgroup.controllers"):
        places += [by_pid[""]] if "" in by_pid else []
        directory = _first_directory(f"{root}/{place}" for place in places)
        return None if directory is None else GroupV2(directory)
    directories: dict[str, str] = {}
    for controller, mounts in _CONTROLLERS.items():
        candidates = [*places, *([by_pid[controller]] if controller in by_pid else [])]
        directory = _first_directory(f"{root}/{mount}/{place}" for mount in mounts for place in candidates)
        if directory is not None:
            directories[controller] = directory
    return GroupV1(directories) if directories else None


def _first_directory(paths: Iterable[str]) -> str | None:
    return next(filter(os.path.isdir, paths), None)


def later(earlier: Reading, now: Reading) -> Reading:
    """Two looks as one: counters never go back, the peak is the highest seen, and what is not readable now stays."""
    peaks = (earlier.peak_memory_bytes, now.peak_memory_bytes, now.memory_bytes)
    return Reading(
        cpu_s=_greater(earlier.cpu_s, now.cpu_s),
        memory_bytes=earlier.memory_bytes if now.memory_bytes is None else now.memory_bytes,
        peak_memory_bytes=max((peak for peak in peaks if peak is not None), default=None),
        read_bytes=_greater(earlier.read_bytes, now.read_bytes),
        written_bytes=_greater(earlier.written_bytes, now.written_bytes),
        oom_kills=_greater(earlier.oom_kills, now.oom_kills),
    )


def _greater(one: N | None, other: N | None) -> N | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _places_of(pid: int, proc: Path) -> dict[str, str]:
    """Controller -> place below its mount, from /proc/PID/cgroup; the controller of version 2 is the empty word."""
    places: dict[str, str] = {}
    for line in (_text(f"{proc}/{pid}", "cgroup") or "").splitlines():
        _, controllers, place = line.split(":", 2)
        for controller in controllers.split(","):
            places[controller] = place.lstrip("/")
    return places


def _first_process(directory: str) -> int | None:
    """The first of cgroup.procs, where 0 stands for a process of another pid namespace; None if nobody is in it."""
    try:
        first = _read(f"{directory}/cgroup.procs").partition("\n")[0]
    except OSError as error:  # the last two say that the group is no more
        return None if error.errno in (errno.ENOENT, errno.ENODEV) else 0
    return int(first) if first.isdigit() else None


def _text(directory: str | None, name: str) -> str | None:
    if directory is None:
        return None
    try:
        return _read(f"{directory}/{name}")
    except OSError:
        return None


def _read(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return file.read().decode()


def _number(directory: str | None, name: str) -> int | None:
    text = (_text(directory, name) or "").strip()
    return int(text) if text.isdigit() else None


def _keyed(text: str | None, key: str) -> int | None:
    """The number after `key` in lines of "key number"."""
    for line in (text or "").splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return None


def _service_bytes(text: str | None) -> tuple[int | None, int | None]:
    """Bytes read and written, summed over devices, from lines of "8:0 Read 4096"."""
    if text is None:
        return None, None
    totals = {"Read": 0, "Write": 0}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in totals:
            totals[words[1]] += int(words[2])
    return totals["Read"], totals["Write"]


def _io_stat(text: str | None) -> tuple[int | None, int | None]:
    """Bytes read and written, summed over devices, from lines of "8:0 rbytes=4096 wbytes=0 ..."."""
    if text is None:
        return None, None
    totals = {"rbytes": 0, "wbytes": 0}
    for word in text.split():
        name, equals, value = word.partition("=")
        if equals and name in totals:
            totals[name] += int(value)
    return totals["rbytes"], totals["wbytes"]
