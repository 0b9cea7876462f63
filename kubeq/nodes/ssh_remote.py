"""A connection to a host: running scripts there and putting files there. What is run and put is decided elsewhere.

Every script is read by `/bin/sh` from its stdin, so that nothing of it stands in a process list, no login shell
interprets it (csh and fish are as good as any), and what a shell's profile prints is told apart from the answer.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import shlex
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import paramiko

from kubeq.core.digest import Digest
from kubeq.errors import AccessDenied, BackendError, IntegrityError
from kubeq.nodes.ssh_login import Login

KEEPALIVE_S = 15
"""A connection whose other end has vanished is noticed after a few of these."""
ANSWER_S = 60.0
"""How long a script of ours may say nothing."""
CHUNK = 2**18
MOST_OUTPUT = 2**24
"""Bytes of an answer; ours have a few lines."""
logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # it prints stack traces of what it raises as well


@dataclass(frozen=True, slots=True)
class Answer:
    """What a script printed, without what a profile printed before it; and its exit code."""

    code: int
    out: str
    err: str


class Remote:
    """A host that is logged in to. `close` it, or use it as a context."""

    def __init__(self, login: Login, client: paramiko.SSHClient, jumps: list[paramiko.SSHClient]) -> None:
        self.login = login
        self._client = client
        self._jumps = jumps

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def transport(self) -> paramiko.Transport:
        """The connection itself, for tunnels. Raises BackendError if it is gone."""
        transport = self._client.get_transport()
        if transport is None or not transport.is_active():
            raise BackendError(f"the connection to {self.login} is gone", transient=True)
        return transport

    def run(self, script: str, *, timeout_s: float = ANSWER_S) -> Answer:
        """The answer of a script for /bin/sh. Raises BackendError if the connection breaks or nothing comes."""
        mark = secrets.token_hex(8)
        text = f"printf '%s\\n' {mark}\n(\n{script}\n) </dev/null\nprintf '\\n%s %s\\n' {mark} $?\n"
        with _broken(self.login), self._channel(timeout_s) as channel:
            channel.exec_command("exec /bin/sh")
            channel.sendall(text.encode())
            channel.shutdown_write()
            out, err = _read(channel)
        _, begun, rest = out.partition(f"{mark}\n")
        answer, ended, code = rest.rpartition(f"\n{mark} ")
        if not begun or not ended:
            raise BackendError(
                f"{self.login} does not run /bin/sh: {(err or out).strip()[-200:] or 'it answered nothing'}",
                hint=f"see what `ssh {self.login} /bin/sh -c true` says",
            )
        return Answer(int(code), answer, err)

    def put(self, path: str, open: Callable[[], BinaryIO], digest: Digest, *, timeout_s: float = ANSWER_S) -> None:
        """The verified bytes at `path` of the host, whose directory exists, or nothing there. The mode is 0600.

        Raises BackendError with the host's own words, IntegrityError if other bytes arrived.
        """
        temporary = f"{path}.{secrets.token_hex(6)}"
        quoted = shlex.quote(temporary)
        with open() as source:
            stored = self.feed(f"umask 077; exec cat > {quoted}", source, timeout_s=timeout_s)
        if stored.code:
            self.run(f"rm -f {quoted}")
            raise BackendError(
                f"{self.login} could not store {path}: {_last(stored.err)}", hint="free some space there"
            )
        answer = self.run(
            f'got=$(sha256sum {quoted} | cut -c1-64) && [ "$got" = {digest.sha256} ] && '
            f'mv -f {quoted} {shlex.quote(path)} || {{ echo "$got"; rm -f {quoted}; exit 1; }}'
        )
        if answer.code:
            raise IntegrityError(f"{path} arrived on {self.login} as other bytes than were sent", hint="try again")

    def feed(self, script: str, source: BinaryIO, *, timeout_s: float = ANSWER_S) -> Answer:
        """The answer of a script for /bin/sh whose stdin is `source`, to its end. Raises BackendError as `run` does."""
        with _broken(self.login), self._channel(timeout_s) as channel:
            channel.exec_command(f"/bin/sh -c {shlex.quote(script)}")
            while chunk := source.read(CHUNK):
                channel.sendall(chunk)
            channel.shutdown_write()
            out, err = _read(channel)
            return Answer(channel.recv_exit_status(), out, err)

    def close(self) -> None:
        """End the connection and those that it goes through."""
        for client in (self._client, *reversed(self._jumps)):
            with suppress(paramiko.SSHException, OSError, EOFError):
                client.close()

    @contextmanager
    def _channel(self, timeout_s: float) -> Iterator[paramiko.Channel]:
        channel = self.transport.open_session(timeout=self.login.timeout_s)
        try:
            channel.settimeout(timeout_s)
            yield channel
        finally:
            channel.close()


def connect(login: Login) -> Remote:
    """A connection to the host, its key checked. Raises AccessDenied or BackendError with a sentence that names it."""
    clients: list[paramiko.SSHClient] = []
    try:
        for hop in (*login.jumps, login):
            clients.append(_client(hop, clients[-1] if clients else None))
    except BaseException:
        for client in reversed(clients):
            client.close()
        raise
    return Remote(login, clients[-1], clients[:-1])


def _client(login: Login, through: paramiko.SSHClient | None) -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    for path in login.known_hosts:
        with suppress(OSError):
            client.load_system_host_keys(str(path))
    client.set_missing_host_key_policy(_Unknown(login))
    keys: Any = [str(key) for key in login.keys if key.is_file()] or None  # the stubs know of one name only
    try:
        client.connect(
            login.address,
            login.port,
            login.user,
            key_filename=keys,
            timeout=login.timeout_s,
            banner_timeout=login.timeout_s,
            auth_timeout=login.timeout_s,
            allow_agent=not login.keys_only,
            look_for_keys=not login.keys_only,
            sock=_path_to(login, through),
        )
    except (paramiko.SSHException, OSError, EOFError, ValueError) as error:
        client.close()
        raise _explained(error, login) from error
    transport = client.get_transport()
    assert transport is not None
    transport.set_keepalive(KEEPALIVE_S)
    return client


def _path_to(login: Login, through: paramiko.SSHClient | None) -> paramiko.Channel | paramiko.ProxyCommand | None:
    if through is not None:
        transport = through.get_transport()
        assert transport is not None
        return transport.open_channel(
            "direct-tcpip", (login.address, login.port), ("127.0.0.1", 0), timeout=login.timeout_s
        )
    if login.proxy:
        return paramiko.ProxyCommand(login.proxy)
    return None


class _Unknown(paramiko.MissingHostKeyPolicy):
    """What happens with a host whose key is in no known_hosts file: an error, or with `accept_new` a new line."""

    _writing = threading.Lock()

    def __init__(self, login: Login) -> None:
        self._login = login

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        print_ = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
        if not self._login.accept_new:
            raise AccessDenied(
                f"nobody knows the host key of {self._login} ({key.get_name()} SHA256:{print_})",
                hint=f"if it is right: ssh {self._login} once, or set ssh_host_keys = accept-new",
            )
        path = self._login.known_hosts[0]
        with self._writing:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(f"{hostname} {key.get_name()} {key.get_base64()}\n")


def _explained(error: Exception, login: Login) -> BackendError:
    match error:
        case BackendError():
            return error
        case paramiko.BadHostKeyException():
            return AccessDenied(
                f"the host key of {login} has changed: it may be another machine",
                hint=f"if it was set up anew: ssh-keygen -R {_known_as(login)}, then log in to it once",
            )
        case paramiko.PasswordRequiredException():
            return AccessDenied(
                f"the key for {login} is encrypted and no ssh-agent has it", hint="ssh-add its file, then try again"
            )
        case paramiko.AuthenticationException():
            tried = ", ".join(str(key) for key in login.keys) or "those of the ssh-agent and of ~/.ssh"
            return AccessDenied(
                f"{login} accepts none of our keys ({tried})",
                hint=f"name one with --ssh-identity, or make `ssh {login}` work without a password",
            )
        case socket.gaierror():
            return BackendError(f"there is no host {login.address!r}: {error.strerror}", hint="check its name")
        case TimeoutError():
            return BackendError(f"{login} did not answer within {login.timeout_s:g} s", transient=True)
        case paramiko.ssh_exception.NoValidConnectionsError():
            reason = "; ".join(sorted({getattr(each, "strerror", None) or str(each) for each in error.errors.values()}))
            return BackendError(f"{login} cannot be reached: {reason}", transient=True)
        case _:
            return BackendError(f"{login} cannot be logged in to: {error or type(error).__name__}", transient=True)


@contextmanager
def _broken(login: Login) -> Iterator[None]:
    """A connection that breaks, as our error."""
    try:
        yield
    except TimeoutError as error:
        raise BackendError(f"{login} went silent", transient=True) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise BackendError(f"the connection to {login} broke: {reason}", transient=True) from error


def _read(channel: paramiko.Channel) -> tuple[str, str]:
    """All that comes on stdout and stderr, side by side, so that neither can fill up."""
    pieces: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}

    def gather() -> None:
        with suppress(OSError):
            while chunk := channel.recv_stderr(CHUNK):
                pieces["err"] += chunk[: MOST_OUTPUT - len(pieces["err"])]

    thread = threading.Thread(target=gather, daemon=True)
    thread.start()
    while chunk := channel.recv(CHUNK):
        pieces["out"] += chunk[: MOST_OUTPUT - len(pieces["out"])]
    thread.join(timeout=5)
    return pieces["out"].decode(errors="replace"), pieces["err"].decode(errors="replace")


def _known_as(login: Login) -> str:
    return login.address if login.port == 22 else f"'[{login.address}]:{login.port}'"


def _last(text: str) -> str:
    return text.strip().rpartition("\n")[2] or "it said nothing"
