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
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import paramiko

from kubeq.core.digest import Digest
from kubeq.errors import AccessDenied, BackendError, IntegrityError
from kubeq.nodes.ssh_errors import broken, explained
from kubeq.nodes.ssh_login import Login

KEEPALIVE_S = 15
"""So often something is sent over a connection that is idle: firewalls forget those that are silent for minutes."""
PROBE_S = 10.0
"""How long the other end of a standing connection may take to answer anything at all."""
ANSWER_S = 60.0
"""How long a script of ours may say nothing."""
_ENDING_S = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Pauses in which sshd ends a session that we have closed."""
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
        self._turn = threading.Lock()

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

    def answers(self, patience_s: float = PROBE_S) -> bool:
        """Whether the host answers over this connection now; if not, it is ended."""
        transport = self._client.get_transport()
        if transport is None or not transport.is_active():
            return False
        ending = threading.Timer(patience_s, self.close)
        ending.daemon = True
        ending.start()
        try:
            transport.global_request("keepalive@openssh.com")  # any request has an answer (RFC 4254, 4), mostly a no
        except (paramiko.SSHException, OSError, EOFError):
            self.close()
        finally:
            ending.cancel()
        return transport.is_active()

    def run(self, script: str, *, timeout_s: float = ANSWER_S) -> Answer:
        """The answer of a script for /bin/sh. Raises BackendError if the connection breaks or nothing comes."""
        mark = secrets.token_hex(8)
        text = f"printf '%s\\n' {mark}\n(\n{script}\n) </dev/null\nprintf '\\n%s %s\\n' {mark} $?\n"
        with broken(self.login), self._channel(timeout_s) as channel:
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
                f"{self.login} could not store {path}: {last_line(stored.err)}", hint="free some space there"
            )
        answer = self.run(
            f'got=$(sha256sum {quoted} | cut -c1-64) && [ "$got" = {digest.sha256} ] && '
            f'mv -f {quoted} {shlex.quote(path)} || {{ echo "$got"; rm -f {quoted}; exit 1; }}'
        )
        if answer.code:
            raise IntegrityError(f"{path} arrived on {self.login} as other bytes than were sent", hint="try again")

    def feed(self, script: str, source: BinaryIO, *, timeout_s: float = ANSWER_S) -> Answer:
        """The answer of a script for /bin/sh whose stdin is `source`, to its end. Raises BackendError as `run` does."""
        with broken(self.login), self._channel(timeout_s) as channel:
            channel.exec_command(f"/bin/sh -c {shlex.quote(script)}")
            self._send(channel, source)
            out, err = _read(channel)
            return Answer(channel.recv_exit_status(), out, err)

    def _send(self, channel: paramiko.Channel, source: BinaryIO) -> None:
        """All of the source; less where the script ends before it has read all, and says why."""
        try:
            while chunk := source.read(CHUNK):
                channel.sendall(chunk)
            channel.shutdown_write()
        except TimeoutError:
            raise
        except OSError:
            if not channel.closed or not self.transport.is_active():
                raise

    def close(self) -> None:
        """End the connection and those that it goes through."""
        for client in (self._client, *reversed(self._jumps)):
            with suppress(paramiko.SSHException, OSError, EOFError):
                client.close()

    @contextmanager
    def _channel(self, timeout_s: float) -> Iterator[paramiko.Channel]:
        """A session of its own; one at a time, since sshd may allow no more (MaxSessions)."""
        with self._turn:
            channel = self._session()
            try:
                channel.settimeout(timeout_s)
                yield channel
            finally:
                channel.close()

    def _session(self) -> paramiko.Channel:
        """A new session. Where only one is allowed, the one before may not have ended yet over there."""
        for pause in _ENDING_S:
            try:
                return self.transport.open_session(timeout=self.login.patience_s)
            except paramiko.ChannelException:
                time.sleep(pause)
        return self.transport.open_session(timeout=self.login.patience_s)


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
            banner_timeout=login.patience_s,
            auth_timeout=login.patience_s,
            allow_agent=not login.keys_only,
            look_for_keys=not login.keys_only,
            sock=_path_to(login, through),
        )
    except (paramiko.SSHException, OSError, EOFError, ValueError) as error:
        client.close()
        raise explained(error, login) from error
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
                hint=f"if it is right: ssh ssh://{self._login} once, or set ssh_host_keys = accept-new",
            )
        path = self._login.known_hosts[0]
        with self._writing:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(f"{hostname} {key.get_name()} {key.get_base64()}\n")


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


def last_line(text: str) -> str:
    """The last line that a script printed, for a message."""
    return text.strip().rpartition("\n")[2] or "it said nothing"
