"""Which of Compute Engine's methods a request calls, and what its stand-in answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from tests.stand_ins.gce_catalogue import PROJECT, Catalogue, quotas
from tests.stand_ins.gce_instances import Instances
from tests.stand_ins.gce_wire import Json, Refused, by_zone, matches, not_found, page

_PROJECT = "/compute/v1/projects/([^/]+)"
_IN_ZONE = f"{_PROJECT}/zones/([^/]+)"
Call = Callable[[], Json]


def route(
    catalogue: Catalogue, instances: Instances, verb: str, path: str, query: Mapping[str, str], body: Json
) -> tuple[str, Call]:
    """The method's name, and the call that answers it. Raises Refused for what there is not."""
    made = _Routes(catalogue, instances, query, body)
    for name, (its_verb, pattern) in _METHODS.items():
        found = re.fullmatch(pattern, path)
        if found and its_verb == verb:
            return name, partial(made.call, name, found.groups())
    raise not_found("method", path)


_METHODS = {
    "projects.get": ("GET", _PROJECT),
    "regions.list": ("GET", f"{_PROJECT}/regions"),
    "regions.get": ("GET", f"{_PROJECT}/regions/([^/]+)"),
    "machineTypes.list": ("GET", f"{_IN_ZONE}/machineTypes"),
    "acceleratorTypes.list": ("GET", f"{_IN_ZONE}/acceleratorTypes"),
    "images.getFromFamily": ("GET", f"{_PROJECT}/global/images/family/([^/]+)"),
    "images.get": ("GET", f"{_PROJECT}/global/images/([^/]+)"),
    "networks.get": ("GET", f"{_PROJECT}/global/networks/([^/]+)"),
    "subnetworks.get": ("GET", f"{_PROJECT}/regions/([^/]+)/subnetworks/([^/]+)"),
    "serviceAccounts.get": ("GET", "/v1/projects/-/serviceAccounts/([^/]+)"),
    "serviceAccounts.testIamPermissions": ("POST", "/v1/projects/-/serviceAccounts/([^/:]+):testIamPermissions"),
    "projects.testIamPermissions": ("POST", "/v1/projects/([^/:]+):testIamPermissions"),
    "instances.aggregatedList": ("GET", f"{_PROJECT}/aggregated/instances"),
    "instances.insert": ("POST", f"{_IN_ZONE}/instances"),
    "instances.get": ("GET", f"{_IN_ZONE}/instances/([^/]+)"),
    "instances.delete": ("DELETE", f"{_IN_ZONE}/instances/([^/]+)"),
    "instances.getSerialPortOutput": ("GET", f"{_IN_ZONE}/instances/([^/]+)/serialPort"),
    "zoneOperations.get": ("GET", f"{_IN_ZONE}/operations/([^/]+)"),
    "globalOperations.aggregatedList": ("GET", f"{_PROJECT}/aggregated/operations"),
    "firewalls.insert": ("POST", f"{_PROJECT}/global/firewalls"),
    "firewalls.delete": ("DELETE", f"{_PROJECT}/global/firewalls/([^/]+)"),
}


