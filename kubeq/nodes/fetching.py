"""How a machine that has nothing but Python gets the agent archive out of a bucket.

The boot text carries this file whole and runs it as a program, so it imports nothing but the standard library. It reads
one object of S3 as the machine itself (instance metadata service, version 2), or as whom the environment says; it makes
sure of the digest, and leaves alone what lies there already. It never prints a credential.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json import loads
from pathlib import Path
from typing import NoReturn
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import ProxyHandler, Request, build_opener, urlopen

METADATA = "http://169.254.169.254"
"""Amazon EC2 User Guide, "Use the Instance Metadata Service"."""
TRIES = 7
FIRST_PAUSE_S = 1.0
"""Doubles: a minute in all, in which the network comes up and a role that was just attached begins to count."""
TIMEOUT_S = 30.0
_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom and where a request is signed."""

    key: str
    secret: str
    token: str
    region: str


class Elsewhere(Exception):
    """The bucket is in the region that the message names."""


def fetch(url: str, destination: Path, digest: str, environ: Mapping[str, str]) -> None:
    """Have the bytes of that digest at `destination`. Raises OSError, or ValueError for other bytes than those."""
    if destination.is_file() and _digest(destination.read_bytes()) == digest:
        return
    destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    region = ""
    for _ in range(2):
        try:
            content = _read(url, identity(environ, region), environ)
            break
        except Elsewhere as error:
            region = str(error)
    else:
        raise OSError(f"{url} is in no region that answers")
    if _digest(content) != digest:
        raise ValueError(f"{url} holds other bytes than those of {digest}")
    handle, temporary = tempfile.mkstemp(prefix=".", dir=destination.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(destination)
    except BaseException:
        Path(temporary).unlink()
        raise


def identity(environ: Mapping[str, str], region: str = "") -> Identity:
    """Whom the environment names, else the machine's own role. Raises OSError where there is neither."""
    region = region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
    if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
        token = environ.get("AWS_SESSION_TOKEN", "")
        return Identity(environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"], token, region or "us-east-1")
    service = (environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or METADATA).rstrip("/")
    session = _ask(Request(f"{service}/latest/api/token", method="PUT", headers={
        "X-aws-ec2-metadata-token-ttl-seconds": "300"}))  # fmt: skip

    def ask(path: str) -> str:
        return _ask(Request(f"{service}/latest/meta-data/{path}", headers={"X-aws-ec2-metadata-token": session}))

    role = ask("iam/security-credentials/").split("\n")[0]
    try:
        found = loads(ask(f"iam/security-credentials/{role}"))
        key, secret, token = (str(found[name]) for name in ("AccessKeyId", "SecretAccessKey", "Token"))
    except (ValueError, LookupError, TypeError):  # what it says instead, for a role that may not be taken on yet
        raise OSError(f"the machine's metadata service gives no keys of the role {role}") from None
    return Identity(key, secret, token, region or ask("placement/region"))


def signed(url: str, whom: Identity, now: float) -> Request:
    """A GET of that URL with AWS's signature, version 4 ("Create a signed AWS API request")."""
    parts = urlsplit(url)
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    headers = {"host": parts.netloc, "x-amz-content-sha256": _EMPTY, "x-amz-date": moment}
    if whom.token:
        headers["x-amz-security-token"] = whom.token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"GET\n{parts.path}\n\n{lines}\n{names}\n{_EMPTY}"
    scope = f"{moment[:8]}/{whom.region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{whom.secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={whom.key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return Request(url, headers=headers)


def address(url: str, region: str, environ: Mapping[str, str]) -> str:
    """Where an `s3://` URL, percent-encoded as stores write it, is read over HTTP."""
    bucket, _, encoded = url.removeprefix("s3://").partition("/")
    key = quote(unquote(encoded), safe="/~")
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        return f"{endpoint.rstrip('/')}/{bucket}/{key}"
    domain = f"s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
    host = f"{domain}/{bucket}" if "." in bucket else f"{bucket}.{domain}"
    return f"https://{host}/{key}"


def _read(url: str, whom: Identity, environ: Mapping[str, str]) -> bytes:
    try:
        with urlopen(signed(address(url, whom.region, environ), whom, time.time()), timeout=TIMEOUT_S) as answer:
            return bytes(answer.read())
    except HTTPError as error:
        region = error.headers.get("x-amz-bucket-region", whom.region)
        if region != whom.region:
            raise Elsewhere(region) from error
        raise OSError(f"S3 answered {error.code} for {url}") from error


def _ask(request: Request) -> str:
    """What the metadata service says; it is never behind a proxy."""
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=5.0) as answer:
            return str(answer.read().decode())
    except HTTPError as error:
        raise OSError(f"the machine's metadata service answered {error.code}: it has no role, it seems") from error
    except OSError as error:
        raise OSError(f"this machine has no role of its own, and the environment names no key ({error})") from error


def _digest(content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()}-{len(content)}"


def main(words: list[str], environ: Mapping[str, str], sleep: Callable[[float], None] = time.sleep) -> None:
    """Fetch, again where that may help; ends the process with one sentence if it cannot be done."""
    url, destination, digest = words
    pause = FIRST_PAUSE_S
    for tried in range(1, TRIES + 1):
        try:
            fetch(url, Path(destination), digest, environ)
            break
        except ValueError as error:
            _end(7, f"the agent archive is not the one that was stored: {error}")
        except (OSError, http.client.HTTPException) as error:
            if tried == TRIES:
                _end(6, f"the agent archive cannot be fetched: {error}")
        sleep(pause)
        pause *= 2


def _end(code: int, sentence: str) -> NoReturn:
    sys.stderr.write(f"error: {sentence}\n")
    raise SystemExit(code)


if __name__ == "__main__":
    main(sys.argv[1:], os.environ)
