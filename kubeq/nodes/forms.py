"""As what the agent reaches a machine, and what is run there: as this installation, as an archive, or as an image.

On this machine agents run from this installation. Elsewhere the archive goes wherever there is a Python that runs it
and the backplane needs nothing compiled: it is a hundred times smaller than the image, and it serves jobs without
containers too. Everywhere else it is the image, on any machine with Docker. Nothing here starts or sends anything, and
no text that is made here holds a credential.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from kubeq.core.digest import Digest
from kubeq.errors import UsageError
from kubeq.nodes.archive import LEAST_PYTHON, Archive, interpreters
from kubeq.nodes.packages import COMPILED
from kubeq.release import this_release

ENGINE_SOCKET = "/var/run/docker.sock"
IMAGE_FOLDER = PurePosixPath("/var/lib/kubeq")
"""What an agent in a container keeps, at the same path inside and outside: the engine mounts parts of it into tasks."""
SUPERVISE = "--supervise"
"""Makes the agent start again when it dies."""
IMAGE_REPOSITORY = "kubeq-consumer"
_IDENTITIES: Mapping[str, tuple[str, ...]] = {
    "aws": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
}
_PLACES: Mapping[str, tuple[str, ...]] = {
    "aws": (
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL_DYNAMODB",
    ),
    "gcp": ("GOOGLE_CLOUD_PROJECT", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"),
}


class Form(StrEnum):
    """As what an agent reaches another machine."""

    ARCHIVE = "archive"
    IMAGE = "image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a machine has: the minor number of its newest Python 3, and whether a Docker engine answers."""

    python: int | None
    docker: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAgent:
    """The agent as it lies in a store that any machine can see: the blob `digest` at `url`.

    `archive` is what the blob holds, or `image` the name of the image that is in it. `extras` are what it needs.
    """

    url: str
    digest: Digest
    extras: tuple[str, ...]
    archive: Archive | None = None
    image: str | None = None


def choose_form(extras: Iterable[str], found: Found, least_python: int = LEAST_PYTHON) -> Form:
    """The form for agents that need those extras on such a machine. Raises UsageError if none runs there."""
    compiled = COMPILED.intersection(extras)
    if not compiled and found.python is not None and found.python >= least_python:
        return Form.ARCHIVE
    if found.docker:
        return Form.IMAGE
    has = "no Python 3" if found.python is None else f"Python 3.{found.python}"
    if compiled:
        raise UsageError(
            "this backplane needs the agent's image, and the machine has no Docker", hint="install Docker on it"
        )
    raise UsageError(
        f"the agent needs Python 3.{least_python} or Docker, and the machine has {has} and no Docker",
        hint=f"install Docker or Python 3.{least_python} on it",
    )


def image_name(repository: str = IMAGE_REPOSITORY) -> str:
    """The image of this very release; a name that has a tag or a digest already is left as it is."""
    last = repository.rpartition("/")[2]
    return repository if ":" in last or "@" in last else f"{repository}:{this_release().replace('+', '-')}"


def endpoint_variables(extras: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that say where a cloud is to be found, where they are set; no secret is among them."""
    names = [name for extra in extras for name in _PLACES.get(extra, ())]
    return {name: environ[name] for name in names if environ.get(name) and "@" not in environ[name]}


def archive_command(path: str, environment: Mapping[str, str]) -> str:
    """The line that runs an archive which lies at that path of the machine."""
    return shlex.join(["env", *_pairs(environment), "sh", path, SUPERVISE])


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What the agent of a machine is told, and the extras that it needs.

    `at_end` is the provider's: the line that switches the machine off once the agent has left.
    """

    environment: Mapping[str, str]
    extras: tuple[str, ...] = ()
    at_end: str = ":"


def image_command(image: str, boot: Boot, *options: str) -> str:
    """The line that runs the agent's image with the machine's own engine; credentials pass by their names alone.

    The network is the machine's, where its identity is to be had. So are the process numbers: only then can the next
    agent see that this one is dead, and remove what it left running.
    """
    folder = str(IMAGE_FOLDER)
    own = {**boot.environment, "KUBEQ_AGENT_STATE": folder, "KUBEQ_AGENT_CACHE": f"{folder}/cache"}
    passed = [name for extra in boot.extras for name in _IDENTITIES.get(extra, ())]
    name = f"kubeq-{boot.environment['KUBEQ_AGENT_NODE']}"
    return shlex.join(
        [
            *("docker", "run", *options, "--name", name, "--network", "host", "--pid", "host"),
            *("--volume", f"{ENGINE_SOCKET}:{ENGINE_SOCKET}", "--volume", f"{folder}:{folder}"),
            *(word for pair in (*_pairs(own), *passed) for word in ("--env", pair)),
            *(image, SUPERVISE),
        ]
    )


def boot_from_store(boot: Boot, archive: Archive, url: str) -> str:
    """The whole text for a fresh machine with Python: fetch the archive as itself, verify it, run it, switch off."""
    fetcher = Path(__file__).with_name("fetching.py").read_text(encoding="utf-8")
    own = {**boot.environment, "KUBEQ_AGENT_ARCHIVE": str(archive.digest)}
    return _BOOT_FROM_STORE.format(
        head=_head(boot),
        exports="".join(f"export {name}={shlex.quote(value)}\n" for name, value in own.items()),
        release=archive.release,
        least=archive.python,
        names=interpreters(archive.python),
        sha256=archive.digest.sha256,
        url=shlex.quote(url),
        digest=archive.digest,
        fetcher=fetcher,
        supervise=SUPERVISE,
    )


def boot_from_image(boot: Boot, image: str) -> str:
    """The whole text for a fresh machine with Docker that can pull the image: run it, switch off."""
    return f"{_head(boot)}{image_command(image, boot, '--rm')}\n"


def boot_here(boot: Boot, command: str) -> str:
    """The whole text for this machine, where kubeq is installed."""
    return f"{_head(boot)}{command} {SUPERVISE}\n"


def _head(boot: Boot) -> str:
    node, pool = boot.environment["KUBEQ_AGENT_NODE"], boot.environment["KUBEQ_AGENT_POOL"]
    return _HEAD.format(node=node, pool=pool, release=this_release(), at_end=boot.at_end)


def _pairs(environment: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in environment.items()]


_HEAD = """\
#!/bin/sh
# Makes this machine node {node} of pool {pool}; by kubeq {release}.
# No credential is in here: the agent is whoever the machine is, or whom its environment names.
set -u
umask 077
at_end() {{ {at_end}; }}
trap at_end EXIT

"""
_BOOT_FROM_STORE = """\
{head}{exports}
for python in python3 {names} none; do
    "$python" -c 'import sys, json, ssl, zipfile, zlib; sys.exit(sys.version_info < (3, {least}))' 2>/dev/null && break
done
if [ "$python" = none ]; then
    echo "error: the agent of kubeq {release} needs Python 3.{least} or newer, and this machine has none" >&2
    exit 2
fi

folder=${{KUBEQ_AGENT_CACHE:-${{XDG_CACHE_HOME:-${{HOME:-/root}}/.cache}}/kubeq}}
archive=$folder/agents/{sha256}.pyz
"$python" - {url} "$archive" {digest} <<'END_OF_PROGRAM' || exit
{fetcher}END_OF_PROGRAM

"$python" "$archive" {supervise}
"""
