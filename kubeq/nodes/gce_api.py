"""How Google's Compute Engine is asked: with its client, again while that fails for a moment, its errors made ours.

What is asked for is in `gce_catalogue` and `gce_instances`. Long-running operations are read by their names: the
waiting that is built into Google's client speaks to Google itself whatever endpoint the client was given.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import environ
from typing import Any, TypeVar

from kubeq.errors import BackendError, UsageError
from kubeq.extras import extra
from kubeq.gcp import find_account, google_errors
from kubeq.pausing import Notice, pauses

with extra("gcp"):
    from google.api_core import exceptions as api
    from google.auth.credentials import AnonymousCredentials, Credentials

T = TypeVar("T")
EMULATOR = "COMPUTE_EMULATOR_HOST"
"""The URL of a stand-in, named as Google names those of its other services; it is asked without credentials."""
GOOGLE = "https://compute.googleapis.com"
PARALLEL = 8
"""Requests at the same time: a session of Google's client keeps ten connections."""
TIMEOUT_S = 30.0
"""For one answer; the service takes some 0.1 to 2 s."""
PATIENCE_S = 90.0
"""How long one request is repeated. Google counts the quota for requests by the minute:
https://cloud.google.com/compute/api-quota (May 2026)."""
ONCE: Mapping[str, Any] = {"retry": None, "timeout": TIMEOUT_S}
"""Google's client repeats nothing of itself here."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 20.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a request is repeated, and the clock by which that is counted."""

    total_s: float = PATIENCE_S
    sleep: Callable[[float], object] = time.sleep
    now: Callable[[], float] = time.monotonic
    draw: Callable[[], float] = random.random


class Compute:
    """Requests to one project. Safe to use from several threads; nothing is connected before the first."""

    def __init__(self, project: str | None = None, patience: Patience | None = None) -> None:
        self.patience = patience or Patience()
        self._given = project
        self._notice = Notice(log)
        self._lock = threading.RLock()
        self._known: tuple[Credentials, str] | None = None
        self._clients: dict[type[Any], Any] = {}

    @property
    def endpoint(self) -> str:
        """Where the service is to be found."""
        return environ.get(EMULATOR, GOOGLE).rstrip("/")

    @property
    def project(self) -> str:
        """The project that was named, else that of the credentials. Raises UsageError if there is none."""
        return self._account()[1]

    @property
    def credentials(self) -> Credentials:
        """As whom it is asked."""
        return self._account()[0]

    def client(self, kind: type[T]) -> T:
        """Google's client of that kind."""
        with self._lock:
            if kind not in self._clients:
                options = {"api_endpoint": self.endpoint}
                self._clients[kind] = kind(credentials=self.credentials, client_options=options)  # type: ignore[call-arg]
            made: T = self._clients[kind]
            return made

    def ask(self, doing: str, call: Callable[[], T], missing: str = "the project") -> T:
        """The answer of a call, which is made again while it fails for a moment. Raises BackendError."""
        waits = pauses(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, self.patience.draw)
        until = self.patience.now() + self.patience.total_s
        while True:
            try:
                with google_errors(doing, missing=missing):
                    return call()
            except BackendError as error:
                if not error.transient or self.patience.now() >= until:
                    raise
                self._notice.tell(error)
            self.patience.sleep(next(waits))

    def lookup(self, doing: str, call: Callable[[], T]) -> T | None:
        """The same; None for what Google does not find."""

        def found() -> T | None:
            try:
                return call()
            except api.NotFound:
                return None

        return self.ask(doing, found)

    def _account(self) -> tuple[Credentials, str]:
        with self._lock:
            if self._known is None:
                account = find_account(EMULATOR)
                project = self._given or account.project
                if not project:
                    raise UsageError(
                        "it is not known in which project of Google Cloud machines are to be made",
                        hint="set GOOGLE_CLOUD_PROJECT, or run: gcloud config set project PROJECT",
                    )
                self._known = account.credentials or AnonymousCredentials(), project  # type: ignore[no-untyped-call]
            return self._known


def together(calls: Sequence[Callable[[], T]]) -> list[T]:
    """The answers of calls that are made side by side, in order."""
    if not calls:
        return []
    with ThreadPoolExecutor(min(len(calls), PARALLEL), thread_name_prefix="gce") as threads:
        return list(threads.map(lambda call: call(), calls))


def last(url: str) -> str:
    """The name at the end of one of Google's URLs."""
    return url.rpartition("/")[2]


def reason_of(error: api.GoogleAPICallError) -> str:
    """Google's one word for why."""
    entries = [entry for entry in error.errors if isinstance(entry, Mapping)]
    return str(error.reason or next((entry.get("reason") for entry in entries), ""))


def words_of(error: api.GoogleAPICallError) -> str:
    """Google's own sentence, without the URL that its library puts before it."""
    told = [str(entry["message"]) for entry in error.errors if isinstance(entry, Mapping) and entry.get("message")]
    return told[0] if told else str(error.message)
