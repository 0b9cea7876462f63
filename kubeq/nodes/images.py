"""The agent's image on this machine's own engine, to be sent to machines that have Docker.

It is asked for with Docker's command line: whoever has built the image here has that.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from kubeq.errors import BackendError, ImageUnavailable


def image_id(image: str) -> str:
    """The id of the image here. Raises ImageUnavailable if this machine has none, with how to make it."""
    hint = "build it once: python3 images/consumer/build.py; or install Python 3.11 there"
    try:
        words = ["docker", "image", "inspect", "--format", "{{.Id}}", image]
        done = subprocess.run(words, capture_output=True, text=True)
    except OSError as error:
        raise ImageUnavailable(
            f"it needs the agent's image {image}, and this machine has no docker to send it with: {error.strerror}",
            hint=hint,
        ) from error
    if done.returncode:
        raise ImageUnavailable(f"it needs the agent's image {image}, which this machine does not have", hint=hint)
    return done.stdout.strip()


@contextmanager
def saved_image(image: str) -> Iterator[BinaryIO]:
    """The image as an archive for `docker load`. Raises BackendError at the end if it was not all of it."""
    process = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        yield process.stdout  # type: ignore[misc]
    finally:
        process.stdout.close()
        said = process.stderr.read().decode(errors="replace").strip()
        process.stderr.close()
        code = process.wait()
    if code:
        raise BackendError(f"the image {image} cannot be read from this machine's engine: {said[-200:]}")


def packed_image(image: str, cache_dir: Path) -> Path:
    """The image as a compressed archive for `docker load`, in a file that is made once; those of other days go.

    Raises ImageUnavailable as `image_id`, BackendError if the engine does not give all of it.
    """
    folder = cache_dir / "images"
    path = folder / f"{image_id(image).rpartition(':')[2]}.tar.gz"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as part:
        unfinished = Path(part.name)
        try:
            # Fast rather than small: every machine that fetches it is in the same region.
            with saved_image(image) as saved, gzip.GzipFile("", "wb", 1, part, mtime=0) as packed:
                shutil.copyfileobj(saved, packed, 2**20)
            part.flush()
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
    for other in folder.glob("*.tar.gz"):
        if other != path:
            other.unlink(missing_ok=True)
    return path
