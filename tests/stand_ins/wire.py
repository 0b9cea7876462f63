"""What the AWS SDK sends, seen in its own hook right before it leaves; and answers that no emulator gives by itself.

Throttling, cut connections, lost answers and expired credentials do not happen to a server on this machine, so they are
put in its place here. Requests are kept, because what an emulator lets pass is to be asserted on the request.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError
from botocore.httpsession import URLLib3Session

Reply = Callable[[AWSPreparedRequest], AWSResponse | None]
"""What is done with a request: an answer made up, an exception raised, or None to let it through."""


class Wire:
    """The line between one client and its service."""

    def __init__(self, client: Any) -> None:
        self.sent: list[tuple[str, AWSPreparedRequest]] = []
        self._replies: dict[str, deque[Reply]] = defaultdict(deque)
        self._rules: dict[str, Reply] = {}
        self._lock = threading.Lock()
        client.meta.events.register(f"before-send.{client.meta.service_model.service_id.hyphenize()}", self._see)

    def next(self, operation: str, *replies: Reply) -> None:
        """The next requests of that operation get these replies, one each."""
        self._replies[operation].extend(replies)

    def always(self, operation: str, reply: Reply) -> None:
        """From now on all requests of that operation that `next` says nothing of get this reply."""
        self._rules[operation] = reply

    def of(self, operation: str) -> list[AWSPreparedRequest]:
        """The requests of that operation so far."""
        return [request for name, request in self.sent if name == operation]

    def counts(self) -> dict[str, int]:
        """How many of each."""
        return dict(Counter(name for name, _ in self.sent))

    def _see(self, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse | None:
        operation = event_name.rpartition(".")[2]
        with self._lock:
            self.sent.append((operation, request))
            replies = self._replies[operation]
            reply = replies.popleft() if replies else self._rules.get(operation, through)
        return reply(request)


def through(request: AWSPreparedRequest) -> None:
    """The service is asked."""


def refuse(status: int, code: str, message: str = "because", **more: str) -> Reply:
    """S3's way to say no: XML, with `more` elements in it. An empty code gives no body at all, as for a HEAD."""
    inner = "".join(f"<{name}>{text}</{name}>" for name, text in {"Code": code, "Message": message, **more}.items())
    return answer(status, f"<Error>{inner}</Error>".encode() if code else b"")


def answer(status: int, body: bytes, headers: dict[str, str] | None = None) -> Reply:
    """Any answer."""
    return lambda request: AWSResponse(request.url, status, headers or {}, _Raw(body))  # type: ignore[arg-type]


def cut(request: AWSPreparedRequest) -> AWSResponse:
    """The connection breaks before the service has got the request."""
    raise ConnectionClosedError(endpoint_url=request.url, request=request)


def lose_the_answer(request: AWSPreparedRequest) -> AWSResponse:
    """The service does what it is asked, and the connection breaks before it has said so."""
    done = URLLib3Session().send(request)
    assert done.status_code < 300, done.text
    return cut(request)


class _Raw:
    """The body of a made-up answer, as the SDK reads it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content
