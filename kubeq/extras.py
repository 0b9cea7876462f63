"""What to install when a package that only some backends need is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kubeq.errors import BackendError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """A block of imports. A package that is missing is BackendError with the command that installs kubeq's extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise BackendError(
            f"the Python package {error.name} is needed and is not installed", hint=f"pip install 'kubeq[{name}]'"
        ) from error
