"""How the answer of `setup` looks: what stands and what was made, then what a node may do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeq.actions.policies import Document
from kubeq.actions.provisioning import Provision, State
from kubeq.cli.output import columns
from kubeq.cli.shown import cell

HEADER = ("kind", "name", "state", "about", "url")
_CLOUDS = {"aws": "AWS", "gcp": "Google Cloud"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupView:
    """What came of a set-up. `embedded` are the URLs for which nothing has to be made, `policies` what the nodes may
    do, by cloud; `path` is the configuration file that was asked for.
    """

    provisions: Sequence[Provision]
    embedded: Sequence[str]
    policies: Mapping[str, Document]
    dry_run: bool
    path: Path | None
    launching: Document | None = None
    """What whoever starts machines has to be allowed."""

    def text(self) -> Iterable[str]:
        if self.provisions:
            yield from columns(("kind", "name", "", "about"), (self._row(each) for each in self.provisions))
        if self.embedded:
            yield f"nothing has to be made for {' and '.join(self.embedded)}"
        for cloud, policy in self.policies.items():
            yield ""
            yield f"The least that the identity of a node needs in {_CLOUDS.get(cloud, cloud)}:"
            yield from json.dumps(policy, indent=2).splitlines()
        if self.launching is not None:
            yield ""
            yield "What whoever starts machines needs besides:"
            yield from json.dumps(self.launching, indent=2).splitlines()
        if self.path is not None:
            yield f"the configuration {'would be' if self.dry_run else 'is'} written to {self.path}"

    def json(self) -> Mapping[str, Any]:
        return {
            "dry_run": self.dry_run,
            "pieces": [dict(zip(HEADER, self._whole(each), strict=True)) for each in self.provisions],
            "embedded": list(self.embedded),
            "policies": dict(self.policies),
            "launching": self.launching,
            "written": None if self.path is None or self.dry_run else str(self.path),
        }

    def quiet(self) -> Iterable[str]:
        return [each.piece.name for each in self.provisions if each.state is not State.STANDS]

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        return HEADER, ([cell(value) for value in self._whole(each)] for each in self.provisions)

    def _row(self, each: Provision) -> Sequence[object]:
        said = {State.STANDS: "stands", State.CREATED: "created", State.MISSING: "would be created"}
        return each.piece.kind, each.piece.name, said[each.state], each.piece.about

    def _whole(self, each: Provision) -> Sequence[object]:
        return each.piece.kind, each.piece.name, str(each.state), each.piece.about, each.url
