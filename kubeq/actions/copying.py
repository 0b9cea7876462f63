"""Files and directories to and from nodes, as tar archives through a command on the node. Nothing is half written.

What is copied arrives under a temporary name beside its place and is moved there when all of it has come; into a
directory that is there already it is copied then. From several nodes each copy lies in a directory with the node's
name, and what fails on one is told beside what came from the others.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from kubeq.actions.nodes import find_node, list_nodes
from kubeq.actions.reaching import provider_command
from kubeq.actions.session import Session
from kubeq.core.model import Node, NodeState
from kubeq.errors import KubeqError, NotFound, UsageError

ALL = "all"
MOST_AT_ONCE = 16
PIECE = 2**20
LONGEST_WORDS = 500
_CONTENT, _END = "content", "end"
"""In the archive of what is sent: the folder of the file or directory, and what stands behind it. An archive that was
cut off between two files looks whole to tar.
"""
_PUT = f"""\
place=$(dirname "$1") && mkdir -p "$place" && there=$(mktemp -d "$place/.kubeq-XXXXXX") || exit 1
trap 'rm -rf "$there"' EXIT
tar -xof - -C "$there" || exit 1
[ -e "$there/{_END}" ] || {{ echo "not all of it has come" >&2; exit 1; }}
come=$there/{_CONTENT}/$2
if [ -d "$1" ]; then target=$1/$2; else target=$1; fi
if [ ! -d "$target" ]; then mv -f "$come" "$target"
elif [ -d "$come" ]; then cp -R "$come/." "$target"
else echo "$target is a directory" >&2; exit 1; fi
"""


@dataclass(frozen=True, slots=True)
class Remote:
    """A path on a node, or on every one (`all`)."""

    node: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """One copy: of which node, where it lies now (there or here), or why it does not."""

    node: str
    place: str
    error: str | None = None


def parse_place(text: str) -> Remote | None:
    """The node and the path of `NODE:PATH`; None for a path here: without a `:`, or with a `/` before the first."""
    node, colon, path = text.partition(":")
    if not colon or not node or "/" in node or node in (".", ".."):
        return None
    place = PurePosixPath(path)
    if not place.name or "\0" in path or ".." in place.parts:
        raise UsageError(f"{text!r} names no file on a node", hint="write NODE:/its/path, or NODE:path from its home")
    return Remote(node, path)


def copy(session: Session, source: str, destination: str) -> list[Copied]:
    """What was copied from or to a node, or all of them, one entry a node. Raises UsageError, NotFound."""
    there, here = parse_place(source), parse_place(destination)
    if (there is None) == (here is None):
        what = "both places are" if there is not None else "neither place is"
        raise UsageError(f"{what} on a node", hint="kubeq cp NODE:PATH DEST, or kubeq cp PATH NODE:PATH")
    if there is not None:
        base, nodes = Path(destination).absolute(), _nodes(session, there.node)
        places = {node.name: _place(base, node, there) for node in nodes}
        with _no_empty_folder(base, list(places.values())):
            return _each(nodes, lambda node: _get(session, node, there.path, places[node.name]))
    assert here is not None
    path = Path(source).absolute()
    if not path.exists():
        raise UsageError(f"{source!r} does not exist", hint="check the path")
    return _each(_nodes(session, here.node), lambda node: _put(session, node, path, here.path))


def _nodes(session: Session, text: str) -> list[Node]:
    if text != ALL:
        return [find_node(session, text)]
    live = [facts.node for facts in list_nodes(session) if facts.node.state is not NodeState.GONE]
    if not live:
        raise NotFound("there is no live node", hint="kubeq nodes lists them")
    return live


def _place(base: Path, node: Node, source: Remote) -> Path:
    """Where a node's copy is to lie, as `cp -R` would have it; of all nodes each in a directory of its own."""
    if source.node == ALL:
        return base / node.name / PurePosixPath(source.path).name
    return base / PurePosixPath(source.path).name if base.is_dir() else base


def _each(nodes: Sequence[Node], one: Callable[[Node], Copied]) -> list[Copied]:
    with ThreadPoolExecutor(min(len(nodes), MOST_AT_ONCE)) as threads:
        return list(threads.map(one, nodes))


@contextmanager
def _no_empty_folder(base: Path, places: Sequence[Path]) -> Iterator[None]:
    """Folders that were made for copies none of which has come are not left behind."""
    above = {place.parent for place in places} | ({base} if base not in places else set())
    made = [folder for folder in above if not folder.exists()]
    try:
        yield
    finally:
        for folder in sorted(made, reverse=True):
            with suppress(OSError):
                folder.rmdir()


def _get(session: Session, node: Node, path: str, place: Path) -> Copied:
    source = PurePosixPath(path)
    words = ["tar", "-C", str(source.parent), "-cf", "-", source.name]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".kubeq-", dir=place.parent) as folder:
            error = _received(provider_command(session, node, words, False), Path(folder))
            if error is None:
                _move(Path(folder) / source.name, place)
    except OSError as problem:
        error = f"{problem.filename or place}: {problem.strerror or problem}"
    except KubeqError as problem:
        error = problem.message
    return Copied(node=node.name, place=str(place), error=error)


def _received(command: Sequence[str], folder: Path) -> str | None:
    """What the command's archive holds, in the folder; or why it cannot be had. Nothing in it leaves the folder."""
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said) as process,
    ):
        assert process.stdout is not None
        broken: str | None = None
        try:
            try:
                with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                    archive.extractall(folder, filter="data")
            except tarfile.TarError as error:
                broken = str(error)
            while process.stdout.read(PIECE):
                pass  # so that the command ends by itself, and says why it failed
            code = process.wait()
        except BaseException:
            process.kill()
            raise
        return _ended(code, said) or broken


def _move(source: Path, place: Path) -> None:
    """Have `source` at `place`; a file that stands there is replaced, a directory is added to."""
    if source.is_dir() and place.is_dir():
        shutil.copytree(source, place, symlinks=True, dirs_exist_ok=True)
    else:
        source.replace(place)


def _put(session: Session, node: Node, path: Path, target: str) -> Copied:
    try:
        command = provider_command(session, node, ["sh", "-c", _PUT, "kubeq", target, path.name], False)
        error = _sent(command, path)
    except OSError as problem:
        error = f"{problem.filename or path}: {problem.strerror or problem}"
    except KubeqError as problem:
        error = problem.message
    return Copied(node=node.name, place=target, error=error)


def _sent(command: Sequence[str], path: Path) -> str | None:
    """Nothing, if the command has taken the file or directory; else why it has not. Raises OSError for what cannot be
    read here, of which the command, that does not get the end, has left nothing there.
    """
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said) as process,
    ):
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin, tarfile.open(fileobj=process.stdin, mode="w|") as archive:
            archive.add(path, arcname=f"{_CONTENT}/{path.name}")
            archive.addfile(tarfile.TarInfo(_END))
        return _ended(process.wait(), said)


def _ended(code: int, said: IO[bytes]) -> str | None:
    """Why the command that ended so has failed, by the first line of what it said: what follows are consequences."""
    if code == 0:
        return None
    said.seek(0)
    return said.read(LONGEST_WORDS).decode(errors="replace").strip().partition("\n")[0] or f"it ended with {code}"
