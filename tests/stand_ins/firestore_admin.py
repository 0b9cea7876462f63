"""The three requests of Google's Firestore Admin API that `kubeq setup` makes, over HTTP. For tests only.

It asks nobody who they are. A database that is being made shows only when its operation has been asked about twice.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

LOOKS = 2


class FirestoreAdmin:
    """The databases of every project."""

    def __init__(self) -> None:
        self.databases: dict[str, dict[str, Any]] = {}
        """By `projects/P/databases/D`; as Google describes them."""
        self.requests: list[str] = []
        self.fails: list[tuple[int, str, str]] = []
        """Answers to give instead: HTTP code, Google's name for it, message."""
        self.refusal: str | None = None
        """What the making of a database comes to, if it is to come to nothing."""
        self._making: dict[str, tuple[int, str, dict[str, Any]]] = {}

    def answer(self, verb: str, path: str, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        """HTTP code and JSON."""
        self.requests.append(f"{verb} {path}")
        if self.fails:
            return _error(*self.fails.pop(0))
        if made := re.fullmatch(r"(projects/[^/]+/databases)\?databaseId=(.+)", path):
            return self._create(f"{made[1]}/{unquote(made[2])}", body)
        if path in self._making:
            return 200, self._operation(path)
        if path in self.databases:
            return 200, self.databases[path]
        return _error(404, "NOT_FOUND", f"{path} was not found")

    def _create(self, name: str, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        if name in self.databases:
            return _error(409, "ALREADY_EXISTS", "Database already exists")
        operation = f"{name}/operations/{len(self.requests)}"
        self._making[operation] = (LOOKS, name, {"name": name, **body})
        return 200, {"name": operation}

    def _operation(self, path: str) -> Mapping[str, Any]:
        looks, name, database = self._making[path]
        if looks > 1:
            self._making[path] = (looks - 1, name, database)
            return {"name": path}
        if self.refusal is not None:
            return {"name": path, "done": True, "error": {"code": 3, "message": self.refusal}}
        self.databases[name] = database
        return {"name": path, "done": True, "response": database}


@contextmanager
def firestore_admin() -> Iterator[tuple[FirestoreAdmin, str]]:
    """A service with no databases, and its URL."""
    admin = FirestoreAdmin()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._respond({})

        def do_POST(self) -> None:
            self._respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing: what was asked is in `requests`."""

        def _respond(self, body: Mapping[str, Any]) -> None:
            code, answer = admin.answer(self.command, unquote(self.path.removeprefix("/v1/")), body)
            text = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield admin, f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def _error(code: int, status: str, message: str) -> tuple[int, Mapping[str, Any]]:
    return code, {"error": {"code": code, "status": status, "message": message}}
