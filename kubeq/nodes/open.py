"""From a name to a NodeProvider. The one place that knows which providers exist; imports one on first use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kubeq.errors import UsageError
from kubeq.nodes.base import NodeProvider

HERE = "local"
"""The provider whose nodes are agents on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """What providers are told. `hosts` are a pool's own, a line each as in a hosts file."""

    state_dir: Path
    cache_dir: Path
    hosts: tuple[str, ...] = ()


def open_provider(name: str, settings: ProviderSettings) -> NodeProvider:
    """The provider of that name; nothing is started or read yet. Raises UsageError naming the providers there are."""
    factory = PROVIDERS.get(name)
    if factory is None:
        known = ", ".join(sorted(PROVIDERS))
        raise UsageError(
            f"there is no provider {name!r}", hint=f"the providers are: {known}; see kubeq config provider"
        )
    return factory(settings)


def _local(settings: ProviderSettings) -> NodeProvider:
    from kubeq.nodes.local import LocalProvider

    return LocalProvider(settings.state_dir)


PROVIDERS: dict[str, Callable[[ProviderSettings], NodeProvider]] = {"local": _local}
