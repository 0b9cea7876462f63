"""Lists of hosts that are the user's own: on the command line, in the configuration, in a file. Nothing is connected.

A word is `[user@]host[:port]`, with brackets around an IPv6 address; words are separated by commas or spaces. A word
that names a file, or ends as files do, stands for its lines: a word each, then settings, then perhaps a comment:

    ada@10.0.0.7:2222  name=gpu1 key=~/.ssh/lab slots=4 label=rack=b   # NAME is what `kubeq nodes` shows
    worker2            resources=cpu=8,memory=32G

What is left out comes from ~/.ssh/config, which is read when a host is connected.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kubeq.core.resources import Resources, parse_resources
from kubeq.errors import UsageError

MOST_HOSTS = 1000
"""More lines than this are not a list of hosts."""
LARGEST_FILE = 2**20
HINT = "write [user@]host[:port], separated by commas; or a file with one a line"
FILE_ENDINGS = (
    ".txt", ".csv", ".tsv", ".list", ".lst", ".hosts", ".yaml", ".yml", ".json", ".toml", ".ini", ".cfg", ".conf",
)  # fmt: skip
"""How lists of hosts are called, and no host: none is a top-level domain (IANA's root zone)."""
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\\-]{0,63}\$?", re.ASCII)
_ADDRESS = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9_.-]{1,63}", re.ASCII)
_SETTINGS = ("name", "address", "user", "port", "key", "slots", "resources", "label")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host as it was written; None where ~/.ssh/config or a default decides.

    `name` is what the user calls it: the `Host` that ~/.ssh/config is asked for is `address`. `resources` is the most
    that its agent may give to attempts. `written` says where it stands, for messages.
    """

    name: str
    address: str
    user: str | None = None
    port: int | None = None
    key: Path | None = None
    resources: Resources | None = None
    labels: tuple[tuple[str, str], ...] = ()
    written: str = field(default="", compare=False)

    @property
    def line(self) -> str:
        """The host as a line of a file that says all of it."""
        settings = [f"name={self.name}"]
        settings += [f"key={self.key}"] if self.key else []
        settings += [f"resources={self.resources}".replace(" ", "")] if self.resources else []
        settings += [f"label={name}={value}" for name, value in self.labels]
        return " ".join([str(self), *settings])

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        port = "" if self.port is None else f":{self.port}"
        return f"{self.user}@{address}{port}" if self.user else f"{address}{port}"


def read_hosts(texts: Sequence[str], base: Path, home: Path) -> tuple[Host, ...]:
    """The hosts of a list, in order. Raises UsageError with every mistake that there is.

    Relative files start from `base`; `~` is `home`.
    """
    found: list[Host] = []
    wrong: list[str] = []
    for text in texts:
        for word in filter(None, re.split(r"[\s,]+", text)):
            path = base / _expanded(word, home)
            means_file = "/" in word or word.lower().endswith(FILE_ENDINGS) or path.is_file()
            lines = _lines(path) if means_file else iter([(word, "")])
            for line, written in lines:
                try:
                    found.append(replace(_host(line, home), written=written))
                except UsageError as error:
                    wrong.append(f"{written}: {error.message}" if written else error.message)
    wrong += _repeated(found)
    if wrong:
        raise UsageError("the list of hosts is wrong: " + "; ".join(wrong), hint=HINT)
    if not found:
        raise UsageError("the list of hosts is empty", hint=HINT)
    if len(found) > MOST_HOSTS:
        raise UsageError(f"the list has {len(found):,} hosts; {MOST_HOSTS:,} is the most")
    return tuple(found)


def hosts_of(lines: Sequence[str]) -> tuple[Host, ...]:
    """The hosts that those lines of `Host.line` stand for."""
    return tuple(_host(line, Path("/")) for line in lines)


def check_keys(hosts: Iterable[Host], usual: Path | None) -> None:
    """Raises UsageError naming every private key, a host's own or the `usual` one, that is not there to be read."""
    keys = dict.fromkeys(host.key or usual for host in hosts)
    wrong = [f"{str(key)!r} {why}" for key in keys if key is not None and (why := key_problem(key)) is not None]
    if wrong:
        raise UsageError(
            f"the key {'; the key '.join(wrong)}",
            hint="name the private key: --ssh-identity FILE, or key=FILE in the host's line",
        )


def key_problem(key: Path) -> str | None:
    """Why that file is no private key to log in with, as far as it can be seen without reading it."""
    if not key.is_file():
        return "is no file" if key.exists() else "does not exist"
    return None if os.access(key, os.R_OK) else "may not be read by you"


def with_further(lines: Sequence[str], further: Sequence[Host]) -> tuple[str, ...]:
    """Those lines, and after them those of the hosts that are not among them. Raises UsageError for a host that is
    there with other settings, or whose name another one has.
    """
    new = [host for host in further if host.line not in lines]
    wrong = _repeated([*hosts_of(lines), *new])
    if wrong:
        raise UsageError(
            f"these hosts cannot be added: {'; '.join(wrong)}", hint="kubeq nodes shows the hosts; name others"
        )
    return (*lines, *(host.line for host in new))


