"""Whether a folder can be used, found out before anything is done for which it would be needed. Leaves nothing behind.

What fails later all the same (a disk that fills up) is told by whoever writes.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from kubeq.errors import BackendError, UsageError


def check_destination(path: Path, option: str) -> None:
    """Raises UsageError if no results could be written into that directory, which need not exist yet."""
    standing = _nearest_standing(path)
    if not standing.is_dir():
        raise UsageError(f"{option} {path}: {standing} is not a directory", hint="name another directory")
    if not os.access(standing, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path}: you may not write into {standing}", hint="name another directory")


def check_file(path: Path, option: str) -> None:
    """Raises UsageError if no file could be written there, in a directory that exists."""
    folder, why = path.parent, None
    if path.is_dir():
        why = "it is a directory"
    elif not folder.is_dir():
        why = f"{folder} is no directory"
    elif not os.access(folder, os.W_OK | os.X_OK):
        why = f"you may not write into {folder}"
    if why is not None:
        raise UsageError(f"{option} {path}: {why}", hint="name a file in a directory of yours")


def check_state_dir(path: Path) -> None:
    """Raises BackendError naming the state folder if it cannot be used, or made where it does not exist yet."""
    _check_own(path, "state")


def check_cache_dir(path: Path) -> None:
    """Raises BackendError naming the cache folder likewise: without it no node gets an input."""
    _check_own(path, "cache")


def check_store_dir(url: str) -> None:
    """Raises BackendError likewise for a store that is a directory of this machine; asks nothing of any other."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        path = Path(os.fsdecode(unquote_to_bytes(parts.path)))
        _check(path, "the store's folder", "name another one: default_url_prefix = file:///its/path")


def _check_own(path: Path, name: str) -> None:
    hint = f"name another one: KUBEQ_{name.upper()}_DIR=DIR, or {name}_dir in the configuration file"
    _check(path, f"the {name} folder", hint)


def _check(path: Path, what: str, hint: str) -> None:
    standing = _nearest_standing(path)
    if not standing.is_dir():
        why: str | None = "it is not a directory" if standing == path else f"{standing} is not a directory"
    elif not os.access(standing, os.W_OK | os.X_OK):
        why = "you may not write into it" if standing == path else f"you may not write into {standing}"
    else:
        why = None if standing == path else _why_not_made(standing)
    if why is not None:
        raise BackendError(f"{what} {path} cannot be used: {why}", hint=hint)


def _nearest_standing(path: Path) -> Path:
    """The path itself or the nearest directory above it that exists."""
    for candidate in (path, *path.parents):
        if os.path.lexists(candidate):
            return candidate
    return Path("/")


def _why_not_made(parent: Path) -> str | None:
    """Why no folder can be made in that directory (/proc lets nobody); None if one can."""
    trial = parent / f".kubeq-{os.getpid()}"
    try:
        trial.mkdir(mode=0o700)
        trial.rmdir()
    except FileExistsError:
        return None
    except OSError as error:
        return f"nothing can be made in {parent} ({error.strerror})"
    return None
