"""What to install when a package that only some backends need is not there, and what not to load although it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kubeq.errors import BackendError

QUIET = {"gcp": ("GRPC_VERBOSITY", "ERROR")}
"""What keeps an extra's libraries from writing to stderr by themselves: gRPC asks once, when it is imported."""
_DOCKER_OVER_SSH = "docker.transport.sshconn"


def docker_without_ssh() -> None:
    """To be called before the docker library is imported: it loads paramiko too, wherever that is installed.

    That is for engines over SSH, which kubeq never asks, and costs 19 MB and 0.2 s. The library does without it.
    """
    sys.modules.setdefault(_DOCKER_OVER_SSH, None)  # type: ignore[arg-type]  # None: it cannot be imported


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