def parse_address(word: str) -> tuple[str | None, str, int | None]:
    """User, address and port of `[user@]host[:port]`. Raises UsageError."""
    user, at, rest = word.rpartition("@")
    if at and not _USER.fullmatch(user):
        raise UsageError(f"{word!r} has no usable user name before its '@'")
    if rest.startswith("["):
        address, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise UsageError(f"{word!r} has an address in brackets that does not end well")
        port = tail[1:] if tail else None
        _check_ip(address, word)
    elif rest.count(":") > 1:
        address, port = rest, None
        _check_ip(address, word)
    else:
        address, colon, number = rest.partition(":")
        port = number if colon else None
        if not _ADDRESS.fullmatch(address):
            raise UsageError(f"{word!r} is not the name or the address of a host")
    return user if at else None, address, None if port is None else _port(port, word)


def _host(line: str, home: Path) -> Host:
    """The host of one line of a file; of a word, if that is all there is."""
    word, *settings = line.split()
    user, address, port = parse_address(word)
    host = Host(name=address, address=address, user=user, port=port)
    seen: set[str] = set()
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.lower()
        if key not in _SETTINGS:
            raise UsageError(f"{setting!r} is no setting of a host; the settings are {', '.join(_SETTINGS)}")
        if not equals or not value:
            raise UsageError(f"the setting {key!r} has no value; write {key}=VALUE without spaces")
        if key in seen and key != "label":
            raise UsageError(f"the setting {key!r} is given twice")
        seen.add(key)
        host = _with(host, key, value, home)
    if {"slots", "resources"} <= seen:
        raise UsageError("the settings 'slots' and 'resources' say the same; keep one")
    if "name" not in seen and "address" in seen:
        host = replace(host, name=address)
    return host


def _with(host: Host, key: str, value: str, home: Path) -> Host:
    match key:
        case "name":
            if not _NAME.fullmatch(value):
                raise UsageError(f"{value!r} is no name for a host: letters, digits, '.', '_' and '-', 63 at most")
            return replace(host, name=value)
        case "address":
            return replace(host, address=parse_address(value)[1])
        case "user":
            if not _USER.fullmatch(value):
                raise UsageError(f"{value!r} is no user name")
            return replace(host, user=value)
        case "port":
            return replace(host, port=_port(value, value))
        case "key":
            path = _expanded(value, home)
            if not path.is_absolute():
                raise UsageError(f"the key {value!r} is no absolute path and does not begin with '~/'")
            return replace(host, key=path)
        case "slots":
            if not re.fullmatch(r"[1-9][0-9]{0,3}", value):
                raise UsageError(f"{value!r} is no number of slots from 1 to 9999")
            return replace(host, resources=Resources(cpu=float(value)))
        case "resources":
            return replace(host, resources=parse_resources(value, Resources()))
        case _:
            name, equals, text = value.partition("=")
            if not equals or not _LABEL.fullmatch(name) or not text:
                raise UsageError(f"{value!r} is no label; write label=NAME=VALUE")
            return replace(host, labels=(*host.labels, (name, text)))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file that hold something, each with where it stands. Raises UsageError for one that is no text."""
    try:
        content = path.read_bytes()[: LARGEST_FILE + 1]
    except OSError as error:
        raise UsageError(
            f"the hosts file {str(path)!r} cannot be read: {error.strerror}",
            hint="name a file that is there, or the hosts themselves: [user@]host[:port], separated by commas",
        ) from error
    if len(content) > LARGEST_FILE or b"\0" in content:
        raise UsageError(f"the hosts file {str(path)!r} is not a list of hosts", hint=HINT)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"the hosts file {path.name}:{line} is not valid UTF-8", hint="save it as UTF-8") from error
    for number, row in enumerate(text.splitlines(), 1):
        stripped = re.sub(r"(^|\s)#.*", "", row).strip().rstrip(",")
        if stripped:
            yield stripped, f"{path.name}:{number}"


def _repeated(hosts: Sequence[Host]) -> list[str]:
    """What is wrong with hosts that are there twice."""
    wrong = []
    first: dict[object, Host] = {}
    for host in hosts:
        for what, sign in (("name", host.name), ("host", (host.user, host.address.lower(), host.port or 22))):
            other = first.setdefault((what, sign), host)
            if other is not host and (what == "host" or other.address != host.address):
                where = f"{host.written}: " if host.written else ""
                there = f" ({other.written})" if other.written else ""
                wrong.append(f"{where}the {what} {host if what == 'host' else host.name} is there already{there}")
                break
    return wrong


def _expanded(word: str, home: Path) -> Path:
    return home / word[2:] if word.startswith("~/") else Path(word)


def _check_ip(address: str, word: str) -> None:
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        raise UsageError(f"{word!r} holds no IPv6 address that can be read") from None


def _port(text: str, word: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise UsageError(f"the port in {word!r} is not a number from 1 to 65535")
    return int(text)
