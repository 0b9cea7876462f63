"""This machine: which process is meant, for ever, what the machine has, and which paths of it nobody may be shown.

It is as /proc tells of it; Linux only.

A pid alone may belong to another process tomorrow. A mark is written into what a process leaves on the machine (labels,
records, names of files), so that whoever comes next can tell whether that process is dead. Nothing is changed or
signalled here. What cannot be read (for want of a descriptor, say) is BackendError, never taken for a process's end.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kubeq.core.resources import Resources
from kubeq.errors import BackendError

_PROC = Path("/proc")
_QEMU_NAMES = {"amd64": "x86_64", "arm64": "aarch64", "386": "i386"}
"""What QEMU calls an architecture where images call it otherwise."""
_ENGINE_SOCKETS = (
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
)
NETWORK_FILE_SYSTEMS = frozenset(
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "gpfs", "beegfs", "orangefs"]
    + [f"fuse.{name}" for name in ("sshfs", "s3fs", "gcsfuse", "rclone", "glusterfs", "ceph-fuse", "mount-s3")]
)
"""File system names of /proc/self/mountinfo that several machines may have mounted at a time."""
MOUNTS = _PROC / "self/mountinfo"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMark:
    """One process: its pid, when it began (clock ticks since boot), under which boot and in which pid namespace."""

    pid: int
    started: int
    boot: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.pid}.{self.started}.{self.boot}.{self.namespace}"

    @staticmethod
    def parse(text: str) -> ProcessMark | None:
        """The mark written by `str`; None for anything else."""
        parts = text.split(".")
        if len(parts) != 4 or not (parts[0].isdecimal() and parts[1].isdecimal()):
            return None
        return ProcessMark(pid=int(parts[0]), started=int(parts[1]), boot=parts[2], namespace=parts[3])


def mark_of(pid: int) -> ProcessMark | None:
    """The mark of a process that lives now (a zombie does not)."""
    stat = stat_of(pid)
    if stat is None or stat[0] in "ZX":
        return None
    return ProcessMark(pid=pid, started=int(stat[19]), boot=_boot(), namespace=pid_namespace())


def own_mark() -> ProcessMark:
    """The mark of this process."""
    mark = mark_of(os.getpid())
    assert mark is not None, "this process is alive"
    return mark


def has_ended(mark: ProcessMark) -> bool:
    """Whether that process has certainly ended; looked up anew at every call.

    Of a process in another pid namespace (an agent in a container) nothing can be known before the next boot, so the
    answer is no. So it is of one that /proc does not show to this user but that is there: proc(5), "hidepid".
    """
    if mark.boot != _boot():
        return True
    if mark.namespace != pid_namespace():
        return False
    standing = mark_of(mark.pid)
    return standing != mark and (standing is not None or not _is_hidden(mark.pid))


def stat_of(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name (0 state, 1 parent, 2 group, 3 session, 19 start); None if gone."""
    with _reading(f"process {pid}"):
        try:
            text = (_PROC / str(pid) / "stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return None
    return text.rpartition(")")[2].split()


def _is_hidden(pid: int) -> bool:
    """Whether a process of that number lives although nothing can be read of it."""
    if stat_of(pid) is not None:
        return False
    try:
        os.kill(pid, 0)  # sends nothing: kill(2), "If sig is 0"
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return stat_of(pid) is None


def living_pids() -> list[int]:
    """Every pid that can be seen from here; stale as soon as it is read."""
    with _reading("the list of processes"):
        return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]


@cache
def pid_namespace() -> str:
    """The number of this process's pid namespace; it is for the whole of its life."""
    with _reading("the pid namespace"):
        return "".join(letter for letter in str((_PROC / "self/ns/pid").readlink()) if letter.isdecimal())


@cache
def _boot() -> str:
    with _reading("the boot id"):
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackendError(f"{what} cannot be read from /proc: {error.strerror}", transient=True) from error


def network_file_system(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """The name of the network file system that the folder is on; None if it is on none that we know of."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    if not mounts.exists():
        return None
    for line in mounts.read_text(errors="replace").splitlines():
        left, _, right = line.partition(" - ")
        if left.split()[2:3] == [number] and right.split()[0] in NETWORK_FILE_SYSTEMS:
            return right.split()[0]
    return None


def runs_architecture(architecture: str, engine: str) -> bool:
    """Whether programs for that architecture run where the engine's is `engine` (both as images name them)."""
    emulator = _PROC / "sys/fs/binfmt_misc" / f"qemu-{_QEMU_NAMES.get(architecture, architecture)}"
    return architecture in ("", engine) or emulator.exists()


def whole_machine() -> Resources:
    """The cores this process may use, the physical memory in bytes and the GPUs."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Resources(cpu=float(len(os.sched_getaffinity(0))), memory=memory, gpus=count_gpus())


def count_gpus(driver: Path = _PROC / "driver/nvidia") -> int:
    """How many NVIDIA GPUs the driver has: a folder each (README of NVIDIA's Linux driver, "The /proc interface")."""
    try:
        return sum(1 for _ in (driver / "gpus").iterdir())
    except OSError:
        return 0


@cache
def machine_id() -> str:
    """What tells this machine from others: the system's own id, with the host's name; of a machine without one that."""
    try:
        known = Path("/etc/machine-id").read_text().strip()
    except OSError:
        known = ""
    return f"{known} {socket.gethostname()}"


def shows_engine(path: str, sockets: Iterable[str] = ()) -> bool:
    """Whether a path is, or holds, the socket of a container engine: a usual one, or one of `sockets`.

    Whoever has such a socket owns the machine.
    """
    source = os.path.realpath(path)
    places = (os.path.realpath(socket) for socket in (*_ENGINE_SOCKETS, *sockets))
    return any(os.path.commonpath((source, place)) == source for place in places)
