"""Ports of this machine's loopback, under the same numbers on the loopback of containers, through sockets in a folder.

So a stand-in that listens on 127.0.0.1 alone is where its URL says for machines that are containers too.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

INSIDE = '''\
"""Listens on the loopback for each socket in the folder named first, and passes connections on to it."""

import pathlib, socket, sys, threading


def pump(source, target):
    try:
        while chunk := source.recv(65536):
            target.sendall(chunk)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(path):
    listening = socket.create_server(("127.0.0.1", int(path.stem)), backlog=256)
    while True:
        near, _ = listening.accept()
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(str(path))
        except OSError:
            near.close()
            continue
        for pair in ((near, far), (far, near)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


for found in pathlib.Path(sys.argv[1]).glob("*.socket"):
    threading.Thread(target=serve, args=[found]).start()
'''
"""The other half, a program for Python without anything else."""


@contextmanager
def forwarded(ports: Sequence[int]) -> Iterator[Path]:
    """A folder with a socket for each of the ports, for a block; the path is short, as such a socket's has to be."""
    with TemporaryDirectory(prefix="kubeq-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        listening = [_listen(folder / f"{port}.socket") for port in ports]
        for server, port in zip(listening, ports, strict=True):
            threading.Thread(target=_serve, args=[server, port], daemon=True).start()
        try:
            yield folder
        finally:
            for server in listening:
                with suppress(OSError):
                    server.shutdown(socket.SHUT_RDWR)
                server.close()


def _listen(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    path.chmod(0o666)
    server.listen(256)
    return server


def _serve(server: socket.socket, port: int) -> None:
    with suppress(OSError):  # it is closed
        while True:
            near, _ = server.accept()
            try:
                far = socket.create_connection(("127.0.0.1", port))
            except OSError:
                near.close()
                continue
            for pair in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=pair, daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
