"""What the clouds' own command line tools are configured with: the project, the region. Only read, and only those two.

Which tool is asked follows from the scheme of the store's URL. Credentials are nobody's business here: the clouds'
libraries find them by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from configparser import ConfigParser
from configparser import Error as NotIni
from dataclasses import dataclass
from pathlib import Path

from kubeq.config.values import Place


@dataclass(frozen=True, slots=True)
class Found:
    """A value that somebody else's configuration has, and where."""

    text: str
    origin: str


Lookup = Callable[[Place], Found | None]


def aws_region(place: Place) -> Found | None:
    """The region that the `aws` command would use (AWS CLI user guide, "Configuration and credential precedence")."""
    profile = place.environ.get("AWS_PROFILE") or place.environ.get("AWS_DEFAULT_PROFILE") or "default"
    file = _file(place, "AWS_CONFIG_FILE", ".aws/config")
    section = "default" if profile == "default" else f"profile {profile}"
    return _first([*_variables(place, "AWS_REGION", "AWS_DEFAULT_REGION"), *_ini(file, section, "region", "aws")])


def gcloud_project(place: Place) -> Found | None:
    """The project that `gcloud` and Google's libraries would use."""
    named = _variables(place, "GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT")
    return _first([*named, *_ini(_gcloud_file(place), "core", "project", "gcloud")])


def gcloud_region(place: Place) -> Found | None:
    """The region that `gcloud` would use."""
    named = _variables(place, "CLOUDSDK_COMPUTE_REGION")
    return _first([*named, *_ini(_gcloud_file(place), "compute", "region", "gcloud")])


REGIONS: Mapping[str, Lookup] = {"gs": gcloud_region, "s3": aws_region}
PROJECTS: Mapping[str, Lookup] = {"gs": gcloud_project}
COMMANDS: Mapping[tuple[str, str], str] = {
    ("gs", "project"): "gcloud config set project PROJECT",
    ("s3", "region"): "aws configure set region REGION",
}
"""What sets a key for good in the cloud's own tool, by the scheme of the store."""


def _gcloud_file(place: Place) -> Path:
    folder = _file(place, "CLOUDSDK_CONFIG", ".config/gcloud")
    name = place.environ.get("CLOUDSDK_ACTIVE_CONFIG_NAME") or _text(folder / "active_config").strip() or "default"
    return folder / "configurations" / f"config_{Path(name).name}"


def _file(place: Place, variable: str, usual: str) -> Path:
    named = place.environ.get(variable)
    return place.base / named if named else place.home / usual


def _variables(place: Place, *names: str) -> Iterator[Found]:
    yield from (Found(place.environ[name], name) for name in names if place.environ.get(name))


def _ini(path: Path, section: str, key: str, tool: str) -> Iterator[Found]:
    """The key of somebody else's file; nothing where it cannot be read, for that is not ours to complain about."""
    parser = ConfigParser(interpolation=None, strict=False, default_section="\n")
    try:
        parser.read_string(_text(path))
    except NotIni:
        return
    text = parser.get(section, key, fallback="").strip()
    if text:
        yield Found(text, f"{tool}: {path} [{section}]")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _first(found: list[Found]) -> Found | None:
    return found[0] if found else None
