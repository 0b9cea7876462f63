"""The notice that a cloud is about to take a spot machine back, as its metadata service gives it.

EC2 answers 404 until there is one ("Spot Instance interruption notices": two minutes before); Google answers FALSE, and
TRUE half a minute before ("Preemptible VM instances"). No credential passes here, only EC2's session of the service.
"""

from __future__ import annotations

import http.client
import logging
import threading
from collections.abc import Callable
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import ProxyHandler, Request, build_opener

log = logging.getLogger(__name__)
LOOK_S = 2.0
"""Of Google's half minute a command is to have ten seconds, and what it leaves is then to be stored."""
TIMEOUT_S = 2.0
_GOOGLE = "/computeMetadata/"
_SESSION_S = 21600
"""The longest session that EC2's service gives."""


class Notice:
    """Whether the notice is given. `url` is where; whoever watches looks every `look_s` seconds."""

    def __init__(self, url: str, *, look_s: float = LOOK_S) -> None:
        self._url = url
        self._look_s = look_s
        self._session: str | None = None
        self._opener = build_opener(ProxyHandler({}))

    def is_given(self) -> bool:
        """Whether the machine is being taken back, as far as the service says so now."""
        try:
            answer = self._ask(self._headers())
        except HTTPError as error:
            if error.code == http.client.UNAUTHORIZED:
                self._session = None
            return False
        except (OSError, http.client.HTTPException) as error:
            log.debug("the metadata service says nothing: %s", error)
            return False
        return answer.strip() == "TRUE" if _GOOGLE in self._url else bool(answer.strip())

    def watch(self, given: Callable[[], None], stop: threading.Event) -> None:
        """Call `given` once when there is a notice; look until then, or until `stop`."""
        while not stop.wait(self._look_s):
            if self.is_given():
                log.warning("the cloud takes this machine back")
                given()
                return

    def _headers(self) -> dict[str, str]:
        if _GOOGLE in self._url:
            return {"Metadata-Flavor": "Google"}
        if self._session is None:
            asked = Request(
                urljoin(self._url, "/latest/api/token"),
                method="PUT",
                headers={"X-aws-ec2-metadata-token-ttl-seconds": str(_SESSION_S)},
            )
            self._session = self._read(asked)
        return {"X-aws-ec2-metadata-token": self._session}

    def _ask(self, headers: dict[str, str]) -> str:
        return self._read(Request(self._url, headers=headers))

    def _read(self, request: Request) -> str:
        with self._opener.open(request, timeout=TIMEOUT_S) as answer:
            return str(answer.read(4096).decode(errors="replace"))
