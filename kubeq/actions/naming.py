"""Names and ids: of jobs, of pools, and of a pool's nodes. Pure but for the random part of an id."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import secrets
import time
from collections.abc import Sequence

from kubeq.core.model import JobId, NodeName, PoolId
from kubeq.core.names import JOB_NAME, RESERVED_NAMES
from kubeq.core.spec import is_staged, placeholders
from kubeq.release import this_release

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no i, l, o, u, so that an id can be read aloud."""
_JOB_ID = re.compile(r"\d{8}-\d{6}-[0-9a-hjkmnp-tv-z]{4}")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
FALLBACK_NAME = "job"


def new_job_id(now: float) -> JobId:
    """`YYYYMMDD-HHMMSS-xxxx`, in UTC: sorts by time, never given twice."""
    letters = "".join(secrets.choice(_CROCKFORD) for _ in range(4))
    return JobId(f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{letters}")


def is_job_id(text: str) -> bool:
    """Whether the text could be the whole id of a job."""
    return _JOB_ID.fullmatch(text) is not None


def default_name(command: Sequence[str]) -> str:
    """A name from the command's first staged file, else from its first word."""
    files = [word[1:] for word in command if is_staged(word) and not placeholders(word)]
    word = files[0] if files else command[0].lstrip("^").split(maxsplit=1)[0]
    clean = _NOT_IN_NAMES.sub("-", posixpath.basename(word.rstrip("/")))[:64].strip("._-")
    usable = JOB_NAME.fullmatch(clean) and clean not in RESERVED_NAMES and not is_job_id(clean)
    return clean if usable else FALLBACK_NAME


def shared_pool_id(*request: str) -> PoolId:
    """The pool of whoever asks for the same kind of node with the same release: a digest of all that such nodes are
    told and others are not."""
    document = json.dumps([*request, this_release()])
    return PoolId(hashlib.sha256(document.encode()).hexdigest()[:12])


def private_pool_id() -> PoolId:
    """A pool that no other job will ever be in."""
    return PoolId(secrets.token_hex(6))


def node_name(pool: PoolId, number: int) -> NodeName:
    """The name of the pool's node of that number."""
    return NodeName(f"{pool}-{number}")
