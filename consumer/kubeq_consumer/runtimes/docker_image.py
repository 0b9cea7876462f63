"""Images: a name to its digest, pulled if it is not there, and why it cannot be had where it cannot."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from kubeq.core.images import check_image_name, is_image_id, parse_image_name
from kubeq.errors import ImageUnavailable
from kubeq.machine import runs_architecture
from kubeq_consumer.runtimes.docker_engine import Document, Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What a create request must know of an image."""

    id: str
    entrypoint: tuple[str, ...]
    sets_home: bool


class Images:
    """The images of one engine. Safe to use from several threads: an image is pulled by one of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._facts: dict[str, ImageFacts] = {}

    def resolve(self, name: str) -> str:
        """The name pinned to a digest; an image that no registry gave is pinned to its id."""
        return _pinned(name, self._have(name))

    def facts(self, pinned: str) -> ImageFacts:
        """What is known of a pinned image, pulled if it is not there. Asked of the engine once."""
        known = self._facts.get(pinned)
        if known is None:
            image = self._have(pinned)
            config: dict[str, Any] = image.get("Config") or {}
            known = ImageFacts(
                id=str(image["Id"]),
                entrypoint=tuple(config.get("Entrypoint") or ()),
                sets_home=any(pair.startswith("HOME=") for pair in config.get("Env") or ()),
            )
            self._facts[pinned] = known
        return known

    def forget(self, pinned: str) -> None:
        """Ask the engine again next time: somebody may have removed the image."""
        self._facts.pop(pinned, None)

    def _have(self, name: str) -> Document:
        check_image_name(name)
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            image = self._engine.image(name)
            if image is None:
                image = self._pull(name)
        self._check_machine(name, str(image.get("Architecture") or ""))
        return image

    def _pull(self, name: str) -> Document:
        if is_image_id(name):
            raise ImageUnavailable(
                f"the image {name[:19]} is not on this machine, and no registry can be asked for an id",
                hint="push it to a registry and name it by that, or build it on this machine",
            )
        words = self._engine.pull(parse_image_name(name))
        if words is not None:
            raise explain_pull(name, words)
        image = self._engine.image(name)
        if image is None:
            raise ImageUnavailable(f"the image {name} was pulled and is gone again", transient=True)
        return image

    def _check_machine(self, name: str, architecture: str) -> None:
        machine = self._engine.machine()
        if runs_architecture(architecture, machine):
            return
        raise ImageUnavailable(
            f"the image {name} is for {architecture}, and this machine is {machine}",
            hint=f"build or choose an image for linux/{machine}",
        )


def _pinned(name: str, image: Document) -> str:
    if is_image_id(name):
        return name
    asked = parse_image_name(name)
    for reference in image.get("RepoDigests") or ():
        known = parse_image_name(str(reference))
        if known.plain == asked.plain and asked.digest in (None, known.digest):
            return f"{asked.repository}@{known.digest}"
    return str(image["Id"])


def explain_pull(name: str, words: str) -> ImageUnavailable:
    """The engine's words on a pull that failed, as one of: wrong machine, may not, not there, unreachable, other."""
    said = words.lower()

    def among(*signs: str) -> bool:
        return any(sign in said for sign in signs)

    reason = f"({' '.join(words.split())})"
    if among("no matching manifest", "no match for platform"):
        return ImageUnavailable(f"the image {name} does not exist for this kind of machine {reason}")
    if among("toomanyrequests", "429", "rate limit"):
        return ImageUnavailable(f"the registry gives out {name} no more for now {reason}", transient=True)
    if among("does not exist or no pull access", "may require 'docker login'", "may require authorization"):
        return ImageUnavailable(
            f"the image {name} does not exist, or may not be pulled {reason}",
            hint="look at its spelling; if it is private: docker login",
        )
    if among("unauthorized", "denied", "forbidden", "authentication required", "no basic auth"):
        return ImageUnavailable(f"the image {name} may not be pulled {reason}", hint="docker login to its registry")
    if among("not found", "manifest unknown", "name unknown"):
        return ImageUnavailable(f"the image {name} does not exist {reason}", hint="look at its name and tag")
    if among("no space left"):
        return ImageUnavailable(f"there is no room on this machine's disk for the image {name} {reason}")
    if among(
        "dial tcp", "no such host", "timeout", "refused", "unreachable", "proxyconnect", "misbehaving", "eof", "reset"
    ):
        return ImageUnavailable(
            f"the image {name} is not on this machine, and its registry cannot be reached {reason}",
            hint="look at the network, or build or load the image here (docker load, docker import)",
            transient=True,
        )
    return ImageUnavailable(f"the image {name} cannot be pulled {reason}")
