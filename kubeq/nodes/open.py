"""From a name to a NodeProvider. The one place that knows which providers exist; imports one on first use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kubeq.errors import UsageError
from kubeq.nodes.base import NodeProvider


def open_provider(name: str, state_dir: Path) -> NodeProvider:
    """The provider of that name; nothing is started or read yet. Raises UsageError naming the providers there are."""
    factory = PROVIDERS.get(name)
    if factory is None:
        known = ", ".join(sorted(PROVIDERS))
        raise UsageError(
            f"there is no provider {name!r}", hint=f"the providers are: {known}; see kubeq config provider"
        )
    return factory(state_dir)


def _local(state_dir: Path) -> NodeProvider:
    from kubeq.nodes.local import LocalProvider

    return LocalProvider(state_dir)


PROVIDERS: dict[str, Callable[[Path], NodeProvider]] = {"local": _local}
