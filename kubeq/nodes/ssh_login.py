"""How to log in to a host: what was written of it, and what ~/.ssh/config says. Nothing is connected here.

Of ~/.ssh/config are used: HostName, Port, User, IdentityFile, IdentitiesOnly, ProxyJump, ProxyCommand,
UserKnownHostsFile, GlobalKnownHostsFile, ConnectTimeout, and StrictHostKeyChecking as far as `accept-new` goes.
`StrictHostKeyChecking no` is not obeyed: a host whose key nobody knows could be anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kubeq.errors import UsageError
from kubeq.nodes.hosts import Host, key_problem, parse_address

CONNECT_S = 5.0
"""How long a connection may take to come up, when ~/.ssh/config does not say (ConnectTimeout): time for three tries."""
MOST_JUMPS = 8
_GLOBAL_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"


@dataclass(frozen=True, slots=True, kw_only=True)
class SshSettings:
    """What the configuration says of all hosts. `known_hosts` None: where OpenSSH keeps them."""

    home: Path
    caller: str
    user: str | None = None
    identity: Path | None = None
    known_hosts: Path | None = None
    accept_new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Everything that a connection needs. `keys`: tried first; `keys_only`: and neither an ssh-agent nor others after.

    `known_hosts` are files that may be missing; a new key is written to the first. `jumps`: through which hosts, the
    nearest first. `proxy`: a command whose stdin and stdout are the connection. `timeout_s` is for the connection;
    each step of logging in may take `patience_s`.
    """

    address: str
    port: int
    user: str
    keys: tuple[Path, ...]
    keys_only: bool
    known_hosts: tuple[Path, ...]
    accept_new: bool
    timeout_s: float
    jumps: tuple[Login, ...] = ()
    proxy: str | None = None

    @property
    def patience_s(self) -> float:
        """A host that is busy takes connections at once and the rest slowly."""
        return 3 * self.timeout_s

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.user}@{address}" + ("" if self.port == 22 else f":{self.port}")


def resolve_login(host: Host, settings: SshSettings) -> Login:
    """The login of a host. Raises UsageError for a key that is not there or a ~/.ssh/config that cannot be used."""
    return _resolve(host, settings, depth=0)


def _resolve(host: Host, settings: SshSettings, depth: int) -> Login:
    said = _config_of(host, settings)
    user = host.user or settings.user or said.get("user") or settings.caller
    given = host.key or settings.identity
    if given is not None and (problem := key_problem(given)) is not None:
        raise UsageError(f"the key {str(given)!r} {problem}", hint="name the private key, not the .pub file")
    keys = (given,) if given else tuple(Path(key).expanduser() for key in _many(said, "identityfile"))
    known = (settings.known_hosts,) if settings.known_hosts else _known_hosts(said, settings.home)
    jumps = _jumps(said.get("proxyjump", "none"), settings, depth)
    command = said.get("proxycommand", "none")
    return Login(
        address=said.get("hostname", host.address),
        port=host.port or int(said.get("port", 22)),
        user=user,
        keys=keys,
        keys_only=given is not None or said.get("identitiesonly", "no").lower() == "yes",
        known_hosts=known,
        accept_new=settings.accept_new or said.get("stricthostkeychecking", "").lower() == "accept-new",
        timeout_s=float(said.get("connecttimeout", CONNECT_S)),
        jumps=jumps,
        proxy=None if jumps or command.lower() == "none" else command,
    )


def _config_of(host: Host, settings: SshSettings) -> Mapping[str, str]:
    from paramiko import ConfigParseError, SSHConfig

    path = settings.home / ".ssh" / "config"
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            config = SSHConfig()
            config.parse(file)
        said = dict(config.lookup(host.address))
        for number in ("port", "connecttimeout"):
            float(said.get(number, 0))
        return said
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ConfigParseError, ValueError) as error:
        raise UsageError(f"{path} cannot be understood: {error}") from error


def _many(said: Mapping[str, str], key: str) -> list[str]:
    value: object = said.get(key, [])
    return [str(each) for each in value] if isinstance(value, list) else str(value).split()


def _known_hosts(said: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    own = _many(said, "userknownhostsfile") or [str(home / ".ssh" / name) for name in ("known_hosts", "known_hosts2")]
    everybody = _many(said, "globalknownhostsfile") or [_GLOBAL_KNOWN_HOSTS]
    return tuple(Path(path).expanduser() for path in (*own, *everybody) if path.lower() != "none")


def _jumps(words: str, settings: SshSettings, depth: int) -> tuple[Login, ...]:
    """The logins of `ProxyJump A,B`: each with the jumps that ~/.ssh/config gives it in its turn."""
    if words.lower() == "none":
        return ()
    if depth >= MOST_JUMPS:
        raise UsageError("~/.ssh/config jumps from host to host in a circle", hint="look at its ProxyJump lines")
    logins: list[Login] = []
    for word in words.split(","):
        user, address, port = parse_address(word.strip())
        login = _resolve(Host(name=address, address=address, user=user, port=port), settings, depth + 1)
        logins += [*login.jumps, login] if not logins else [login]
    return tuple(logins)
