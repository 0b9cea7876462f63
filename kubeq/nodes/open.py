"""From a name to a NodeProvider. The one place that knows which providers exist; imports one on first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeq.core.provisioning import Permission, Provisioner
from kubeq.errors import UsageError
from kubeq.extras import extra
from kubeq.nodes.base import NodeProvider
from kubeq.nodes.forms import IMAGE_REPOSITORY
from kubeq.nodes.prices import Price

HERE = "local"
"""The provider whose nodes are agents on this machine."""
HOSTS = "ssh"
"""The one whose nodes are on hosts of the user's own."""
BESIDE_STORES: Mapping[str, str] = {"gs": "gce", "s3": "ec2"}
"""The provider of the cloud in which a store of that scheme lies."""


def _unknown(provider: str, kind: str, region: str, spot: bool) -> float | None:
    """What machines cost, as long as nobody knows."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """What providers are told. `hosts` are a pool's own, a line each as in a hosts file.

    `region` and `project`: where a pool's machines are, as far as its cloud has such a thing (None: nobody has said).
    `price` is what machines cost, `through_ssm` how one gets to those of EC2.
    """

    state_dir: Path
    cache_dir: Path
    hosts: tuple[str, ...] = ()
    home: Path = field(default_factory=Path.home)
    caller: str = ""
    ssh_user: str | None = None
    ssh_identity: Path | None = None
    ssh_known_hosts: Path | None = None
    accept_new_hosts: bool = False
    agent_image: str = IMAGE_REPOSITORY
    region: str | None = None
    project: str | None = None
    price: Price = _unknown
    through_ssm: bool = False


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


def _ssh(settings: ProviderSettings) -> NodeProvider:
    with extra("ssh"):
        from kubeq.nodes.ssh import SshProvider
    from kubeq.nodes.hosts import hosts_of
    from kubeq.nodes.ssh_login import SshSettings

    login = SshSettings(
        home=settings.home,
        caller=settings.caller,
        user=settings.ssh_user,
        identity=settings.ssh_identity,
        known_hosts=settings.ssh_known_hosts,
        accept_new=settings.accept_new_hosts,
    )
    return SshProvider(hosts_of(settings.hosts), login, settings.state_dir, settings.cache_dir, settings.agent_image)


def _ec2(settings: ProviderSettings) -> NodeProvider:
    from kubeq.nodes.ec2 import Ec2Provider, Ec2Settings

    return Ec2Provider(
        Ec2Settings(
            region=settings.region or "",
            state_dir=settings.state_dir,
            price=settings.price,
            caller=settings.caller,
            through_ssm=settings.through_ssm,
        )
    )


def _gce(settings: ProviderSettings) -> NodeProvider:
    with extra("gcp"):
        from kubeq.nodes.gce import GceProvider, GceSettings

    return GceProvider(GceSettings(state_dir=settings.state_dir, project=settings.project), settings.price)


PROVIDERS: dict[str, Callable[[ProviderSettings], NodeProvider]] = {
    "ec2": _ec2,
    "gce": _gce,
    "local": _local,
    "ssh": _ssh,
}


def _ec2_prices(region: str) -> Mapping[str, Any]:
    from kubeq.nodes.ec2_prices import ec2_prices

    return ec2_prices(region)


def _gce_prices(region: str) -> Mapping[str, Any]:
    with extra("gcp"):
        from kubeq.nodes.gce_prices import gce_prices

    return gce_prices(region)


PRICE_LISTS: Mapping[str, Callable[[str], Mapping[str, Any]]] = {"ec2": _ec2_prices, "gce": _gce_prices}
"""What asks a provider's cloud for the prices of a region."""


USUAL_IDENTITIES: Mapping[str, str] = {"ec2": "kubeq-node"}
"""As whom machines of a provider act that come with no identity of the cloud's own, when nobody has named one."""


def open_identity(provider: str, name: str | None, region: str | None, policy: Mapping[str, Any]) -> Provisioner | None:
    """What makes as whom machines of the provider act, who may do what `policy` says; None where nothing is made."""
    if provider != "ec2" or name is None:
        return None
    from kubeq.nodes.ec2_setup import Ec2Identity

    return Ec2Identity(name.rpartition("/")[2], policy, region)


def own_permissions(provider: str, project: str | None) -> Sequence[Permission]:
    """What machines of the provider have to be allowed besides what queue and store need."""
    if provider != "gce":
        return ()
    from kubeq.nodes import gce_setup

    return gce_setup.acting(project or "PROJECT")


def launch_permissions(
    provider: str, region: str | None, project: str | None, identity: str | None
) -> Sequence[Permission]:
    """What whoever starts machines of the provider has to be allowed; nothing where none are made."""
    match provider:
        case "ec2":
            from kubeq.nodes import ec2_setup

            return ec2_setup.launching((identity or "*").rpartition("/")[2], region)
        case "gce":
            from kubeq.nodes import gce_setup

            return gce_setup.launching(project or "PROJECT", identity)
        case _:
            return ()
