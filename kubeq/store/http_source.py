"""Sources on web servers: `http://` and `https://`, one file a URL; standard library only.

A file is pinned by the first of these that there is: the checksum that the user has added (`URL#sha256=HEX`), the
server's strong entity tag, the time of its last change. What a server makes anew for every request has none of them and
is refused. Proxies are those of the environment. No credentials are sent; a signed URL is its own.

Link-local addresses are refused, also behind names and redirects: there clouds hand out a node's credentials, which no
task may have.
"""

from __future__ import annotations

import email.utils
import http.client
import io
import ipaddress
import re
import ssl
import string
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from email.message import Message
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol
from urllib.parse import quote, urldefrag, urlsplit

from kubeq import __version__
from kubeq.core.manifest import Remote
from kubeq.errors import AccessDenied, BackendError, ObjectNotFound, UsageError
from kubeq.metering import Meter
from kubeq.store.sources import Pinned, changed, gone, nothing_at, shown

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

TIMEOUT_S = 20.0
"""To connect, and between two pieces of an answer."""
PIECE = 2**17
"""Bytes that are read from a connection at a time; what a break of it loses."""
SETTLED_S = 60.0
"""A file that changed so shortly before the answer may change again within the same second (RFC 9110, 8.8.2.2)."""
_CHECKSUM = re.compile(r"sha256=([0-9a-fA-F]{64})")
_STRONG = re.compile(r'"[\x21\x23-\x7e]*"')
"""RFC 9110, 8.8.3: a weak one begins with W/ and does not promise the same bytes."""
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200")))
"""Of EC2, of Compute Engine, of Alibaba; those of all others are link-local."""
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class HttpSite:
    """Whatever a web server shows to everybody who has the URL."""

    def __init__(self) -> None:
        context = ssl.create_default_context()
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            _Plain(),
            _Secure(context),
            urllib.request.HTTPRedirectHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.UnknownHandler(),
        ):
            self._opener.add_handler(handler)
        self._meter = Meter()

    @property
    def requests(self) -> Mapping[str, int]:
        """`GET`, of whatever server; redirects are not told apart."""
        return self._meter.read()

    def look(self, url: str) -> Sequence[Pinned]:
        """See Site. One GET of which only the head is read: what is signed for a GET is not always for a HEAD."""
        where, checksum = _parse(url)
        with self._get(where) as answer:
            headers = answer.headers
        size = headers.get("Content-Length", "")
        if not size.isdecimal() or headers.get("Content-Encoding", "identity") != "identity":
            raise UsageError(
                f"{shown(where)} cannot be a source: its server does not say how large it is",
                hint="download it and upload the file",
            )
        pin = f"sha256:{checksum}" if checksum else _pin(headers)
        if pin is None:
            raise UsageError(
                f"{shown(where)} cannot be pinned: its server sends neither a strong ETag nor a Last-Modified "
                f"older than {SETTLED_S:.0f} s",
                hint="add its checksum (URL#sha256=HEX), or download it and upload the file",
            )
        return [Pinned(url=where, pin=pin, size=int(size))]

    def open(self, remote: Remote, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """See Opener. One GET, of a range where the server has ranges."""
        if start >= remote.size > 0:
            return io.BytesIO()
        try:
            answer = self._get(remote.url, start)
        except ObjectNotFound:
            raise gone(remote) from None
        body = _Body(answer, remote.url)
        try:
            total = _total(answer)
            _compare(remote, answer.headers, total)
            if start and answer.status == 200:
                body.skip(start)
        except BaseException:
            body.close()
            raise
        return io.BufferedReader(body, PIECE)

    def _get(self, url: str, start: int = 0) -> http.client.HTTPResponse:
        headers = {"Accept-Encoding": "identity", "User-Agent": f"kubeq/{__version__}"}
        if start:
            headers["Range"] = f"bytes={start}-"
        self._meter.count("GET")
        try:
            answer: http.client.HTTPResponse = self._opener.open(
                urllib.request.Request(url, headers=headers), None, TIMEOUT_S
            )
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(url, error.code, error.reason) from None
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(url, error) from error
        return answer


class _Body(io.RawIOBase):
    """The bytes of an answer, as they come; one that ends early is an error."""

    def __init__(self, answer: http.client.HTTPResponse, url: str) -> None:
        self._answer = answer
        self._url = url
        self._left = answer.length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        try:
            count = self._answer.readinto(view)
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self._url, error) from error
        if self._left is not None:
            if view and not count and self._left:
                raise _unreachable(self._url, http.client.IncompleteRead(b"", self._left))
            self._left -= count
        return count

    def skip(self, count: int) -> None:
        """Read past so many bytes, for a server that has no ranges."""
        while count and (skipped := len(self.read(min(PIECE, count)) or b"")):
            count -= skipped

    def close(self) -> None:
        if not self.closed:
            self._answer.close()
        super().close()


