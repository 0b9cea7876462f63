"""Tunnels from real hosts to a server here: that they carry bytes both ways, stay private, and come back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubeq.errors import AccessDenied
from kubeq.nodes.ssh_login import Login
from kubeq.nodes.ssh_remote import connect
from kubeq.nodes.ssh_tunnel import Tunnel, open_port
from tests.stand_ins.ssh_hosts import Host, ssh_hosts

pytestmark = pytest.mark.docker
ASK = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10) as c:
    c.sendall(b"x" * 300000 + sys.argv[2].encode()); c.shutdown(socket.SHUT_WR)
    got = b""
    while chunk := c.recv(65536): got += chunk
print(len(got), got[-3:].decode())
"""


@pytest.fixture(scope="module")
def host(ssh_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with ssh_hosts(tmp_path_factory.mktemp("hosts"), 1, environment={"WITHOUT_DOCKER": "1"}) as (started,):
        yield started


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Callable[[], socket.socket]]:
    """Opens a connection to a server on this machine that sends back what it gets."""
    path = str(tmp_path / "echo.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        threading.Thread(target=_serve, args=(server,), daemon=True).start()

        def target() -> socket.socket:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            return connection

        yield target


def _serve(server: socket.socket) -> None:
    def answer(connection: socket.socket) -> None:
        with connection:
            got = bytearray()
            while chunk := connection.recv(65536):
                got += chunk
            connection.sendall(got)

    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def login(host: Host) -> Login:
    return Login(
        address=host.address,
        port=22,
        user="ada",
        keys=(host.key,),
        keys_only=True,
        known_hosts=(host.known_hosts,),
        accept_new=False,
        timeout_s=5.0,
    )


def eventually(question: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not question():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def ask(host: Host, port: int, tail: str = "end") -> str:
    return host.run("python3", "-c", ASK, str(port), tail, user="ada", check=False).strip()


def port_of(host: Host) -> int:
    read: list[str] = []

    def found() -> bool:  # a busy engine may lose what a command has printed
        read[:] = [host.run("cat", "/home/ada/relay").rpartition(":")[2].strip()]
        return read[0].isdigit()

    eventually(found, "the file names a port")
    return int(read[0])


def ports_of(host: Host) -> set[str]:
    lines = host.run("netstat", "-ltn").splitlines()
    listening = [line.split()[3] for line in lines if line.startswith("tcp")]
    return {address.rpartition(":")[2] for address in listening if "127.0.0.11:" not in address}  # Docker's resolver


def test_bytes_go_both_ways_and_both_ends_are_told_of_the_end(host: Host, echo: Callable[[], socket.socket]) -> None:
    with connect(login(host)) as remote:
        port = open_port(remote, echo)
        assert [ask(host, port, tail) for tail in ("one", "two")] == ["300003 one", "300003 two"]


def test_a_host_that_forwards_nothing_is_said_to_forward_nothing(host: Host, echo: Callable[[], socket.socket]) -> None:
    with (
        host.with_sshd("AllowTcpForwarding no"),
        connect(login(host)) as remote,
        pytest.raises(AccessDenied) as refused,
    ):
        open_port(remote, echo)
    assert "AllowTcpForwarding" in str(refused.value.hint)


def test_a_port_that_other_machines_could_reach_is_refused_and_closed(
    host: Host, echo: Callable[[], socket.socket]
) -> None:
    with host.with_sshd("GatewayPorts yes"), connect(login(host)) as remote:
        with pytest.raises(AccessDenied, match="GatewayPorts"):
            open_port(remote, echo)
        eventually(lambda: ports_of(host) == {"22"}, "the port is closed")


def test_a_tunnel_comes_back_after_its_connection_was_killed(host: Host, echo: Callable[[], socket.socket]) -> None:
    tunnel = Tunnel(login(host), echo, "/home/ada/relay", lambda _: True)
    tunnel.start()
    try:
        eventually(lambda: tunnel.problem is None, "the tunnel opens")
        assert ask(host, port_of(host)) == "300003 end"
        before = port_of(host)
        host.drop_connections()
        eventually(lambda: tunnel.problem is None and port_of(host) != before, "the tunnel comes back")
        assert ask(host, port_of(host)) == "300003 end"
    finally:
        tunnel.end()
        tunnel.wait()


def test_a_tunnel_waits_for_a_host_that_is_not_there_yet(host: Host, echo: Callable[[], socket.socket]) -> None:
    host.end_sshd()
    tunnel = Tunnel(login(host), echo, "/home/ada/relay", lambda _: True)
    tunnel.start()
    try:
        eventually(lambda: tunnel.problem and "refused" in tunnel.problem, "the tunnel says why")
        host.start_sshd()
        eventually(lambda: tunnel.problem is None, "the tunnel opens")
    finally:
        tunnel.end()
        tunnel.wait()
