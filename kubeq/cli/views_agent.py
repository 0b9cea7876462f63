"""The answer of `kubeq agent`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubeq.actions.agents import ArchiveForm, ByHand, ImageForm
from kubeq.core.model import PoolId
from kubeq.release import this_release


@dataclass(frozen=True, slots=True)
class AgentView:
    """Ways to make a machine a node; with `print_boot`, all that a fresh one runs."""

    by_hand: ByHand
    pool: PoolId
    print_boot: bool = False

    def text(self) -> Iterable[str]:
        if self.print_boot:
            return [self.by_hand.boot.rstrip("\n")]
        return [*self._own(), *_archive_lines(self.by_hand.archive), *_image_lines(self.by_hand.image)]

    def json(self) -> Mapping[str, Any]:
        archive, image, relay = self.by_hand.archive, self.by_hand.image, self.by_hand.relay
        return {
            "command": self.by_hand.command,
            "pool": self.pool,
            "node": self.by_hand.node,
            "release": this_release(),
            "archive": archive
            and {
                "path": str(archive.archive.path),
                "digest": str(archive.archive.digest),
                "url": archive.url,
                "already": archive.already,
                "python": f"3.{archive.archive.python}",
                "command": archive.command,
            },
            "relay": relay and {"socket": str(relay.socket), "token_file": str(relay.token_file)},
            "image": image and {"name": image.name, "here": image.here, "command": image.command},
            **({"boot": self.by_hand.boot} if self.print_boot else {}),
        }

    def quiet(self) -> Iterable[str]:
        return [self.by_hand.boot.rstrip("\n") if self.print_boot else self.by_hand.command]

    def _own(self) -> Iterable[str]:
        """The line for this machine; alone, it needs no comment."""
        elsewhere = self.by_hand.archive is not None or self.by_hand.image is not None
        return ["# on this machine", self.by_hand.command] if elsewhere else [self.by_hand.command]


def _archive_lines(form: ArchiveForm | None) -> Iterable[str]:
    if form is None:
        return []
    stored = "already in the store" if form.already else "now in the store"
    return [
        "",
        f"# or on any machine with Python 3.{form.archive.python} or newer, beside a copy of {form.archive.path}",
        f"# ({stored}: {form.url})",
        form.command,
    ]


def _image_lines(form: ImageForm | None) -> Iterable[str]:
    if form is None:
        return []
    built = "" if form.here else " (not on this machine; images/consumer/build.py in kubeq's sources makes it)"
    return ["", f"# or on any machine with Docker and the image {form.name}{built}", form.command]
