"""What an image may be called. The grammar only: whether such an image exists, the engine says.

[HOST[:PORT]/]PATH[/PATH...][:TAG][@sha256:HEX]        a name, as in the distribution project's reference grammar
sha256:HEX                                             an image's own id, 64 hexadecimal digits
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kubeq.errors import UsageError

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_NAME = re.compile(
    rf"(?P<repository>(?:{_HOST}/)?{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_ID = re.compile(r"sha256:[0-9a-f]{64}")
LONGEST_NAME = 255
"""The longest repository name that registries take (distribution's reference grammar)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageName:
    """A name taken apart; without tag and digest it means the tag `latest`."""

    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def plain(self) -> str:
        """The repository as the engine lists it: without Docker Hub's own host and its `library/`."""
        for prefix in ("index.docker.io/", "docker.io/"):
            if self.repository.startswith(prefix):
                return self.repository.removeprefix(prefix).removeprefix("library/")
        return self.repository.removeprefix("library/")


def is_image_id(name: str) -> bool:
    """Whether the name is an image's own id, which no registry knows."""
    return _ID.fullmatch(name) is not None


def check_image_name(name: str) -> None:
    """Raises UsageError, with the reason, for anything that cannot be an image's name or id."""
    if not is_image_id(name):
        parse_image_name(name)


def parse_image_name(name: str) -> ImageName:
    """The parts of a name (not of an id). Raises UsageError, with the reason."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise UsageError(
            f"{name!r} cannot be an image's name: {_fault(name)}", hint="write NAME[:TAG], as in python:3.12"
        )
    if len(match["repository"]) > LONGEST_NAME:
        raise UsageError(f"the image's name {name[:60]!r}... is too long", hint=f"at most {LONGEST_NAME} characters")
    return ImageName(repository=match["repository"], tag=match["tag"], digest=match["digest"])


def pinned_name(name: str, id: str, repo_digests: Sequence[str]) -> str:
    """The name that means this very image for ever: by its registry's digest if it has one there, else by its own id.

    `id` and `repo_digests` are what the engine says of the image that it has under `name`.
    """
    if is_image_id(name):
        return name
    asked = parse_image_name(name)
    for reference in repo_digests:
        known = parse_image_name(reference)
        if known.plain == asked.plain and asked.digest in (None, known.digest):
            return f"{asked.repository}@{known.digest}"
    return id


def _fault(name: str) -> str:
    if not name:
        return "it is empty"
    if name.startswith("-"):
        return "it begins with a dash"
    if "://" in name:
        return "it is a URL; an image's name has no http:// or docker:// before it"
    if any(letter.isspace() for letter in name):
        return "it holds a blank"
    if re.search(r"[A-Z]", name.partition("@")[0].rpartition("/")[2].partition(":")[0]):
        return "its letters must be lower case"
    if "@" in name:
        return "after @ there must be sha256: and 64 hexadecimal digits"
    return "only lower case letters, digits and single . _ - / may stand in it, and one :TAG at its end"
