"""The sections of one configuration file, and which of them a profile takes. What is in a section is read in `load`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kubeq.config.files import OLD_NAME, find_file, read_file
from kubeq.config.ini import Section, parse_ini
from kubeq.config.values import Place
from kubeq.core.table_rules import listing
from kubeq.errors import NotFound, UsageError


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration file and its sections by title; without a path there is none."""

    path: Path | None
    sections: Mapping[str, Section]

    @property
    def profiles(self) -> tuple[str, ...]:
        """The names of all profiles, in the order of the file."""
        names = (title.partition(" ") for title in self.sections)
        return tuple(name for word, _, name in names if word == "profile" and name)

    def chain(self, profile: str) -> list[str]:
        """The profiles to apply, the most general first. Raises UsageError for a cycle, NotFound for an unknown one."""
        names: list[str] = []
        name: str | None = profile
        while name is not None:
            if name in names:
                raise UsageError(
                    f"{self.path}: the profiles inherit from each other: {' -> '.join([*names, name])}",
                    hint="take one 'inherit' out",
                )
            names.append(name)
            section = self.sections.get(f"profile {name}")
            if section is None:
                known = ", ".join(self.profiles)
                via = f", which {names[-2]!r} inherits" if len(names) > 1 else ""
                raise NotFound(
                    f"{self.path} has no profile {name!r}{via}",
                    hint=f"its profiles are: {known}" if known else f"write a section [profile {name}]",
                )
            entry = section.entries.get("inherit")
            name = entry.text if entry else None
        return names[::-1]


def open_file(named: Path | None, here: Place, notes: list[str]) -> ConfigFile:
    """The named file, or the one that is found from here; what is to be told of it is added to `notes`.

    Raises UsageError for a file that cannot be read or has sections of other kinds.
    """
    path = here.base / named if named is not None else find_file(here)
    if path is None:
        return ConfigFile(None, {})
    sections = parse_ini(read_file(path), str(path))
    if named is None and path.name == OLD_NAME:
        notes.append(f"using {path}, kubeque's name for the configuration; rename it to .kubeq")
    unknown = [
        f"[{title}] (line {section.line})"
        for title, section in sections.items()
        if title != "config" and not re.fullmatch(r"profile \S+", title)
    ]
    if unknown:
        raise UsageError(f"{path} has an unknown section: {listing(unknown)}", hint="write [config] or [profile NAME]")
    return ConfigFile(path, sections)
