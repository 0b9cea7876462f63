"""Stage in and stage out: a manifest becomes a work directory, and what is new or changed in it becomes outputs.

Stage out trusts nothing it finds: only regular files, opened relative to their directory without following links; what
is skipped is listed. It runs when no process of the task is left.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from kubeq.core.digest import Digest
from kubeq.core.globs import matches_any
from kubeq.core.manifest import Entry, Manifest, Remote, clean_destination
from kubeq.errors import BackendError, UsageError
from kubeq.store.parallel import NETWORK_THREADS, run_parallel
from kubeq_consumer.blobcache import BlobCache
from kubeq_consumer.remotes import Remotes

MOST_FILES = 100_000
"""Outputs of one attempt. More than this is a mistake of the command far more often than a wish."""
CHUNK = 1024 * 1024
CLOCK_TICK_NS = 2_000_000_000
"""Inputs are dated this much back: the coarsest time stamp of a file system is 2 s (FAT), so that a change made right
after staging always shows in the time of change.
"""
_NOT_BY_KERNEL = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
"""copy_file_range(2): two file systems of different kinds, one that cannot, an old kernel."""
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Marks:
    """What shows that an input was not touched: cheap to compare before anything is hashed."""

    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Staged:
    """The inputs of an attempt as they lie in its work directory."""

    marks: Mapping[str, tuple[Marks, Digest]]


@dataclass(frozen=True, slots=True)
class Found:
    """An output to be stored."""

    path: str
    digest: Digest
    executable: bool
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Collected:
    """The outputs of an attempt, and what was left behind: path and why."""

    files: tuple[Found, ...]
    skipped: tuple[tuple[str, str], ...]


def stage_in(manifest: Manifest, cache: BlobCache, remotes: Remotes, work: Path) -> Staged:
    """Verified copies of the manifest's files in the work directory.

    Raises ObjectNotFound, IntegrityError or UsageError for an input that is missing, wrong or out of reach,
    BackendError if it cannot be written.
    """
    made: set[Path] = {work}
    for path in (*(entry.path for entry in manifest.entries), *(remote.path for remote in manifest.remotes)):
        with _writing(path):
            _make_parents((work / path).parent, made)
    missing = sum(not cache.holds(entry.digest) for entry in manifest.entries) + len(manifest.remotes)
    threads = NETWORK_THREADS if manifest.remotes else cache.threads
    calls: list[Callable[[], tuple[str, tuple[Marks, Digest]]]] = [
        partial(_stage_blob, cache, entry, work) for entry in manifest.entries
    ]
    calls += [partial(_stage_remote, remotes, remote, work) for remote in manifest.remotes]
    # What is here is copied at once; what has to be fetched is mostly waited for.
    return Staged(dict(run_parallel(calls, threads if missing > 1 else 1)))


def _stage_blob(cache: BlobCache, entry: Entry, work: Path) -> tuple[str, tuple[Marks, Digest]]:
    with _writing(entry.path), cache.opened(entry.digest) as source:
        return entry.path, (_copy(source, work, entry), entry.digest)


def _stage_remote(remotes: Remotes, remote: Remote, work: Path) -> tuple[str, tuple[Marks, Digest]]:
    with _writing(remote.path), remotes.opened(remote) as (source, digest):
        return remote.path, (_copy(source, work, Entry(remote.path, digest, remote.executable)), digest)


@contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackendError(
            f"the input {path} cannot be written: {os.strerror(error.errno or 0)}", transient=True
        ) from error


def _make_parents(folder: Path, made: set[Path]) -> None:
    if folder in made:
        return
    _make_parents(folder.parent, made)
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    made.add(folder)


def _copy(source: BinaryIO, work: Path, entry: Entry) -> Marks:
    """A copy of its own (by reflink where the file system can), which the task may write without touching the cache."""
    with (work / entry.path).open("xb") as writer:
        _copy_bytes(source, writer, entry.digest.size)
        if os.fstat(writer.fileno()).st_size != entry.digest.size:
            raise BackendError(f"the cached input {entry.path} ended early", transient=True)
        os.fchmod(writer.fileno(), 0o755 if entry.executable else 0o644)
        past = os.fstat(writer.fileno()).st_mtime_ns - CLOCK_TICK_NS
        os.utime(writer.fileno(), ns=(past, past))
        return _marks(os.fstat(writer.fileno()))


def _copy_bytes(source: BinaryIO, writer: BinaryIO, size: int) -> None:
    """Have the kernel copy, and go on by ourselves where it cannot; `source` is unbuffered."""
    try:
        while size and (sent := os.copy_file_range(source.fileno(), writer.fileno(), size)):
            size -= sent
    except OSError as error:
        if error.errno not in _NOT_BY_KERNEL:
            raise
    if size:
        shutil.copyfileobj(source, writer, CHUNK)
        writer.flush()


def collect(work: Path, staged: Staged, results: tuple[str, ...], ignore: tuple[str, ...]) -> Collected:
    """What the command made or changed under the work directory, hashed; include and exclude patterns applied."""
    files: list[Found] = []
    skipped: list[tuple[str, str]] = []
    for path, directory, name in _walk(work, skipped):
        if (results and not matches_any(path, results)) or matches_any(path, ignore):
            continue
        try:
            clean = clean_destination(path) == path
        except UsageError:
            clean = False
        if not clean:
            skipped.append((path.encode(errors="backslashreplace").decode(), "its name cannot be stored"))
            continue
        if len(files) >= MOST_FILES:
            skipped.append((path, f"more than {MOST_FILES} files"))
            break
        found = _examine(path, directory, name, staged, skipped)
        if found is not None:
            files.append(found)
    return Collected(tuple(sorted(files, key=lambda file: file.path)), tuple(skipped))


def _walk(work: Path, skipped: list[tuple[str, str]]) -> Iterator[tuple[str, int, str]]:
    """Every name below the work directory that is not a directory, with an open handle on the directory it is in."""

    def unreadable(error: OSError) -> None:
        where = os.path.relpath(str(error.filename), work)
        skipped.append((where, os.strerror(error.errno or 0)))

    for folder, folders, names, handle in os.fwalk(work, follow_symlinks=False, onerror=unreadable):
        below = os.path.relpath(folder, work)
        links = [name for name in folders if stat.S_ISLNK(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode)]
        for name in (*links, *names):
            yield (name if below == "." else f"{below}/{name}"), handle, name


def _examine(path: str, directory: int, name: str, staged: Staged, skipped: list[tuple[str, str]]) -> Found | None:
    """The output at that name, or None if it is an untouched input or nothing that can be stored."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            skipped.append((path, f"it is a {_kind(status.st_mode)}"))
            return None
        before = staged.marks.get(path)
        if before is not None and before[0] == _marks(status):
            return None
        handle = os.open(name, _FLAGS, dir_fd=directory)
    except OSError as error:
        skipped.append((path, os.strerror(error.errno or 0)))
        return None
    with os.fdopen(handle, "rb", buffering=0) as file:
        digest = _hash(file)
    if before is not None and before[1] == digest:
        return None
    home = str(Path(f"/proc/self/fd/{directory}").readlink())
    return Found(path, digest, bool(status.st_mode & stat.S_IXUSR), lambda: _open_again(home, name))


def _open_again(folder: str, name: str) -> BinaryIO:
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.fdopen(os.open(name, _FLAGS, dir_fd=directory), "rb")
    finally:
        os.close(directory)


def _hash(file: BinaryIO) -> Digest:
    hasher, size = hashlib.sha256(), 0
    while chunk := file.read(CHUNK):
        hasher.update(chunk)
        size += len(chunk)
    return Digest(hasher.hexdigest(), size)


def _marks(status: os.stat_result) -> Marks:
    return Marks(status.st_size, status.st_mtime_ns, status.st_ino)


def _kind(mode: int) -> str:
    for test, kind in (
        (stat.S_ISLNK, "symbolic link"),
        (stat.S_ISFIFO, "FIFO"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISCHR, "device"),
        (stat.S_ISBLK, "device"),
    ):
        if test(mode):
            return kind
    return "special file"