class _PlainConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        super().connect()
        refuse_metadata(self.sock, self.host)


class _SecureConnection(http.client.HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        refuse_metadata(self.sock, self.host)


class _Plain(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_PlainConnection, request)


class _Secure(urllib.request.HTTPSHandler):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._connection: Any = partial(_SecureConnection, context=context)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, request)


class Connected(Protocol):
    """A connected socket, as far as it is looked at."""

    def getpeername(self) -> Any: ...
    def close(self) -> None: ...


def refuse_metadata(connection: Connected, host: str) -> None:
    """Before anything is sent: whatever the name was, this is whom we would speak to. Raises UsageError, closing it."""
    address = ipaddress.ip_address(str(connection.getpeername()[0]).partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None) or address
    if mapped.is_link_local or mapped in _METADATA:
        connection.close()
        raise UsageError(
            f"a source cannot be at {host}: its address {address} is where clouds hand out a machine's credentials",
            hint="those are not for tasks; name another server",
        )


def _parse(url: str) -> tuple[str, str | None]:
    """Where it is, without the checksum, and the checksum (None if there is none)."""
    where, fragment = urldefrag(url)
    try:
        parts = urlsplit(where)
        host, named = parts.hostname, parts.port is None or parts.port > 0
    except ValueError:
        host, named = None, False
    if not host or not named or not host.isascii() or re.search(r"[\x00-\x20\x7f]", where):
        raise UsageError(f"{shown(where)!r} is not a URL that can be asked for", hint="write https://HOST/PATH")
    if "@" in parts.netloc:
        raise UsageError(
            "a source's URL holds a user name or a password", hint="remove it; a signed URL can be used instead"
        )
    checksum = _CHECKSUM.fullmatch(fragment)
    if fragment and checksum is None:
        raise UsageError(
            f"{shown(where)}#{fragment} has a fragment that is no checksum", hint="write URL#sha256=HEX, of 64 digits"
        )
    return quote(where, safe=string.punctuation), checksum[1].lower() if checksum else None


def _pin(headers: Message) -> str | None:
    """What the server says that holds as long as the bytes do; None if it says nothing of that kind."""
    tag, modified = headers.get("ETag", ""), headers.get("Last-Modified")
    if _STRONG.fullmatch(tag):
        return f"etag:{tag}"
    try:
        changed_at = email.utils.parsedate_to_datetime(str(modified))
        age = email.utils.parsedate_to_datetime(str(headers.get("Date"))) - changed_at
    except (ValueError, TypeError):
        return None
    return f"modified:{modified}" if age.total_seconds() >= SETTLED_S else None


def _compare(remote: Remote, headers: Message, total: int | None) -> None:
    """Raises IntegrityError unless the answer has the pin; a checksum is compared by whoever reads the bytes."""
    kind, _, _ = remote.pin.partition(":")
    now = remote.pin
    if kind in ("etag", "modified"):
        now = f"{kind}:{headers.get('ETag' if kind == 'etag' else 'Last-Modified', 'nothing')}"
    if now != remote.pin:
        raise changed(remote, now)
    if total not in (None, remote.size):
        raise changed(remote, f"{total} bytes instead of {remote.size}")


def _total(answer: http.client.HTTPResponse) -> int | None:
    """How many bytes the file has, by an answer with all or some of them; None if it does not say."""
    if answer.status == 206:
        total = answer.headers.get("Content-Range", "").rpartition("/")[2]
        return int(total) if total.isdecimal() else None
    return answer.length


def _refusal(url: str, code: int, reason: str) -> BackendError | ObjectNotFound:
    if code in (404, 410):
        return nothing_at(url)
    if code in (401, 403, 407):
        return AccessDenied(
            f"{shown(url)} may not be read: {code} {reason}", hint="use a URL that is public, or signed and not expired"
        )
    return BackendError(f"{shown(url)} cannot be read: {code} {reason}", transient=code in _PASSING)


def _unreachable(url: str, error: Exception) -> BackendError:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return BackendError(f"{shown(url)} cannot be trusted: {cause.verify_message}", hint="check its host's name")
    return BackendError(f"{shown(url)} cannot be read: {str(cause) or type(cause).__name__}", transient=True)
