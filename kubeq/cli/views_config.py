"""How the answer of `config` looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubeq.cli.output import columns
from kubeq.cli.shown import cell, one_line
from kubeq.config import Setting

HEADER = ("key", "value", "origin")


@dataclass(frozen=True, slots=True)
class SettingsView:
    """Every key with its value and where that comes from."""

    settings: Sequence[Setting]
    path: str | None

    def text(self) -> Iterable[str]:
        shown = [
            (each.name, "-" if each.value is None else one_line(each.value), each.origin) for each in self.settings
        ]
        yield from columns(HEADER, shown)
        yield f"file: {self.path or 'none was found'}"

    def json(self) -> Mapping[str, Any]:
        found = {each.name: {"value": each.value, "origin": each.origin} for each in self.settings}
        return {"path": self.path, "config": found}

    def quiet(self) -> Iterable[str]:
        return [each.name for each in self.settings]

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        return HEADER, ([each.name, cell(each.value), each.origin] for each in self.settings)


@dataclass(frozen=True, slots=True)
class SettingView:
    """One key: the value alone, for scripts."""

    setting: Setting

    def text(self) -> Iterable[str]:
        return [] if self.setting.value is None else self.setting.value.split("\n")

    def json(self) -> Mapping[str, Any]:
        return {"key": self.setting.name, "value": self.setting.value, "origin": self.setting.origin}

    def quiet(self) -> Iterable[str]:
        return self.text()


@dataclass(frozen=True, slots=True)
class ProfilesView:
    """The profiles of the configuration file; `chosen` is in use."""

    names: Sequence[str]
    chosen: str | None

    def text(self) -> Iterable[str]:
        return [f"{name} (in use)" if name == self.chosen else name for name in self.names] or ["no profiles"]

    def json(self) -> Mapping[str, Any]:
        return {"profiles": list(self.names), "profile": self.chosen}

    def quiet(self) -> Iterable[str]:
        return self.names

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        return ("profile", "in_use"), ([name, cell(name == self.chosen)] for name in self.names)
