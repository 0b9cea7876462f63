"""Instances of Compute Engine, and the firewall rules between them: made, listed, read, removed.

How an instance of a node looks is in `gce_description`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from kubeq.errors import BackendError
from kubeq.extras import extra
from kubeq.nodes.gce_api import ONCE, Compute, last, reason_of, words_of
from kubeq.nodes.gce_client import compute

with extra("gcp"):
    from google.api_core import exceptions as api

PAGE = 500
"""The most that a page of a list holds: https://cloud.google.com/compute/docs/reference/rest/v1/instances/list."""
PREEMPTED = "compute.instances.preempted"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What Google answered instead of making an instance: its code for it, and its words."""

    code: str
    message: str


STANDING = Refusal("alreadyExists", "an instance of that name stands there")
WANTS_OS_LOGIN = Refusal("requireOsLogin", "the organisation allows no other login than OS Login")
_OS_LOGIN_POLICY = re.compile("requireOsLogin|enable-oslogin", re.IGNORECASE)
"""In what Google says of an instance that turns OS Login off where the policy `compute.requireOsLogin` holds:
https://cloud.google.com/compute/docs/oslogin/manage-oslogin-in-an-org (May 2026)."""


def list_instances(asked: Compute, wanted: str) -> list[compute.Instance]:
    """Those of all zones that the filter describes. Raises BackendError if a zone does not tell."""
    client = asked.client(compute.InstancesClient)
    request = compute.AggregatedListInstancesRequest(project=asked.project, filter=wanted, max_results=PAGE)

    def listed() -> list[compute.Instance]:
        found: list[compute.Instance] = []
        for page in client.aggregated_list(request, **ONCE).pages:
            if page.unreachables:  # what is missing in such an answer may well stand
                silent = ", ".join(map(last, page.unreachables))
                raise BackendError(f"could not list the instances: Google does not know about {silent}", transient=True)
            found += [one for scope in page.items.values() for one in scope.instances]
        return found

    return asked.ask("list the instances", listed)


def list_fates(asked: Compute) -> list[compute.Operation]:
    """How instances came and how Google took them back, the latest first, whoever's they are; kept for two weeks."""
    client = asked.client(compute.GlobalOperationsClient)
    request = compute.AggregatedListGlobalOperationsRequest(
        project=asked.project,
        filter=f'(operationType = "{PREEMPTED}") OR (operationType = "insert")',
        order_by="creationTimestamp desc",
        max_results=PAGE,
    )

    def listed() -> list[compute.Operation]:
        page = next(iter(client.aggregated_list(request, **ONCE).pages))
        found = [one for scope in page.items.values() for one in scope.operations]
        return sorted(found, key=lambda one: datetime.fromisoformat(one.insert_time), reverse=True)

    return asked.ask("list what became of instances", listed)


def insert_instance(
    asked: Compute, zone: str, instance: compute.Instance, request_id: str
) -> compute.Operation | Refusal:
    """Ask for an instance; the same request, made again, makes no second one.

    `STANDING` if one has that name, `WANTS_OS_LOGIN` if the project's policy allows it only with OS Login.
    """
    client = asked.client(compute.InstancesClient)
    request = compute.InsertInstanceRequest(
        project=asked.project, zone=zone, instance_resource=instance, request_id=request_id
    )

    def made() -> compute.Operation | Refusal:
        try:
            return client.insert_unary(request, **ONCE)
        except api.Conflict:
            return STANDING
        except api.Forbidden as error:
            if reason_of(error) == "quotaExceeded":
                return Refusal("QUOTA_EXCEEDED", words_of(error))
            raise
        except (api.BadRequest, api.PreconditionFailed) as error:
            if _OS_LOGIN_POLICY.search(words_of(error)):
                return WANTS_OS_LOGIN
            raise

    return asked.ask(f"make the instance {instance.name}", made, missing="something that it was to have")


def read_instance(asked: Compute, zone: str, name: str) -> compute.Instance | None:
    """An instance as it is now."""
    client = asked.client(compute.InstancesClient)
    request = compute.GetInstanceRequest(project=asked.project, zone=zone, instance=name)
    return asked.lookup(f"read the instance {name}", lambda: client.get(request, **ONCE))


def read_operation(asked: Compute, zone: str, name: str) -> compute.Operation | None:
    """How far an operation is."""
    client = asked.client(compute.ZoneOperationsClient)
    request = compute.GetZoneOperationRequest(project=asked.project, zone=zone, operation=name)
    return asked.lookup("read an operation", lambda: client.get(request, **ONCE))


def delete_instance(asked: Compute, zone: str, name: str) -> None:
    """Shut the machine down and remove it; one that is not there is no error."""
    client = asked.client(compute.InstancesClient)

    def deleted() -> None:
        try:
            client.delete_unary(project=asked.project, zone=zone, instance=name, **ONCE)
        except api.NotFound:
            return
        except (api.BadRequest, api.Conflict, api.PreconditionFailed) as error:
            if reason_of(error) != "resourceNotReady":
                raise
            told = f"could not end the instance {name}: it is not ready for that ({words_of(error)})"
            raise BackendError(told, transient=True) from error

    asked.ask(f"end the instance {name}", deleted)


def read_console(asked: Compute, zone: str, name: str) -> str | None:
    """The last mebibyte that the machine has printed on its first serial port."""
    client = asked.client(compute.InstancesClient)
    request = compute.GetSerialPortOutputInstanceRequest(project=asked.project, zone=zone, instance=name)
    answer = asked.lookup(f"read the console of {name}", lambda: client.get_serial_port_output(request, **ONCE))
    return None if answer is None else answer.contents


def allow(asked: Compute, rule: compute.Firewall) -> None:
    """Make a firewall rule; one of that name may stand."""
    client = asked.client(compute.FirewallsClient)

    def made() -> None:
        try:
            client.insert_unary(project=asked.project, firewall_resource=rule, **ONCE)
        except api.Conflict:
            return

    asked.ask(f"make the firewall rule {rule.name}", made, missing="the network")


def remove_rule(asked: Compute, name: str) -> None:
    """Remove a firewall rule; one that is not there is no error."""
    client = asked.client(compute.FirewallsClient)
    request = compute.DeleteFirewallRequest(project=asked.project, firewall=name)
    asked.lookup(f"remove the firewall rule {name}", lambda: client.delete_unary(request, **ONCE))
