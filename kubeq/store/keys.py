"""Which strings are keys of an object store. Every backend refuses the same ones; nothing else lives here."""

from __future__ import annotations

import re

LONGEST_KEY = 1024
"""Bytes of UTF-8 (S3 user guide, "Creating object key names"; Cloud Storage, "Object names")."""
RESERVED = "tmp"
"""The first part that no key may have: there the directory store keeps what is not finished yet."""
_KEY = re.compile(r"(?!tmp/)(?:(?!\.{1,2}(?:/|\Z))[^/\x00-\x1f\x7f]+(?:/(?!\Z)|\Z))+")


def is_key(text: str) -> bool:
    """Whether an object could have that key: relative, printable UTF-8, no part empty, `.` or `..`."""
    if text == RESERVED or not _KEY.fullmatch(text):
        return False
    try:
        return len(text.encode()) <= LONGEST_KEY
    except UnicodeEncodeError:
        return False


def may_begin_key(prefix: str) -> bool:
    """Whether there can be a key that starts so."""
    return is_key(prefix) or is_key(prefix + "x")


def check_key(key: str) -> None:
    """Nothing, or ValueError: whoever made such a key has a bug."""
    if not is_key(key):
        raise ValueError(f"not a key of an object store: {key!r}")
