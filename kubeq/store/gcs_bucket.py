"""One bucket of Google Cloud Storage: the requests that the store makes of it, each of them one method of the JSON API.

Each HTTP request is counted by the name of that method, such as `objects.insert`. Nothing is retried here, nor by
Google's client: the layers above do, which know what may be sent again and for how long somebody waits.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote, urlsplit

from google.api_core.exceptions import NotFound, PreconditionFailed, from_http_response
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Client
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from kubeq.gcp import Account, find_account, google_errors
from kubeq.metering import Meter
from kubeq.store.bucket_source import Standing
from kubeq.store.sizes import Listing

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

EMULATOR = "STORAGE_EMULATOR_HOST"
"""Google's own variable for the URL of a stand-in."""
PAGE = 1000
"""Objects that one request lists at most (Cloud Storage, "Objects: list")."""
CONNECTIONS = 48
"""Kept open: those of `parallel.NETWORK_THREADS` and of the parts that are on their way beside them."""
TIMEOUT_S = (5.0, 20.0)
"""To connect, and how long a connection may be silent: half of a renewal's interval at the default lease of 120 s."""
SENT_AT_ONCE = 2**18
"""Bytes up to which a body is handed to the socket in one go, which has to take it all within the time to connect."""
READ_AHEAD = 2**18
"""Bytes read at a time for somebody who reads an object in small pieces."""
GENERATION = "generation:"
"""How a pin of ours begins."""
_VERBS = {"GET": "get", "POST": "insert", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}


class Bucket:
    """The bucket, spoken to as `account` or else as this process's own. Connects on first use; safe in threads.

    Every method may raise BackendError, also when there is no such bucket.
    """

    def __init__(
        self, name: str, *, account: Account | None = None, timeout_s: tuple[float, float] = TIMEOUT_S
    ) -> None:
        self.name = name
        self.meter = Meter()
        self._timeout_s = timeout_s
        self._account = account
        self._making = threading.Lock()
        self._made: tuple[Client, AuthorizedSession] | None = None

    def __str__(self) -> str:
        return f"gs://{self.name}"

    @property
    def client(self) -> Client:
        """Google's client, for the modules beside this one."""
        return self._make()[0]

    def errors(self, doing: str) -> AbstractContextManager[None]:
        """A block whose errors of Google's leave it as BackendErrors: "could not `doing`: why"."""
        return google_errors(doing, missing=f"the bucket {self}")

    def size(self, name: str) -> int | None:
        """The object's size; None if there is no such object, or no such bucket. `objects.get`"""
        standing = self.standing(name)
        return None if standing is None else standing.size

    def standing(self, name: str) -> Standing | None:
        """The object as it is now; None if there is no such object, or no such bucket. `objects.get`"""
        blob = self._blob(name)
        with self.errors(f"look for {name} in {self}"):
            try:
                blob.reload(timeout=self._timeout_s, retry=None)
            except NotFound:
                return None
        return _standing(blob)

    def all_standing(self, prefix: str) -> Iterator[Standing]:
        """Every object whose name begins with `prefix`, as it is now, in byte order. `objects.list` for every 1,000"""
        with self.errors(f"list {self}"):
            for blob in self.client.list_blobs(
                self.name,
                prefix=prefix or None,
                fields="items(name,size,generation),nextPageToken",
                timeout=self._timeout_s,
                retry=None,
            ):
                yield _standing(blob)

    def listing(self, prefix: str, after: str, most: int = PAGE) -> Listing:
        """The next names that begin with `prefix` and are greater than `after`. `objects.list`"""
        with self.errors(f"list {self}"):
            listed = self.client.list_blobs(
                self.name,
                prefix=prefix or None,
                start_offset=after or None,  # which is among them
                fields="items(name,size),nextPageToken",
                page_size=most,
                timeout=self._timeout_s,
                retry=None,
            )
            for page in listed.pages:  # one, unless Google gives an empty one, as it may
                if objects := [(blob.name, blob.size) for blob in page if blob.name != after]:
                    return Listing(objects=objects, more=listed.next_page_token is not None)
        return Listing(objects=(), more=False)

    def create(self, name: str, content: bytes) -> bool:
        """Whether it made the object; False if there is one of that name. `objects.insert`

        Google gets the checksum beside the bytes and refuses them if they do not fit.
        """
        with self.errors(f"store {name} in {self}"):
            try:
                self._blob(name).upload_from_file(
                    io.BytesIO(content),
                    size=len(content),
                    if_generation_match=0,
                    checksum="crc32c",
                    timeout=self._timeout_s,
                    retry=None,
                )
            except PreconditionFailed:
                return False
        return True

    def compose(self, sources: Sequence[str], name: str) -> bool:
        """Whether it made the object by joining those; False if there is one of that name. `objects.compose`"""
        joined = [self._blob(source) for source in sources]
        with self.errors(f"store {name} in {self}"):
            try:
                self._blob(name).compose(joined, if_generation_match=0, timeout=self._timeout_s, retry=None)
            except PreconditionFailed:
                return False
        return True

    def read(self, name: str, start: int, pin: str | None = None) -> BinaryIO | None:
        """The object's bytes from `start` on, as they come; None if there is none, or not that one. `objects.get`

        Google's client gives bytes only into a file, or in pieces that cost a request each; so this speaks HTTP itself.
        """
        client, session = self._make()
        url = f"{client.api_endpoint}/download/storage/v1/b/{self.name}/o/{quote(name, safe='')}?alt=media"
        if pin is not None:
            url += f"&generation={quote(pin.removeprefix(GENERATION), safe='')}"
        # gzip: the bytes as they are stored, also of an object that somebody has marked as compressed.
        headers = {"Accept-Encoding": "gzip"} | ({"Range": f"bytes={start}-"} if start else {})
        with self.errors(f"read {name} in {self}"):
            response = session.get(url, headers=headers, stream=True, timeout=self._timeout_s)
            if response.ok:
                return io.BufferedReader(_Body(response, self, name), READ_AHEAD)
            with response:
                if response.status_code == 416:  # nothing from `start` on
                    return io.BytesIO()
                if response.status_code == 404:
                    return None
                raise from_http_response(response)  # type: ignore[no-untyped-call]

    def delete(self, name: str) -> None:
        """Remove the object; an absent one is no error. `objects.delete`"""
        with self.errors(f"delete {name} in {self}"), suppress(NotFound):
            self._blob(name).delete(timeout=self._timeout_s, retry=None)

    def _blob(self, name: str) -> Any:
        return self.client.bucket(self.name).blob(name)

    def _make(self) -> tuple[Client, AuthorizedSession]:
        with self._making:
            if self._made is None:
                account = self._account or find_account(EMULATOR)
                credentials: Any = account.credentials or AnonymousCredentials()  # type: ignore[no-untyped-call]
                session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
                for scheme in ("https://", "http://"):
                    session.mount(scheme, _Counting(self.meter))
                client = Client(project=account.project, credentials=credentials, _http=session)
                # Else it asks for the bucket's location now and then, in a thread of its own, to adorn its traces.
                client._bucket_metadata_cache = None
                self._made = client, session
            return self._made


