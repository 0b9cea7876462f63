"""One S3 bucket: every request that the store makes of it, made once, and what the answers mean. Errors are ours.

What is asked for, how often and in how many threads is decided in `s3`, `s3_parts` and `sizes`. Names here are the
whole keys in the bucket.
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from kubeq import aws
from kubeq.aws_errors import DENIED, PASSING, THROTTLED, code_of
from kubeq.errors import AccessDenied, BackendError
from kubeq.metering import Meter
from kubeq.store.bucket_source import Standing
from kubeq.store.sizes import Listing

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, GetObjectRequestTypeDef, ObjectIdentifierTypeDef

DELETE_BATCH = 1000
"""Objects that one request deletes (S3 API reference, DeleteObjects)."""
SENT_UNASKED = 2**16
"""Bytes of an object that is sent without asking first whether S3 wants it ("Expect: 100-continue"), as the SDK does.

To ask costs the time to S3 and back, and spares the sending where S3 refuses or the object exists.
"""
CONNECTIONS = 48
"""Kept open: those of `parallel.NETWORK_THREADS` and of the parts that are on their way beside them."""
TAG = "etag:"
"""How a pin of ours begins."""
PIECE = 2**17
"""Bytes that are read from a connection at a time; what a break of it loses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part that S3 has taken."""

    number: int
    tag: str
    checksum: str


class Bucket:
    """A bucket, which need not exist; nothing is connected before the first request. Safe to use from several threads.

    `region` is only a first guess: the SDK follows S3 to where the bucket is.
    """

    def __init__(self, name: str, region: str | None = None) -> None:
        self.name = name
        self.meter = Meter()
        self._region = region
        self._making = threading.Lock()
        self._client: S3Client | None = None

    def __str__(self) -> str:
        return f"the bucket {self.name}"

    @property
    def client(self) -> S3Client:
        """The SDK's client, made on first use. Raises BackendError without the SDK."""
        with self._making:
            if self._client is None:
                made = aws.client("s3", self._region, self.meter, parallel=CONNECTIONS)
                made.meta.events.register("before-send.s3.PutObject", _send_unasked)
                self._client = made
            return self._client

    @contextmanager
    def asked(self) -> Iterator[S3Client]:
        """Its client, for a block whose SDK errors leave it as ours."""
        with aws.plainly("s3", str(self)):
            yield self.client

    def create(self, name: str, content: bytes, sha256: bytes) -> bool:
        """PutObject that S3 refuses where the name exists, and where the bytes that arrive have another hash."""
        with self.asked() as client:
            try:
                client.put_object(
                    Bucket=self.name, Key=name, Body=content, ChecksumSHA256=_encoded(sha256), IfNoneMatch="*"
                )
            except client.exceptions.ClientError as error:
                if code_of(error) == "PreconditionFailed":
                    return False
                raise
        return True

    def read(self, name: str, start: int, pin: str | None = None) -> BinaryIO | None:
        """GetObject: the bytes from `start`, which may be none; None if there is no such object, or not that one."""
        request: GetObjectRequestTypeDef = {"Bucket": self.name, "Key": name}
        if start:  # an empty object has no range at all
            request["Range"] = f"bytes={start}-"
        if pin is not None:
            request["IfMatch"] = pin.removeprefix(TAG)
        with self.asked() as client:
            try:
                answer = client.get_object(**request)
            except client.exceptions.ClientError as error:
                if code_of(error) == "InvalidRange":
                    return io.BytesIO()
                if code_of(error) in ("NoSuchKey", "PreconditionFailed"):
                    return None
                raise
        return io.BufferedReader(_Body(cast(io.RawIOBase, answer["Body"]), str(self)), PIECE)

    def size(self, name: str) -> int | None:
        """HeadObject: the object's size; None if there is no such object, or no such bucket."""
        standing = self.standing(name)
        return None if standing is None else standing.size

    def standing(self, name: str) -> Standing | None:
        """HeadObject: the object as it is now; None if there is no such object, or no such bucket.

        The answer to a HEAD has no words, so a refusal without any is put again as a listing of that one name.
        """
        try:
            with self.asked() as client:
                try:
                    found = client.head_object(Bucket=self.name, Key=name)
                except client.exceptions.ClientError as error:
                    if code_of(error) == "404":
                        return None
                    raise
        except BackendError as error:
            if not error.transient:
                self.listing(name, "", most=1)
            raise
        return Standing(name=name, size=found["ContentLength"], pin=f"{TAG}{found['ETag']}")

    def all_standing(self, prefix: str) -> Iterator[Standing]:
        """ListObjectsV2 for every 1,000: what starts with `prefix`, as it is now."""
        with self.asked() as client:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    yield Standing(name=entry["Key"], size=entry["Size"], pin=f"{TAG}{entry['ETag']}")

    def listing(self, prefix: str, after: str, most: int = 1000) -> Listing:
        """ListObjectsV2: a page of what starts with `prefix` and is greater than `after`."""
        with self.asked() as client:
            answer = client.list_objects_v2(Bucket=self.name, Prefix=prefix, StartAfter=after, MaxKeys=most)
        found = [(entry["Key"], entry["Size"]) for entry in answer.get("Contents", ())]
        return Listing(objects=found, more=bool(answer.get("IsTruncated")) and bool(found))

    def delete(self, names: Sequence[str]) -> None:
        """DeleteObjects of at most DELETE_BATCH names. Raises BackendError if one of them was not deleted."""
        with self.asked() as client:
            wanted: list[ObjectIdentifierTypeDef] = [{"Key": name} for name in names]
            answer = client.delete_objects(Bucket=self.name, Delete={"Objects": wanted, "Quiet": True})
        if failed := answer.get("Errors"):
            code, words = failed[0].get("Code", ""), failed[0].get("Message", "it gave no reason")
            kind = AccessDenied if code in DENIED else BackendError
            raise kind(
                f"{self} did not delete {failed[0].get('Key')} and {len(failed) - 1} more: {code}: {words}",
                hint="let an administrator allow s3:DeleteObject to this identity" if code in DENIED else None,
                transient=code in THROTTLED | PASSING,
            )

    def begin(self, name: str) -> str:
        """CreateMultipartUpload: the id of an upload in parts."""
        with self.asked() as client:
            answer = client.create_multipart_upload(Bucket=self.name, Key=name, ChecksumAlgorithm="SHA256")
        return answer["UploadId"]

    def send(self, name: str, upload: str, number: int, content: bytes) -> Part:
        """UploadPart: the part, whose bytes arrived as they were sent; may be sent again."""
        checksum = _encoded(hashlib.sha256(content).digest())
        with self.asked() as client:
            answer = client.upload_part(
                Bucket=self.name,
                Key=name,
                UploadId=upload,
                PartNumber=number,
                Body=content,
                ChecksumSHA256=checksum,
            )
        return Part(number=number, tag=answer["ETag"], checksum=checksum)

    def complete(self, name: str, upload: str, parts: Sequence[Part]) -> bool | None:
        """CompleteMultipartUpload: whether it made the object; None if the upload is spoilt and has to begin anew."""
        listed: list[CompletedPartTypeDef] = [
            {"PartNumber": part.number, "ETag": part.tag, "ChecksumSHA256": part.checksum} for part in parts
        ]
        with self.asked() as client:
            try:
                client.complete_multipart_upload(
                    Bucket=self.name, Key=name, UploadId=upload, MultipartUpload={"Parts": listed}, IfNoneMatch="*"
                )
            except client.exceptions.ClientError as error:
                match code_of(error):
                    case "PreconditionFailed":
                        return False
                    case "ConditionalRequestConflict" | "NoSuchUpload":
                        return None
                raise
        return True

    def abort(self, name: str, upload: str) -> None:
        """AbortMultipartUpload: its parts are removed, unless it is complete."""
        with self.asked() as client:
            client.abort_multipart_upload(Bucket=self.name, Key=name, UploadId=upload)


def _encoded(sha256: bytes) -> str:
    return base64.b64encode(sha256).decode()


def _send_unasked(request: Any, **_: object) -> None:
    if int(request.headers.get("Content-Length", 0)) <= SENT_UNASKED:
        del request.headers["Expect"]


class _Body(io.RawIOBase):
    """The body of an answer; what breaks it leaves it as ours."""

    def __init__(self, body: io.RawIOBase, thing: str) -> None:
        self._body = body
        self._thing = thing

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        with aws.plainly("s3", self._thing):
            return self._body.readinto(memoryview(buffer).cast("B")[:PIECE])

    def close(self) -> None:
        if not self.closed:
            self._body.close()
        super().close()
