"""What of other people's an agent needs, and where that lies on this machine: one list for the archive and the image.

An archive runs on any machine's Python, so it can only hold what is pure Python: compiled files are left out where the
same module is there in Python, and refused where it is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from kubeq.errors import UsageError

if TYPE_CHECKING:
    from importlib import metadata

ALWAYS = ("docker>=7.0",)
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "aws": ("boto3>=1.36",),
    "gcp": ("google-cloud-datastore>=2.20.2", "google-cloud-storage>=3.0"),
}
"""As in pyproject.toml, which a test compares."""
SCHEMES: Mapping[str, str] = {"s3": "aws", "dynamodb": "aws", "gs": "gcp", "datastore": "gcp"}
"""Which extra a store's or queue's URL needs; others need nothing."""
COMPILED = frozenset({"gcp"})
"""Extras with compiled code in them that has no twin in Python: gRPC."""

_SERVICES = frozenset({"dynamodb", "s3", "signin", "sso", "sso-oidc", "sts"})
"""The services of AWS that an agent speaks to, those for credentials among them."""
_DESCRIBED = re.compile(r"(?:botocore|boto3)/data/(?P<service>[^/]+)/.+|boto3/examples/.+")
_LICENCE = re.compile(r"[^/]+\.dist-info/(?:licen[cs]es/.+|(?:LICEN[CS]E|NOTICE|COPYING|AUTHORS|METADATA)[^/]*)")
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)")
_BINARY = frozenset({".so", ".pyd", ".dylib"})
_AT_LEAST = re.compile(r">=?\s*3\.(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An installed package: its files by their paths below a folder of packages. It runs on Python 3.`python` on."""

    name: str
    version: str
    python: int
    files: Mapping[str, Path]


def extras_of(*urls: str) -> tuple[str, ...]:
    """The extras that agents on those stores and queues need, each once."""
    schemes = (url.partition(":")[0].lower() for url in urls)
    return tuple(dict.fromkeys(SCHEMES[scheme] for scheme in schemes if scheme in SCHEMES))


def requirements(extras: Iterable[str]) -> tuple[str, ...]:
    """What pip is asked for."""
    return (*ALWAYS, *(requirement for extra in extras for requirement in EXTRAS[extra]))


def packages_for(extras: Iterable[str]) -> tuple[Package, ...]:
    """What agents that need those extras require, from this installation. Raises UsageError as `installed` does."""
    wanted = tuple(extras)
    named = f"kubeq[{','.join(wanted)}]" if wanted else "kubeq"
    return installed(requirements(wanted), hint=f"pip install --upgrade '{named}' in a virtual environment")


def installed(wanted: Iterable[str], *, hint: str) -> tuple[Package, ...]:
    """The packages of those requirements and all that they require in turn, by name.

    Raises UsageError for one that is not installed or cannot be shipped.
    """
    from importlib import metadata  # not at the top: the whole of `email` comes with it, and each command would wait

    found: dict[str, Package] = {}
    waiting = [(_name(requirement), True) for requirement in wanted]
    while waiting:
        name, needed = waiting.pop()
        if name in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if not needed:
                continue
            raise UsageError(
                f"the agent cannot be packed: the Python package {name} is not installed", hint=hint
            ) from None
        found[name] = _package(name, distribution, hint)
        waiting += _required_by(distribution)
    return tuple(found[name] for name in sorted(found))


def _required_by(distribution: metadata.Distribution) -> Iterator[tuple[str, bool]]:
    """Names, and whether it is needed on every machine; the package's own extras are left out."""
    for requirement in distribution.requires or ():
        name, _, marker = requirement.partition(";")
        if not re.search(r"\bextra\b", marker):
            yield _name(name), not marker.strip()


def _package(name: str, distribution: metadata.Distribution, hint: str) -> Package:
    names = [PurePosixPath(str(file)) for file in distribution.files or ()]
    if not any(path.suffix == ".py" for path in names):
        raise UsageError(
            f"the agent cannot be packed: there is no list of the files of the Python package {name}", hint=hint
        )
    compiled = [path for path in names if path.suffix in _BINARY]
    modules = {path.with_suffix("") for path in names if path.suffix == ".py"}
    lonely = [path for path in compiled if not _has_twin(path, modules)]
    if lonely:
        raise UsageError(
            f"the agent cannot be packed: {lonely[0]} of the package {name} is compiled for one kind of machine",
            hint="use the agent's image: kubeq agent prints its command",
        )
    kept = (path for path in names if _is_kept(path))
    return Package(
        name=name,
        version=distribution.version,
        python=_least_python(distribution.metadata["Requires-Python"] or ""),
        files={str(path): Path(str(distribution.locate_file(path))) for path in kept},
    )


def _has_twin(path: PurePosixPath, modules: set[PurePosixPath]) -> bool:
    """Whether Python can do without the compiled module: it is there in Python too, or only mypyc's own for such."""
    stem = path.name.partition(".")[0]
    return path.with_name(stem) in modules or stem.endswith("__mypyc")


def _is_kept(path: PurePosixPath) -> bool:
    """Whether an agent needs the file, or its licence wants it to be there."""
    text = str(path)
    if ".." in path.parts or path.suffix in {".pyc", ".pyi", *_BINARY} or "__pycache__" in path.parts:
        return False
    if path.parts[0].endswith((".dist-info", ".egg-info")):
        return bool(_LICENCE.fullmatch(text))
    described = _DESCRIBED.fullmatch(text)
    return described is None or described["service"] in _SERVICES


def _least_python(requires: str) -> int:
    """The minor number of the oldest Python 3 that will do."""
    return max((int(minor) for minor in _AT_LEAST.findall(requires)), default=0)


def _name(requirement: str) -> str:
    match = _REQUIREMENT.match(requirement.strip())
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match["name"]).lower()
