"""Listing the objects of a directory store in the order of their whole keys. What a key is stands in `keys`."""

# Paths are bytes here, so that keys are UTF-8 whatever the locale says.

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress

from kubeq.store.base import Stored
from kubeq.store.disk import disk_error
from kubeq.store.keys import is_key


def walk(root: bytes, directory: bytes, prefix: bytes, after: bytes) -> Iterator[Stored]:
    """The objects below `<root>/<directory>` that start with `prefix` and are greater than `after`, by whole key.

    A directory is read when the walk comes to it; its name sorts as it stands in keys, with its `/`.
    """
    for path, entry in _entries(root, directory):
        if not path.endswith(b"/"):
            if path.startswith(prefix) and path > after and (size := _size(entry)) is not None:
                yield Stored(path.decode(), size)
        elif (path.startswith(prefix) or prefix.startswith(path)) and (path > after or after.startswith(path)):
            yield from walk(root, path, prefix, after)


def _entries(root: bytes, directory: bytes) -> Sequence[tuple[bytes, os.DirEntry[bytes]]]:
    folder = root + b"/" + directory
    entries: list[tuple[bytes, os.DirEntry[bytes]]] = []
    try:
        for entry in os.scandir(folder):
            name = directory + entry.name + (b"/" if entry.is_dir(follow_symlinks=False) else b"")
            if is_key(name.decode(errors="surrogateescape").rstrip("/")):
                entries.append((name, entry))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise disk_error(error, "list", folder) from error
    entries.sort(key=lambda pair: pair[0])
    return entries


def _size(entry: os.DirEntry[bytes]) -> int | None:
    with suppress(FileNotFoundError):
        found = entry.stat(follow_symlinks=False)
        return found.st_size if stat.S_ISREG(found.st_mode) else None
    return None
