"""Manifest: which bytes stand at which path. Sorted and canonically encoded: equal trees are equal blobs.

Nearly all bytes are blobs of ours, named by their digest. Those of a source by URL never pass through the submitter, so
nobody has a digest of them: they are named by where they are and by a pin, which is what the source said of them when
the job was submitted.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from kubeq.core.digest import Digest
from kubeq.errors import IntegrityError, UsageError, VersionMismatch

SCHEMA = 2
"""1 for a manifest of blobs alone, as in every release; 2 where there are sources by URL, which older agents refuse."""
LONGEST_COMPONENT = 255
"""NAME_MAX of Linux file systems, in bytes."""
LONGEST_PATH = 1000
"""Object keys end at 1,024 bytes (S3 user guide, "Creating object key names"); the rest is left for our prefix."""
_PLAIN = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.+=@,-]{0,99}/){0,8}[A-Za-z0-9_][A-Za-z0-9_.+=@,-]{0,99}")
"""Paths that are clean beyond doubt: nearly all, and a submission has a million of them."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PIN = re.compile(r"(?:etag|generation|modified|sha256):[\x21-\x7e ]+")


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One regular file: a relative path with `/` between its parts, its bytes, and whether it may be executed."""

    path: str
    digest: Digest
    executable: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Remote:
    """One file whose bytes are at a URL, `size` of them, as long as they are what `pin` says.

    A pin is a kind and what the source said: `generation:1700000000000000`, `etag:"9b2cf5"`, `modified:` with a date of
    HTTP's, or `sha256:` with the digest of the bytes, which is the only one that can be checked by themselves.
    """

    path: str
    url: str
    pin: str
    size: int
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """Files sorted by path, no path twice, no path below another: blobs, and what is fetched from elsewhere."""

    entries: tuple[Entry, ...] = ()
    remotes: tuple[Remote, ...] = ()

    @staticmethod
    def of(entries: Iterable[Entry], remotes: Iterable[Remote] = ()) -> Manifest:
        """The manifest of files in any order. Raises UsageError when two of them cannot stand side by side."""
        manifest = Manifest(tuple(sorted(entries)), tuple(sorted(remotes)))
        paths = [*(entry.path for entry in manifest.entries), *(remote.path for remote in manifest.remotes)]
        files: set[str] = set()
        for path in paths:
            if path in files:
                raise UsageError(f"two inputs have the destination {path!r}")
            files.add(path)
        for path in paths:
            parent = path.rpartition("/")[0]
            while parent:
                if parent in files:
                    raise UsageError(f"the destination {parent!r} is both a file and a directory ({path!r})")
                parent = parent.rpartition("/")[0]
        return manifest

    def encode(self) -> bytes:
        """The one encoding: equal manifests give equal bytes."""
        rows = [[entry.path, entry.digest.sha256, entry.digest.size, int(entry.executable)] for entry in self.entries]
        document: dict[str, object] = {"schema": SCHEMA if self.remotes else 1, "files": rows}
        if self.remotes:
            document["remotes"] = [
                [remote.path, remote.url, remote.pin, remote.size, int(remote.executable)] for remote in self.remotes
            ]
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    @staticmethod
    def decode(content: bytes) -> Manifest:
        """The manifest from its bytes. Raises IntegrityError for anything that `encode` did not write."""
        try:
            document = json.loads(content)
            if document["schema"] > SCHEMA:
                raise VersionMismatch(
                    f"a manifest has schema {document['schema']}; this kubeq reads up to {SCHEMA}",
                    hint="install a newer kubeq",
                )
            entries = [
                Entry(clean_destination(path), Digest(sha256, size), bool(executable))
                for path, sha256, size, executable in document["files"]
            ]
            return Manifest.of(entries, map(_remote, document.get("remotes", ())))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, UsageError) as error:
            raise IntegrityError(f"a manifest cannot be read: {error}") from error


def _remote(row: list[object]) -> Remote:
    path, url, pin, size, executable = row
    if not (isinstance(path, str) and isinstance(url, str) and isinstance(pin, str) and _PIN.fullmatch(pin)):
        raise ValueError(f"the source of {path!r} has no URL or no pin")
    if type(size) is not int or size < 0:
        raise ValueError(f"the source of {path!r} has no size")
    return Remote(clean_destination(path), url, pin, size, bool(executable))


def clean_destination(path: str) -> str:
    """The path with `.` and doubled slashes removed. Raises UsageError unless it stays inside the work directory.

    Names that a task could not use portably are refused: control characters, components over 255 bytes, what is not
    UTF-8. Unicode is normalised to NFC, so that one name typed on two systems is one name.
    """
    if _PLAIN.fullmatch(path):
        return path
    if not path or path.startswith("/"):
        raise UsageError(f"the destination {path!r} must be a relative path", hint="write SRC:DST with DST relative")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts:
        raise UsageError(f"the destination {path!r} names no file")
    if ".." in parts:
        raise UsageError(
            f"the destination {path!r} leaves the work directory",
            hint="give another one: -u SRC:DST, without '..'",
        )
    clean = unicodedata.normalize("NFC", "/".join(parts))
    try:
        encoded = clean.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the destination {path!r} is not valid UTF-8") from error
    if _CONTROL.search(clean):
        raise UsageError(f"the destination {path!r} holds a control character")
    if len(encoded) > LONGEST_PATH or any(len(part.encode()) > LONGEST_COMPONENT for part in parts):
        raise UsageError(f"the destination {clean[:60]!r}... is too long", hint="255 bytes a name, 1000 in all")
    return clean
