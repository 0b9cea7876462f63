"""`inject`: a directory or an archive as a package of a pool, which each of its nodes unpacks and starts once.

Its files are stored before the pool names it, and the pool names it before its nodes are told: so a node that comes
meanwhile finds it by itself. What a node does with it is the agent's.
"""

from __future__ import annotations

import io
import lzma
import re
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from kubeq.actions.overlays import Item, survey
from kubeq.actions.session import Session
from kubeq.core.digest import Digest
from kubeq.core.manifest import clean_destination
from kubeq.core.model import NodeName, Pool
from kubeq.core.overlay import Laid, Overlay
from kubeq.core.packages import Package
from kubeq.errors import BackendError, UsageError
from kubeq.store.blobs import hash_file
from kubeq.store.parallel import THREADS, run_parallel

ENTRIES = ("kubeq-launch", "vcloud-launch")
"""Names of the program that is started, the first that is there."""
LONGEST_NAME = 64
_SUFFIX = re.compile(r"\.(tar(\.(gz|bz2|xz))?|tgz|tbz2?|txz)\Z", re.IGNORECASE)
_BROKEN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    """The package as it stands in its pool, and the nodes that were told of it; `new`: it was not there before."""

    package: Package
    nodes: tuple[NodeName, ...]
    new: bool


def inject(session: Session, pool: Pool, source: Path, *, entry: str | None = None, again: bool = False) -> Injected:
    """Have the package in the pool and its nodes told. One that is there already is started nowhere again unless
    `again`. Raises UsageError for what is no package, Conflict for a pool that has too many.
    """
    with _directory(source) as root:
        own = [session.config.state_dir, session.config.cache_dir]
        package = _store(session, _name_of(source), survey(root, own, what="package"), entry)
    before = session.queue.pool(pool.id)
    known = {one.number for one in before.packages} if before is not None else set()
    recorded = session.queue.add_package(pool, package, again=again)
    told = session.queue.tell_of_packages(pool.id, recorded.number)
    return Injected(package=recorded, nodes=tuple(node.name for node in told), new=recorded.number not in known)


def _store(session: Session, name: str, items: Sequence[Item], entry: str | None) -> Package:
    """The package without a number, all of it stored."""
    files = [item for item in items if item.is_file]
    if not files:
        raise UsageError(f"the package {name} holds no file", hint=f"it needs a program to start: {ENTRIES[0]}")
    start = _entry_of(items, name, entry)
    hashes = run_parallel([partial(hash_file, item.place) for item in files], THREADS)
    digests = {item.path: digest for item, digest in zip(files, hashes, strict=True)}
    content = Overlay.of(_laid(item, digests, start) for item in items).encode()
    opens: dict[Digest, Callable[[], BinaryIO]] = {digests[item.path]: partial(_open, item.place) for item in files}
    opens[Digest.of(content)] = partial(io.BytesIO, content)
    session.blobs.upload({digest: opens[digest] for digest in session.blobs.missing(list(opens))})
    return Package(number=0, name=name, content=Digest.of(content), entry=start)


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _laid(item: Item, digests: Mapping[str, Digest], entry: str) -> Laid:
    laid = item.laid(digests.get(item.path))
    return replace(laid, mode=laid.mode | stat.S_IXUSR) if item.path == entry else laid


def _entry_of(items: Sequence[Item], name: str, wanted: str | None) -> str:
    """The path of the program to start: the wanted one, else the first of the known names, at the top or in the only
    directory there.
    """
    paths = {item.path for item in items if not stat.S_ISDIR(item.mode)}
    if wanted is not None:
        path = wanted.removeprefix("./")
        try:
            inside = clean_destination(path) == path
        except UsageError:
            inside = False
        if not inside:
            raise UsageError(f"{wanted!r} is no path inside the package", hint="--entry takes a path below its folder")
        if path not in paths:
            raise UsageError(f"the package {name} has no file {path!r}", hint="--entry takes a path below its folder")
        return path
    tops = {item.path.partition("/")[0] for item in items if "/" in item.path or stat.S_ISDIR(item.mode)}
    folders = ["", *(f"{top}/" for top in tops if len(tops) == 1)]
    for path in (f"{folder}{known}" for folder in folders for known in ENTRIES):
        if path in paths:
            return path
    raise UsageError(
        f"the package {name} has no program to start", hint=f"name it {ENTRIES[0]}, or say which: --entry FILE"
    )


@contextmanager
def _directory(source: Path) -> Iterator[Path]:
    """The directory that the package is, or that its archive is unpacked in meanwhile."""
    if not source.exists():
        raise UsageError(f"the package {str(source)!r} does not exist", hint="check the path")
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise UsageError(f"the package {str(source)!r} is neither a directory nor an archive")
    with tempfile.TemporaryDirectory(prefix="kubeq-") as folder:
        _unpack(source, Path(folder))
        yield Path(folder)


def _unpack(archive: Path, folder: Path) -> None:
    """Have all of the archive in the folder; nothing of it leaves the folder."""
    try:
        with tarfile.open(archive) as members:
            members.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise UsageError(
            f"the archive {str(archive)!r} cannot be a package: {error}",
            hint="it may hold files, directories, and links that stay inside",
        ) from error
    except _BROKEN as error:
        raise UsageError(
            f"{str(archive)!r} is no archive that can be read: {str(error).partition(':')[0]}",
            hint="inject takes a directory or a tar archive",
        ) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise BackendError(f"the archive {str(archive)!r} cannot be unpacked: {why}") from error


def _name_of(source: Path) -> str:
    """What the package is called, in letters that fit into logs and names of files."""
    name = _SUFFIX.sub("", source.resolve().name)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("._-")[:LONGEST_NAME] or "package"
