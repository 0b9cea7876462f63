"""The layers of the configuration put together: default < environment < file with profiles < command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeq.config.clouds import Found
from kubeq.config.defaults import check_complete
from kubeq.config.ini import Section
from kubeq.config.key import VARIABLE_PREFIX, Derived, Key
from kubeq.config.keys import KEYS, MACHINE_KEYS, Config
from kubeq.config.old_keys import RENAMED, WITHOUT_MEANING, is_old, is_volume, renamed, volumes_of
from kubeq.config.profiles import ConfigFile, open_file
from kubeq.config.values import Place
from kubeq.core.table_rules import listing
from kubeq.errors import NotFound, UsageError
from kubeq.nodes.open import BESIDE_STORES

DEFAULT = "default"
_NOT_SETTINGS = (
    "KUBEQ_AGENT_", "KUBEQ_JOB", "KUBEQ_TASK_", "KUBEQ_PARAM_", "KUBEQ_ATTEMPT", "KUBEQ_NODE_", "KUBEQ_PEERS",
    "KUBEQ_CHECKPOINT", "KUBEQ_PACKAGE", "KUBEQ_HOOK",
)  # fmt: skip
"""Variables of an agent, a task, a package or a hook: kubeq may well be used inside one."""
_GLOBAL_OPTIONS = ("KUBEQ_CONFIG", "KUBEQ_PROFILE")


@dataclass(frozen=True, slots=True)
class _Given:
    """What somebody wrote for a key: its items (one, unless the key takes many), where, and relative to what."""

    items: tuple[str, ...]
    origin: str
    place: Place
    in_file: bool = False


def load_config(
    *,
    file: Path | None,
    profile: str | None,
    overrides: Sequence[str],
    environ: Mapping[str, str],
    cwd: Path,
    home: Path,
) -> Config:
    """The configuration of one run. Raises UsageError naming where the wrong thing stands.

    `file` None searches; `overrides` are `KEY=VALUE` texts. `KUBEQ_CONFIG` and `KUBEQ_PROFILE` stand in where `file`
    and `profile` are None.
    """
    here = Place(cwd, home, environ)
    notes: list[str] = []
    named = file if file is not None else Path(environ["KUBEQ_CONFIG"]) if environ.get("KUBEQ_CONFIG") else None
    found = open_file(named, here, notes)
    chosen = profile or environ.get("KUBEQ_PROFILE") or None
    given = _from_environment(here, notes)
    given |= _from_file(found, chosen, here, notes)
    given |= _from_overrides(overrides, here, notes)
    values, origins = _values(given, here)
    check_complete(values, found.path)
    notes.extend(_meaningless(given, values["provider"]))
    return Config(
        **values,
        origins=origins,
        notes=tuple(notes),
        path=found.path,
        profile=chosen,
        profiles=found.profiles,
        place=here,
    )


def with_flags(config: Config, flags: Mapping[str, str | bool | Sequence[str] | None]) -> Config:
    """The configuration with the options of a command over it, by key; None and empty sequences change nothing.

    Raises UsageError that names the option.
    """
    changed: dict[str, Any] = {}
    origins = dict(config.origins)
    for name, flag in flags.items():
        if flag is None or flag == () or flag == []:
            continue
        option = "--" + name.replace("_", "-")
        each = KEYS[name]
        items = (
            ("yes" if flag else "no",) if isinstance(flag, bool) else (flag,) if isinstance(flag, str) else tuple(flag)
        )
        items = tuple(item for text in items for item in each.items(text)) if each.commas else items
        changed[each.attribute] = _parse(each, _Given(items, option, config.place))
        origins[name] = option
    known = {each.attribute: getattr(config, each.attribute) for each in KEYS.values()} | changed
    for each in KEYS.values():
        if origins[each.name] == DEFAULT and isinstance(each.default, Derived):
            changed[each.attribute] = known[each.attribute] = _default(each, config.place, known)[0]
    return dataclasses.replace(config, **changed, origins=origins)


def _from_environment(here: Place, notes: list[str]) -> dict[str, _Given]:
    variables = {each.variable: each for each in KEYS.values() if each.in_environment}
    given = {}
    for variable, text in here.environ.items():
        if not variable.startswith(VARIABLE_PREFIX) or not text:
            continue
        if variable in variables:
            each = variables[variable]
            given[each.name] = _Given(each.items(text), variable, here)
        elif not variable.startswith(_NOT_SETTINGS) and variable not in _GLOBAL_OPTIONS:
            notes.extend(_unread(variable, variables))
    return given


def _unread(variable: str, variables: Mapping[str, Key]) -> Iterator[str]:
    """The note about a variable that nobody reads, if it seems to be meant for kubeq."""
    name = variable.removeprefix(VARIABLE_PREFIX).lower()
    if name in KEYS:
        yield f"the variable {variable} is not read: {name!r} is an option only, --{name.replace('_', '-')}"
    elif near := _nearest(variable, variables):
        yield f"the variable {variable} is not known; did you mean {near}?"


def _from_file(file: ConfigFile, profile: str | None, here: Place, notes: list[str]) -> dict[str, _Given]:
    if file.path is None:
        if profile is not None:
            raise NotFound(
                f"there is no profile {profile!r}: no configuration file was found", hint="name one: --config"
            )
        return {}
    place = dataclasses.replace(here, base=file.path.parent)
    _check_names(file)
    given: dict[str, _Given] = {}
    unused: list[str] = []
    titles = [f"profile {name}" for name in file.chain(profile)] if profile is not None else []
    for title in ("config", *titles):
        section = file.sections.get(title)
        if section is None:
            continue
        given |= _disks(file.path, section, place)
        for name, entry in section.entries.items():
            if name == "inherit" or is_volume(name):
                continue
            origin = f"{file.path}:{entry.line}"
            today = _today(name, entry.text, origin, notes)
            if today is None:
                unused.append(f"{name} (line {entry.line})")
                continue
            given[today[0]] = _Given(KEYS[today[0]].items(today[1]), origin, place, True)
    if unused:
        notes.append(f"{file.path}: these keys of kubeque have no meaning here: {listing(unused)}")
    return given


def _today(name: str, text: str, origin: str, notes: list[str]) -> tuple[str, str] | None:
    """The key and the text as they are written today, with a note where that differs; None without any meaning."""
    if name in KEYS:
        return name, text
    found = renamed(name, text)
    if found is None:
        return None
    if name != "zone":
        notes.append(f"{origin}: the key {name!r} is now called {found.name!r}")
    return found.name, found.text


def _disks(path: Path, section: Section, place: Place) -> dict[str, _Given]:
    """What the keys of kubeque say about further disks."""
    entries = {name: entry for name, entry in section.entries.items() if is_volume(name)}
    text = volumes_of({name: entry.text for name, entry in entries.items()})
    if text is None:
        return {}
    first = min(entry.line for entry in entries.values())
    return {"volumes": _Given(KEYS["volumes"].items(text), f"{path}:{first}", place, True)}


def _from_overrides(overrides: Sequence[str], here: Place, notes: list[str]) -> dict[str, _Given]:
    given = {}
    for text in overrides:
        name, equals, value = text.partition("=")
        name = name.strip().lower().replace("-", "_")
        if not equals or not name:
            raise UsageError(f"-o {text!r} sets nothing", hint="write -o KEY=VALUE")
        today = _today(name, value.strip(), f"-o {name}", notes) if name in KEYS or is_old(name) else None
        if today is not None:
            given[today[0]] = _Given(KEYS[today[0]].items(today[1]), f"-o {name}", here)
        elif is_old(name):
            notes.append(f"-o {name}: this key of kubeque has no meaning here")
        else:
            raise UsageError(f"-o {text!r}: there is no key {name!r}", hint=_hint(name))
    return given


def _meaningless(given: Mapping[str, _Given], provider: str) -> Iterator[str]:
    """The note about keys of machines, where no machines are made."""
    names = [f"{name} ({each.origin})" for name, each in given.items() if name in MACHINE_KEYS]
    if names and provider not in BESIDE_STORES.values():
        yield f"these keys have no meaning with the {provider} provider: {listing(names)}"


def _check_names(file: ConfigFile) -> None:
    """Raises UsageError with all unknown keys of the file, whatever profile is used."""
    unknown = [
        (name, f"{name!r} (line {entry.line})")
        for section in file.sections.values()
        for name, entry in section.entries.items()
        if name not in KEYS and not is_old(name) and not (name == "inherit" and section.name != "config")
    ]
    if unknown:
        raise UsageError(
            f"{file.path} has an unknown key: {listing([shown for _, shown in unknown])}", hint=_hint(unknown[0][0])
        )


def _values(given: Mapping[str, _Given], here: Place) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for each in KEYS.values():
        if each.name in given:
            values[each.attribute] = _parse(each, given[each.name])
            origins[each.name] = given[each.name].origin
        else:
            values[each.attribute], origins[each.name] = _default(each, here, values)
    return values, origins


def _default(each: Key, place: Place, known: Mapping[str, Any]) -> tuple[Any, str]:
    """The value of a key that nobody has set, and its origin."""
    text = each.default.of(place, known) if isinstance(each.default, Derived) else each.default
    if isinstance(text, Found):
        return _parse(each, _Given((text.text,), text.origin, place, True)), text.origin
    if text is None:
        return (() if each.many else None), DEFAULT
    return each.parse(text, place), DEFAULT


def _parse(each: Key, given: _Given) -> Any:
    try:
        parsed = tuple(each.parse(item, given.place) for item in given.items)
    except UsageError as error:
        called = f"{given.origin}, {each.name}" if given.in_file else given.origin
        raise UsageError(f"{called}: {error.message}", hint=error.hint) from error
    return parsed if each.many else parsed[0]


def _hint(name: str) -> str:
    near = _nearest(name, (*KEYS, *RENAMED, *WITHOUT_MEANING))
    return f"did you mean {near!r}?" if near else "`kubeq config` lists the keys"


def _nearest(name: str, names: Iterable[str]) -> str | None:
    import difflib

    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.75)
    return near[0] if near else None
