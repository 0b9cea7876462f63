"""What to install when a package that only some backends need is not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from kubeq.errors import BackendError

QUIET = {"gcp": ("GRPC_VERBOSITY", "ERROR")}
"""What keeps an extra's libraries from writing to stderr by themselves: gRPC asks once, when it is imported."""

_OURS = ("kubeq", "kubeq_consumer")


@contextmanager
def extra(name: str) -> Iterator[None]:
    """A block of imports. A package that is missing is BackendError with the command that installs kubeq's extra.

    A module of our own that is missing is a bug, and raised as it is.
    """
    if name in QUIET:
        os.environ.setdefault(*QUIET[name])
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in _OURS:
            raise
        raise BackendError(
            f"the Python package {error.name} is needed and is not installed", hint=f"pip install 'kubeq[{name}]'"
        ) from error
