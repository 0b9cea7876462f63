"""Google's client for Compute Engine, of which only that is loaded which is used here: `compute`.

The package loads the clients of all its hundred services when it is imported, in each command that looks at machines:
that takes a processor three seconds, where the messages and eleven services take half of that.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any

from kubeq.extras import extra

__all__ = ["compute"]
PACKAGE = "google.cloud.compute_v1"
CLIENTS: Mapping[str, str] = {
    "accelerator_types": "AcceleratorTypesClient",
    "firewalls": "FirewallsClient",
    "global_operations": "GlobalOperationsClient",
    "images": "ImagesClient",
    "instances": "InstancesClient",
    "machine_types": "MachineTypesClient",
    "networks": "NetworksClient",
    "projects": "ProjectsClient",
    "regions": "RegionsClient",
    "subnetworks": "SubnetworksClient",
    "zone_operations": "ZoneOperationsClient",
}
"""The services that are asked, with the names of their clients. What is missing here is missing in `compute`."""


def used_of_package() -> Any:
    """The messages and those clients, as the package has them; the package itself where somebody has loaded it.

    Its own first module, which loads everything, is passed over: it does nothing but name what the others have. Whoever
    imports the package afterwards gets all of it. Raises ModuleNotFoundError where it is not installed.
    """
    if PACKAGE in sys.modules:
        return sys.modules[PACKAGE]
    spec = find_spec(PACKAGE)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {PACKAGE!r}", name=PACKAGE)
    used = sys.modules[PACKAGE] = module_from_spec(spec)
    try:
        messages = vars(import_module(f"{PACKAGE}.types.compute"))
        vars(used).update({name: value for name, value in messages.items() if not name.startswith("_")})
        for service, client in CLIENTS.items():
            setattr(used, client, getattr(import_module(f"{PACKAGE}.services.{service}"), client))
    finally:
        del sys.modules[PACKAGE]
    return used


if TYPE_CHECKING:
    from google.cloud import compute_v1 as compute
else:
    with extra("gcp"):
        compute = used_of_package()
