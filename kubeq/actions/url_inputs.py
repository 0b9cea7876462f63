"""Inputs by URL: what the sources name, looked up all at once, and where it lands in the work directory.

Nothing is read but what the sources say of themselves: the bytes go from there to the nodes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from urllib.parse import unquote, urlsplit

from kubeq.actions.problems import DESTINATION, NOTHING_THERE, RESERVED, Problems
from kubeq.actions.trees import RESERVED_PREFIX
from kubeq.actions.upload_list import UrlUpload
from kubeq.core.manifest import Remote, clean_destination
from kubeq.errors import BackendError, ObjectNotFound, UsageError
from kubeq.store.open import open_site
from kubeq.store.parallel import THREADS, run_parallel
from kubeq.store.sources import Pinned, shown

Look = Callable[[str], Sequence[Pinned]]
"""What a URL names; as `Site.look`."""


def look_outside(url: str) -> Sequence[Pinned]:
    """What a URL names that is not one of kubeq's own. Raises NotFound, UsageError, BackendError."""
    return open_site(url).look(url)


def look_up(uploads: Sequence[UrlUpload], look: Look, problems: Problems) -> Mapping[str, Sequence[Pinned]]:
    """What each of the URLs names, all asked for side by side; one that names nothing is noted.

    Raises BackendError for a source that does not answer or refuses.
    """
    origins = {upload.url: upload.origin for upload in uploads}
    found = run_parallel([partial(_looked, look, url) for url in origins], THREADS)
    for (url, origin), files in zip(origins.items(), found, strict=True):
        if not files:
            problems.add(NOTHING_THERE, origin if shown(url) == url else repr(shown(url)))
    return dict(zip(origins, found, strict=True))


def remotes_of(upload: UrlUpload, files: Sequence[Pinned], problems: Problems) -> Iterator[Remote]:
    """The inputs that an upload gives; one that cannot be placed is noted."""
    for file in files:
        try:
            path = clean_destination(_place(upload, file))
        except UsageError as error:
            problems.add(DESTINATION, f"{error.message} ({upload.origin})")
            continue
        if path.startswith(RESERVED_PREFIX):
            problems.add(RESERVED, f"{path!r} ({upload.origin})")
            continue
        yield Remote(path, file.url, file.pin, file.size, file.executable)


def _looked(look: Look, url: str) -> Sequence[Pinned]:
    try:
        return look(url)
    except ObjectNotFound:
        return ()
    except BackendError as error:
        # What a source of the user's lacks, `kubeq setup` does not make.
        hint = "check the URL, and that you may read there" if "kubeq setup" in str(error.hint) else error.hint
        raise type(error)(f"the source {shown(url)} cannot be used: {error.message}", hint=hint) from error


def _place(upload: UrlUpload, file: Pinned) -> str:
    """Where a file lands: a relative path, not clean yet."""
    if file.name:
        folder = _last_part(upload.url) if upload.destination is None else upload.destination
        return file.name if os.path.normpath(folder) == "." else f"{folder}/{file.name}"
    if upload.destination is None:
        return _last_part(upload.url)
    if os.path.normpath(upload.destination) == ".":
        raise UsageError(f"the destination {upload.destination!r} is a directory")
    return upload.destination + (_last_part(upload.url) if upload.destination.endswith("/") else "")


def _last_part(url: str) -> str:
    """The URL's last component; of a whole bucket its name. A web server's are decoded, as browsers do."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return url.partition("://")[2].rstrip("/").rpartition("/")[2]
    last = unquote(parts.path.rpartition("/")[2])
    if not last:
        raise UsageError(f"{shown(url)} names no file")
    return last
