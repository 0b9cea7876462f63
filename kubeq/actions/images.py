"""The submitter's question about an image: does it exist, does it fit the nodes, and which digest is meant.

Pulls and starts nothing. The docker library is imported here only (on this side), on first use; nothing of it leaves
the module.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from kubeq.core.images import is_image_id, parse_image_name, pinned_name
from kubeq.errors import AccessDenied, BackendError, ImageUnavailable
from kubeq.extras import docker_without_ssh
from kubeq.machine import runs_architecture

if TYPE_CHECKING:
    from docker import APIClient

RELEASE_LABEL = "kubeq.release"
"""Set by what builds the agent's image."""
ANSWER_S = 60
"""The engine asks a registry for us; slower than this, it does not answer."""
_WITHOUT_REGISTRY = (
    "without a registry: name an image that is here (docker load, or `make images` in kubeq's sources, which prints "
    "the names of its own), or --image none"
)
_UNREACHABLE = ("dial tcp", "no such host", "timeout", "refused", "unreachable", "proxyconnect", "misbehaving", "eof")


def resolve_image(image: str) -> str:
    """The digest-pinned name of an image for nodes of this machine; the engine's own id for one that no registry gave.

    Raises ImageUnavailable with the engine's reason, or for an image that is for another kind of machine, and
    BackendError when no engine answers.
    """
    with _engine() as engine, closing(engine):
        found = _on_this_machine(engine, image)
        if found is None:
            return _ask_registry(engine, image, here=True)
        _check_architecture(engine, image, [str(found.get("Architecture") or "")])
        return pinned_name(image, str(found["Id"]), [str(name) for name in found.get("RepoDigests") or ()])


def resolve_elsewhere(image: str) -> str | None:
    """The digest-pinned name of an image for nodes that are not this machine; None if only they can tell.

    That is so for an image that no registry gave, and where neither an engine nor the registry can be asked from here.
    Raises ImageUnavailable if the registry says that there is no such image.
    """
    if is_image_id(image) or parse_image_name(image).digest:
        return image
    try:
        with _engine() as engine, closing(engine):
            found = _on_this_machine(engine, image)
            if found is None:
                return _ask_registry(engine, image, here=False)
            pinned = pinned_name(image, str(found["Id"]), [str(name) for name in found.get("RepoDigests") or ()])
            return None if is_image_id(pinned) else pinned
    except ImageUnavailable as error:
        if error.transient:
            return None
        raise
    except BackendError:
        return None


def describe_engine() -> str:
    """What answers as the engine of this machine. Raises BackendError if nothing does."""
    with _engine() as engine, closing(engine):
        version = engine.version()
        return f"Docker {version['Version']} for {version['Os']}/{version['Arch']}"


def release_of_image(image: str) -> str | None:
    """Of which kubeq an agent's image on this machine is; None if it is not here, or there is no engine to ask.

    An image that says nothing of itself is of the release "unknown".
    """
    try:
        with _engine() as engine, closing(engine):
            found = _on_this_machine(engine, image)
    except BackendError:
        return None
    return None if found is None else str((found["Config"].get("Labels") or {}).get(RELEASE_LABEL, "unknown"))


def _on_this_machine(engine: APIClient, image: str) -> dict[str, Any] | None:
    from docker.errors import ImageNotFound

    try:
        found: dict[str, Any] = engine.inspect_image(image)  # type: ignore[no-untyped-call]
    except ImageNotFound:
        return None
    return found


def _ask_registry(engine: APIClient, image: str, *, here: bool) -> str:
    """The name by the registry's digest; `here`: it must be for this machine too."""
    from docker.errors import APIError

    if is_image_id(image):
        raise ImageUnavailable(
            f"the image {image[:19]} is not on this machine, and no registry can be asked for an id",
            hint="push it to a registry and name it by that, or build it on this machine",
        )
    try:
        answer = engine.inspect_distribution(image)  # type: ignore[no-untyped-call]
    except APIError as error:
        raise _unavailable(image, str(error.explanation or error)) from error
    platforms = [platform for platform in answer.get("Platforms") or () if platform.get("os") in (None, "linux")]
    if here and platforms:
        _check_architecture(engine, image, [str(platform.get("architecture") or "") for platform in platforms])
    return f"{parse_image_name(image).repository}@{answer['Descriptor']['digest']}"


def _check_architecture(engine: APIClient, image: str, architectures: Sequence[str]) -> None:
    machine = str(engine.version()["Arch"])
    if not any(runs_architecture(architecture, machine) for architecture in architectures):
        raise ImageUnavailable(
            f"the image {image} is for {' and '.join(architectures)}, and this machine is {machine}",
            hint=f"build or choose an image for linux/{machine}",
        )


def _unavailable(image: str, words: str) -> ImageUnavailable:
    reason = f"({' '.join(words.split())})"
    said = words.lower()
    if any(sign in said for sign in _UNREACHABLE):
        return ImageUnavailable(
            f"the image {image} is not on this machine, and its registry cannot be reached {reason}",
            hint=f"look at its name and the network; {_WITHOUT_REGISTRY}",
            transient=True,
        )
    return ImageUnavailable(
        f"the image {image} does not exist, or may not be pulled {reason}",
        hint=f"look at its spelling; if it is private: docker login; {_WITHOUT_REGISTRY}",
    )


@contextmanager
def _engine() -> Iterator[APIClient]:
    """The engine of this machine. What its library or the connection raises leaves as one of ours."""
    docker_without_ssh()
    import requests
    from docker import APIClient
    from docker.errors import APIError, DockerException
    from docker.utils import kwargs_from_env

    hint = "start Docker (sudo systemctl start docker), or run without containers: --image none"
    settings = kwargs_from_env()
    if str(settings.get("base_url")).startswith("ssh://"):
        raise BackendError(
            f"the Docker engine at {settings['base_url']} is not on this machine",
            hint="unset DOCKER_HOST, or run without containers: --image none",
        )
    try:
        yield APIClient(**settings, timeout=ANSWER_S)
    except APIError as error:
        raise BackendError(f"the Docker engine refused: {error.explanation or error}", transient=True) from error
    except (DockerException, requests.exceptions.RequestException, OSError) as error:
        if "Permission denied" in str(error) or isinstance(error, PermissionError):
            raise AccessDenied(
                "this user may not use the Docker engine",
                hint="join the group of its socket (sudo usermod -aG docker $USER; log in again), or use --image none",
            ) from error
        named = os.environ.get("DOCKER_HOST")
        where = f"at {named} (DOCKER_HOST)" if named else "on this machine"
        raise BackendError(f"no Docker engine answers {where}: {_innermost(error)}", hint=hint) from error


def _innermost(error: BaseException) -> str:
    """The last cause's own words: the library wraps `connection refused` several times."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