def _standing(blob: Any) -> Standing:
    return Standing(name=blob.name, size=blob.size, pin=f"{GENERATION}{blob.generation}")


class _Counting(HTTPAdapter):
    """Connections of one bucket. Each request is counted when it is sent; retries of this library's are off."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(pool_maxsize=CONNECTIONS)
        self._meter = meter

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        self._meter.count(method_called(str(request.method), str(request.url)))
        if isinstance(request.body, bytes) and len(request.body) > SENT_AT_ONCE:
            # Seen as a file it is sent block by block, and each block has the time to connect for itself.
            request.body = io.BytesIO(request.body)  # type: ignore[assignment]
        return super().send(request, *args, **options)


class _Body(io.RawIOBase):
    """The bytes of one answer, as they come. Closing it gives the connection back, or up if not all was read."""

    def __init__(self, response: Response, bucket: Bucket, name: str) -> None:
        self._response = response
        self._bucket = bucket
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        with self._bucket.errors(f"read {self._name} in {self._bucket}"):
            content = self._response.raw.read(len(view))
        view[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._response.close()
        super().close()


def method_called(verb: str, url: str) -> str:
    """Which method of the JSON API a request calls, as `objects.insert` or `buckets.get`."""
    path = urlsplit(url).path
    bucket, objects, name = path.partition("/b/")[2].partition("/o")
    if not objects:
        return f"buckets.{_VERBS[verb]}" if bucket or verb != "GET" else "buckets.list"
    if path.endswith("/compose") and verb == "POST":
        return "objects.compose"
    return f"objects.{_VERBS[verb]}" if name or verb != "GET" else "objects.list"
