"""A configuration as a file that loads to the same: what was named anywhere, and where queue and stores are."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from kubeq.config.keys import KEYS, Config, settings
from kubeq.errors import BackendError, Conflict

BACKPLANE = ("default_url_prefix", "queue_url")
"""Written whatever they come from: later defaults must not move jobs that are there."""
_OF_THIS_RUN = ("output", "color")


def config_text(config: Config) -> str:
    """The text of the file; without the values of variables, which belong to nobody else."""
    lines = ["# Written by kubeq setup.", "[config]"]
    for each in settings(config):
        named = config.origins[each.name] != "default" or each.name in BACKPLANE
        if named and each.value and each.name not in _OF_THIS_RUN and not KEYS[each.name].secret:
            value = each.value.replace("\n", "\n  ")
            lines.append(f"{each.name} ={'' if KEYS[each.name].many else ' '}{_indented(each.name, value)}")
    return "\n".join(lines) + "\n"


def write_config(config: Config, path: Path) -> bool:
    """The file at `path`; False if it says the same already. Raises Conflict if it says something else."""
    text = config_text(config)
    try:
        standing = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        _write(path, text)
        return True
    except OSError as error:
        raise BackendError(f"{path} cannot be read: {error.strerror}", hint="name another file") from error
    if standing == text:
        return False
    raise Conflict(f"{path} was not written: it exists and says something else", hint="name another file, or move it")


def _write(path: Path, text: str) -> None:
    """All of it or nothing, readable for its owner only."""
    try:
        with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".kubeq-", delete=False) as file:
            temporary = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        finally:
            temporary.unlink()
    except OSError as error:
        raise BackendError(f"{path} cannot be written: {error.strerror}", hint="name another file") from error


def _indented(name: str, value: str) -> str:
    """The value of a key; one that takes many begins on a line of its own."""
    return f"\n  {value}" if KEYS[name].many else value
