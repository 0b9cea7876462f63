"""Finding and opening the configuration file. What is in it is read in `ini` and `load`.

Search order: `.kubeq` in the current directory and in each directory above it; `$XDG_CONFIG_HOME/kubeq/config` (else
`~/.config/kubeq/config`); `~/.kubeq`; then `.kubeque`, kubeque's old name, in the same directories and at home. A
directory of such a name is passed over. A file counts only if you or root own it and nobody else may write it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kubeq.config.values import Place
from kubeq.errors import UsageError

LARGEST_FILE = 2**20
OLD_NAME = ".kubeque"


def find_file(place: Place) -> Path | None:
    """The first file of the search order that exists, from the current directory `place.base`; None without any."""
    return next(filter(_is_there, _candidates(place)), None)


def read_file(path: Path) -> bytes:
    """The bytes of a configuration file. Raises UsageError when it cannot or must not be read."""
    try:
        with path.open("rb") as file:
            _check_owner(path, os.fstat(file.fileno()))
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise UsageError(f"the configuration file {str(path)!r} does not exist", hint="check --config") from None
    except OSError as error:
        raise UsageError(f"the configuration file {str(path)!r} cannot be read: {error.strerror}") from error
    if len(content) > LARGEST_FILE:
        raise UsageError(f"the configuration file {str(path)!r} is larger than {LARGEST_FILE:,} bytes")
    return content


def _candidates(place: Place) -> Iterator[Path]:
    config_home = Path(place.environ.get("XDG_CONFIG_HOME", ""))
    if not config_home.is_absolute():
        config_home = place.home / ".config"
    above = (place.base, *place.base.parents)
    yield from (folder / ".kubeq" for folder in above)
    yield config_home / "kubeq" / "config"
    yield place.home / ".kubeq"
    yield from (folder / OLD_NAME for folder in above)
    yield place.home / OLD_NAME


def _is_there(path: Path) -> bool:
    try:
        return path.exists() and not path.is_dir()
    except OSError:
        return False


def _check_owner(path: Path, status: os.stat_result) -> None:
    """It can name programs and hosts, so nobody else may be able to write it."""
    if status.st_uid not in (os.getuid(), 0):
        raise UsageError(
            f"the configuration file {str(path)!r} belongs to another user (uid {status.st_uid})",
            hint="copy it, or name your own with --config",
        )
    others = bool(status.st_mode & stat.S_IWOTH)
    if others or (status.st_mode & stat.S_IWGRP and not _is_private_group(status)):
        who = "everybody" if others else "its group"
        raise UsageError(f"the configuration file {str(path)!r} can be written by {who}", hint=f"chmod go-w {path}")


def _is_private_group(status: os.stat_result) -> bool:
    """Whether the group has no member but the owner, as where every user has a group of the same name."""
    import grp
    import pwd

    try:
        owner, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    return group.gr_gid == owner.pw_gid and group.gr_name == owner.pw_name and set(group.gr_mem) <= {owner.pw_name}
