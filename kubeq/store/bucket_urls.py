"""URLs of stores in buckets, `s3://BUCKET[/PREFIX]` and `gs://BUCKET[/PREFIX]`: what they name. Makes no request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import SplitResult, unquote

from kubeq.errors import UsageError
from kubeq.store.keys import is_key

_RULES: Mapping[str, tuple[re.Pattern[str], str]] = {
    "gs": (re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"), "at least 3 lower-case letters, digits, -, _ and ."),
    "s3": (re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"), "3 to 63 lower-case letters, digits, - and ."),
}
"""By scheme the rule for names (Cloud Storage documentation, "Bucket name requirements"; Amazon S3 User Guide, "General
purpose bucket naming rules"), and the same in words."""


def parse_url(parts: SplitResult) -> tuple[str, str]:
    """The names of the bucket and of the prefix, which may be empty. Raises UsageError for a URL that has none."""
    scheme, bucket = parts.scheme, parts.netloc
    prefix = unquote(parts.path, errors="surrogateescape").strip("/")
    pattern, rule = _RULES[scheme]
    if not pattern.fullmatch(bucket):
        shown = f": {bucket!r} cannot be one" if bucket and ":" not in bucket else ""  # that may be a password
        raise UsageError(
            f"the store's {scheme}:// URL names no bucket{shown}",
            hint=f"write {scheme}://BUCKET or {scheme}://BUCKET/PREFIX; a bucket's name is of {rule}, and begins and "
            "ends with a letter or a digit",
        )
    if prefix and not is_key(f"_/{prefix}"):
        raise UsageError(
            f"the store's {scheme}:// URL has the prefix {prefix!r}, which cannot begin a key",
            hint="write it without empty parts, '.', '..' and control characters",
        )
    return bucket, prefix
