"""What Google says that there is: regions, machine types, images, networks, accounts. Only reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from kubeq.extras import extra
from kubeq.nodes.gce_api import GOOGLE, ONCE, TIMEOUT_S, Compute
from kubeq.nodes.gce_client import compute

with extra("gcp"):
    from google.api_core import exceptions as api
    from google.auth.transport.requests import AuthorizedSession

IDENTITIES = "https://iam.googleapis.com"
PROJECTS = "https://cloudresourcemanager.googleapis.com"
ACTS_AS = "iam.serviceAccounts.actAs"
PAGE = 500
"""The most that a page of a list holds: https://cloud.google.com/compute/docs/reference/rest/v1/machineTypes/list."""


def project_of(asked: Compute) -> compute.Project | None:
    """The project itself, with the quotas that count for all regions together."""
    client = asked.client(compute.ProjectsClient)
    return asked.lookup(f"read the project {asked.project}", lambda: client.get(project=asked.project, **ONCE))


def region_of(asked: Compute, name: str) -> compute.Region | None:
    """A region, with its zones and quotas."""
    client = asked.client(compute.RegionsClient)
    request = compute.GetRegionRequest(project=asked.project, region=name)
    return asked.lookup(f"read the region {name}", lambda: client.get(request, **ONCE))


def region_names(asked: Compute) -> list[str]:
    """The names of all regions."""
    client = asked.client(compute.RegionsClient)
    found = asked.ask("list the regions", lambda: list(client.list(project=asked.project, **ONCE)))
    return sorted(region.name for region in found)


def machine_types(asked: Compute, zone: str, names: Sequence[str] = ()) -> list[compute.MachineType]:
    """The types of a zone; those of these names, if any are given."""
    client = asked.client(compute.MachineTypesClient)
    request = compute.ListMachineTypesRequest(project=asked.project, zone=zone, max_results=PAGE)
    if names:
        request.filter = " OR ".join(f'(name = "{name}")' for name in names)
    return asked.ask(f"list the machine types of {zone}", lambda: list(client.list(request, **ONCE)))


def accelerators(asked: Compute, zone: str) -> Mapping[str, int]:
    """The kinds of GPU that can be attached to machines of a zone, and how many of each to one machine."""
    client = asked.client(compute.AcceleratorTypesClient)
    request = compute.ListAcceleratorTypesRequest(project=asked.project, zone=zone, max_results=PAGE)
    found = asked.ask(f"list the GPUs of {zone}", lambda: list(client.list(request, **ONCE)))
    return {kind.name: kind.maximum_cards_per_instance for kind in found}


def image_of(asked: Compute, project: str, name: str) -> compute.Image | None:
    """An image of a project."""
    client = asked.client(compute.ImagesClient)
    request = compute.GetImageRequest(project=project, image=name)
    return asked.lookup(f"read the image {name}", lambda: client.get(request, **ONCE))


def newest_image(asked: Compute, project: str, family: str) -> compute.Image | None:
    """The newest image of a family that is not withdrawn."""
    client = asked.client(compute.ImagesClient)
    request = compute.GetFromFamilyImageRequest(project=project, family=family)
    return asked.lookup(f"read the image family {family}", lambda: client.get_from_family(request, **ONCE))


def network_of(asked: Compute, project: str, name: str) -> compute.Network | None:
    """A network of a project."""
    client = asked.client(compute.NetworksClient)
    request = compute.GetNetworkRequest(project=project, network=name)
    return asked.lookup(f"read the network {name}", lambda: client.get(request, **ONCE))


def subnet_of(asked: Compute, project: str, region: str, name: str) -> compute.Subnetwork | None:
    """A subnet of a region."""
    client = asked.client(compute.SubnetworksClient)
    request = compute.GetSubnetworkRequest(project=project, region=region, subnetwork=name)
    return asked.lookup(f"read the subnet {name}", lambda: client.get(request, **ONCE))


def has_service_account(asked: Compute, email: str) -> bool | None:
    """Whether there is one; None if we may not know."""
    answer = _plainly(asked, "GET", f"{IDENTITIES}/v1/projects/-/serviceAccounts/{email}")
    return {200: True, 404: False}.get(answer.status_code)


def may_act_as(asked: Compute, email: str) -> bool | None:
    """Whether we may have machines act as that account; None if we may not know."""
    answer = _plainly(
        asked,
        "POST",
        f"{IDENTITIES}/v1/projects/-/serviceAccounts/{email}:testIamPermissions",
        {"permissions": [ACTS_AS]},
    )
    return ACTS_AS in answer.json().get("permissions", ()) if answer.status_code == 200 else None


def lacking_permissions(asked: Compute, wanted: Sequence[str]) -> list[str]:
    """Which of the permissions we do not have in the project, as far as we may know."""
    url = f"{PROJECTS}/v1/projects/{asked.project}:testIamPermissions"
    answer = _plainly(asked, "POST", url, {"permissions": list(wanted)})
    if answer.status_code != 200:
        return []
    granted = answer.json().get("permissions", ())
    return [permission for permission in wanted if permission not in granted]


def _plainly(asked: Compute, verb: str, url: str, body: object = None) -> Any:
    """The answer of another service than Compute Engine, for which no client is installed."""
    session = AuthorizedSession(asked.credentials)  # type: ignore[no-untyped-call]
    place = url if asked.endpoint == GOOGLE else asked.endpoint + urlsplit(url).path

    def answered() -> Any:
        answer = session.request(verb, place, json=body, timeout=TIMEOUT_S)  # type: ignore[no-untyped-call]
        if answer.status_code >= 429:
            raise api.from_http_response(answer)  # type: ignore[no-untyped-call]
        return answer

    return asked.ask("ask Google what there is and what is allowed", answered)