class _Routes:
    """One request."""

    def __init__(self, catalogue: Catalogue, instances: Instances, query: Mapping[str, str], body: Json) -> None:
        self._has = catalogue
        self._instances = instances
        self._query = query
        self._body = body

    def call(self, name: str, words: tuple[str, ...]) -> Json:
        """The answer of that method for the parts of the path."""
        group, _, action = name.partition(".")
        if group != "serviceAccounts" and group != "images" and words[0] != PROJECT:
            raise not_found("projects", words[0])
        answer: Json = getattr(self, f"_{group}_{action}")(*words)
        return answer

    def _projects_get(self, project: str) -> Json:
        used = sum(self._instances.used(self._has).values())
        return {
            "name": project,
            "defaultServiceAccount": self._has.default_account,
            "quotas": quotas(self._has.limits_everywhere, {"CPUS_ALL_REGIONS": used}),
        }

    def _regions_list(self, project: str) -> Json:
        return page([{"name": name} for name in self._has.regions()], self._query)

    def _regions_get(self, project: str, region: str) -> Json:
        if region not in self._has.regions():
            raise not_found("regions", region)
        return self._has.region(region, self._instances.used(self._has))

    def _machineTypes_list(self, project: str, zone: str) -> Json:
        return page([one for one in self._has.described(zone) if matches(one, self._query.get("filter"))], self._query)

    def _acceleratorTypes_list(self, project: str, zone: str) -> Json:
        kinds = self._has.attachable.items()
        return page([{"name": name, "maximumCardsPerInstance": most} for name, most in kinds], self._query)

    def _images_get(self, project: str, name: str) -> Json:
        if (project, name) not in self._has.images:
            raise not_found("images", name)
        return self._has.images[project, name]

    def _images_getFromFamily(self, project: str, family: str) -> Json:
        found = [one for (owner, _), one in self._has.images.items() if (owner, one["family"]) == (project, family)]
        if not found:
            raise not_found("images/family", family)
        return found[-1]

    def _networks_get(self, project: str, name: str) -> Json:
        if name not in self._has.networks:
            raise not_found("networks", name)
        return {"name": name}

    def _subnetworks_get(self, project: str, region: str, name: str) -> Json:
        if name not in self._has.subnets:
            raise not_found("subnetworks", name)
        return {"name": name, "network": f"projects/{project}/global/networks/{name}"}

    def _serviceAccounts_get(self, email: str) -> Json:
        if not self._has.may_read_accounts:
            raise Refused(403, "forbidden", "Permission 'iam.serviceAccounts.get' denied")
        if email not in self._has.accounts:
            raise not_found("serviceAccounts", email)
        return {"email": email}

    def _serviceAccounts_testIamPermissions(self, email: str) -> Json:
        return self._granted()

    def _projects_testIamPermissions(self, project: str) -> Json:
        return self._granted()

    def _granted(self) -> Json:
        return {"permissions": [one for one in self._body["permissions"] if one not in self._has.denied]}

    def _instances_aggregatedList(self, project: str) -> Json:
        self._instances.look()
        silent = self._instances.unreachable
        zones = [zone for zones in self._has.regions().values() for zone in zones]
        found = [_shown(one) for one in self._instances.listed() if matches(one, self._query.get("filter"))]
        told = [one for one in found if one["zone"].rpartition("/")[2] not in silent]
        answer = by_zone("instances", told, zones, self._query)
        return {**answer, "unreachables": [f"zones/{zone}" for zone in sorted(silent)]}

    def _instances_insert(self, project: str, zone: str) -> Json:
        return _shown(self._instances.insert(self._has, zone, self._body, self._query.get("requestId")))

    def _instances_get(self, project: str, zone: str, name: str) -> Json:
        return _shown(self._instances.find(zone, name))

    def _instances_delete(self, project: str, zone: str, name: str) -> Json:
        return self._instances.delete(zone, name)

    def _instances_getSerialPortOutput(self, project: str, zone: str, name: str) -> Json:
        self._instances.find(zone, name)
        machines = self._instances.machines
        contents = "" if machines is None else machines.console(name)
        return {"contents": contents, "start": "0", "next": str(len(contents))}

    def _zoneOperations_get(self, project: str, zone: str, name: str) -> Json:
        if name not in self._instances.operations:
            raise not_found("operations", name)
        return _shown(self._instances.read_operation(name))

    def _globalOperations_aggregatedList(self, project: str) -> Json:
        operations = [one for one in self._instances.operations.values() if matches(one, self._query.get("filter"))]
        return by_zone("operations", operations[::-1], (), self._query)

    def _firewalls_insert(self, project: str) -> Json:
        if self._body["name"] in self._instances.rules:
            raise Refused(409, "alreadyExists", f"The resource 'firewalls/{self._body['name']}' already exists")
        self._instances.rules[self._body["name"]] = self._body
        return {"name": "operation-rule", "status": "DONE"}

    def _firewalls_delete(self, project: str, name: str) -> Json:
        if self._instances.rules.pop(name, None) is None:
            raise not_found("firewalls", name)
        return {"name": "operation-rule", "status": "DONE"}


def _shown(one: Json) -> Json:
    return {name: value for name, value in one.items() if not name.startswith("_")}
