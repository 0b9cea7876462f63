"""The instances of Compute Engine's stand-in: made, taken back, ended by their time or by themselves.

What a machine does is `Machinery`'s affair: nothing, or a container (`gce_machines`).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from secrets import randbelow, token_hex
from typing import Protocol

from tests.stand_ins.gce_catalogue import PROJECT, Catalogue
from tests.stand_ins.gce_wire import Json, Refused, last, link, not_found, stamp

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
NO_ROOM = "ZONE_RESOURCE_POOL_EXHAUSTED"


class Machinery(Protocol):
    """What stands behind the records."""

    def start(self, instance: Json) -> str:
        """Switch the machine on; its address."""
        ...

    def is_on(self, name: str) -> bool:
        """Whether it still runs."""
        ...

    def notify(self, name: str) -> None:
        """Tell it that it is taken back."""
        ...

    def shut_down(self, name: str, grace_s: float) -> None:
        """As by the power button; after so long the current is cut. Returns when it is off."""
        ...

    def remove(self, name: str) -> None:
        """Nothing of it is left."""
        ...

    def console(self, name: str) -> str:
        """What it has printed."""
        ...


@dataclass(slots=True)
class Instances:
    """All of them. The rest is what a test does to the service.

    `exhausted`: zones, "zone/type" or "zone:model" without machines, which shows once an operation was read `late`
    times; `boot_s`: how long a machine takes to come; `failing`: it then switches itself off; `unreachable`: zones of
    which the lists say nothing; a machine that is taken back is told `warning_s` before its power button is pressed,
    and has `grace_s` from then on.
    """

    by_name: dict[tuple[str, str], Json] = field(default_factory=dict)
    operations: dict[str, Json] = field(default_factory=dict)
    rules: dict[str, Json] = field(default_factory=dict)
    exhausted: set[str] = field(default_factory=set)
    late: int = 0
    failing: bool = False
    boot_s: float = 0.0
    warning_s: float = 0.0
    grace_s: float = 30.0
    unreachable: set[str] = field(default_factory=set)
    machines: Machinery | None = None
    made: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    requests: dict[str, str] = field(default_factory=dict)
    frozen: list[Json] | None = None

    def listed(self) -> list[Json]:
        """As the lists show them: as they are, unless the lists are frozen."""
        with self.lock:
            return [dict(one) for _, one in sorted(self.by_name.items())] if self.frozen is None else self.frozen

    def freeze(self) -> None:
        """From now on lists show everything as it is now."""
        self.frozen = self.listed()

    def thaw(self) -> None:
        """Lists tell the truth again."""
        self.frozen = None

    def states(self) -> dict[str, str]:
        """What state each is in, by name."""
        self.look()
        return {name: one["status"] for (_, name), one in self.by_name.items()}

    def used(self, catalogue: Catalogue) -> dict[str, float]:
        """How much of the quotas for cpus is used."""
        total: dict[str, float] = {}
        for one in self.by_name.values():
            if one["status"] not in ("TERMINATED", "STOPPED"):
                kind = last(one["machineType"])
                metric = metric_of(kind)
                total[metric] = total.get(metric, 0.0) + catalogue.types[kind].cpus
        return total

    # -- what users ask for -------------------------------------------------------------------------------------------

    def insert(self, catalogue: Catalogue, zone: str, body: Json, request_id: str | None) -> Json:
        """See instances.insert."""
        with self.lock:
            if "compute.instances.create" in catalogue.denied:
                raise Refused(403, "forbidden", f"Required 'compute.instances.create' permission for '{zone}'")
            if request_id in self.requests:
                return self.operations[self.requests[request_id]]
            kind = self._check(catalogue, zone, body)
            one = self._new(zone, body)
            operation = self._operation("insert", zone, one)
            if request_id:
                self.requests[request_id] = operation["name"]
            model = body.get("scheduling", {}).get("provisioningModel", "STANDARD")
            if self.exhausted.intersection((zone, f"{zone}/{kind}", f"{zone}:{model}")):
                told = f"The zone 'projects/{PROJECT}/zones/{zone}' does not have enough resources available."
                return self._failed(operation, NO_ROOM, told)
            metric = metric_of(kind)
            left = catalogue.limits.get(metric, 1e9) - self.used(catalogue).get(metric, 0.0)
            if left < catalogue.types[kind].cpus:
                raise Refused(403, "quotaExceeded", f"Quota '{metric}' exceeded. Limit: {catalogue.limits[metric]}")
            self.by_name[zone, one["name"]] = one
            self.made += 1
        self._carried_out(operation, lambda: self._boot(one))
        return operation

    def delete(self, zone: str, name: str) -> Json:
        """See instances.delete."""
        one = self.find(zone, name)
        if one["status"] in ("PROVISIONING", "STAGING"):
            raise Refused(400, "resourceNotReady", f"The resource '{name}' is not ready")
        operation = self._operation("delete", zone, one)
        one["status"] = "STOPPING"
        self._carried_out(operation, lambda: self._end(one, grace_s=90.0))
        return operation

    def find(self, zone: str, name: str) -> Json:
        """An instance as it is now."""
        self.look()
        one = self.by_name.get((zone, name))
        if one is None:
            raise not_found(f"projects/{PROJECT}/zones/{zone}/instances", name)
        return one

    # -- what befalls them --------------------------------------------------------------------------------------------

    def preempt(self, name: str) -> None:
        """Take the machine back: it is told, shut down, and deleted as its scheduling says."""
        one = next(one for (_, known), one in self.by_name.items() if known == name)
        operation = self._operation("compute.instances.preempted", last(one["zone"]), one)

        def take_back() -> None:
            if self.machines is not None:
                self.machines.notify(name)
            time.sleep(self.warning_s)
            one["status"] = "STOPPING"
            self._end(one, self.grace_s)

        self._carried_out(operation, take_back)

    def switch_off(self, name: str) -> None:
        """The machine has switched itself off."""
        one = next(one for (_, known), one in self.by_name.items() if known == name)
        one.update(status="TERMINATED", lastStopTimestamp=stamp(time.time()))

    def look(self) -> None:
        """Notice which machines have switched themselves off, and end those whose time is over."""
        with self.lock:
            standing = list(self.by_name.items())
        for (zone, name), one in standing:
            if one["status"] != "RUNNING":
                continue
            if self.machines is not None and not self.machines.is_on(name):
                self.switch_off(name)
            longest = int(one.get("scheduling", {}).get("maxRunDuration", {}).get("seconds", 10**9))
            if time.time() - one["_began"] > longest:
                one["status"] = "STOPPING"
                self._carried_out(self._operation("delete", zone, one), lambda one=one: self._end(one, 1.0))  # type: ignore[misc]

    def remove_all(self) -> None:
        """Nothing stands any more."""
        for _, name in list(self.by_name):
            if self.machines is not None:
                self.machines.remove(name)
        self.by_name.clear()

    # -- how ----------------------------------------------------------------------------------------------------------

    def _check(self, catalogue: Catalogue, zone: str, body: Json) -> str:
        name, kind = body.get("name", ""), last(body.get("machineType", ""))
        if not _NAME.fullmatch(name):
            raise Refused(400, "invalid", f"Invalid value for field 'resource.name': '{name}'.")
        if (zone, name) in self.by_name:
            raise Refused(409, "alreadyExists", f"The resource 'instances/{name}' already exists")
        if kind not in catalogue.types or kind in catalogue.without.get(zone, ()):
            raise Refused(400, "invalid", f"Invalid value for field 'resource.machineType': '{kind}'.")
        for account in body.get("serviceAccounts", ()):
            if account["email"] not in (*catalogue.accounts, "default"):
                told = f"The resource '{account['email']}' of type 'serviceAccount' was not found."
                raise Refused(400, "invalid", told)
        told = {item["key"]: item["value"] for item in body.get("metadata", {}).get("items", ())}
        if catalogue.wants_os_login and told.get("enable-oslogin", "").upper() == "FALSE":
            policy = "Constraint constraints/compute.requireOsLogin violated"
            raise Refused(412, "conditionNotMet", f"{policy} for project {PROJECT}.")
        scheduling = body.get("scheduling", {})
        if scheduling.get("provisioningModel") == "SPOT" and scheduling.get("automaticRestart", True):
            raise Refused(400, "invalid", "Scheduling must have automaticRestart be false for spot machines.")
        return kind

    def _new(self, zone: str, body: Json) -> Json:
        now, place = time.time(), ("projects", PROJECT, "zones", zone)
        interface = {**body.get("networkInterfaces", [{}])[0], "networkIP": f"192.0.2.{self.made % 250 + 1}"}
        if interface.get("accessConfigs"):
            interface["accessConfigs"] = [{"natIP": f"198.51.100.{self.made % 250 + 1}"}]
        return {
            **body,
            "id": str(randbelow(2**62)),
            "status": "PROVISIONING",
            "creationTimestamp": stamp(now),
            "zone": link(*place),
            "machineType": link(*place, "machineTypes", last(body["machineType"])),
            "selfLink": link(*place, "instances", body["name"]),
            "networkInterfaces": [interface],
            "_began": now,
        }

    def _boot(self, one: Json) -> None:
        time.sleep(self.boot_s)
        if self.machines is not None:
            address = self.machines.start(one)
            one["networkInterfaces"] = [{"networkIP": address, "accessConfigs": [{"natIP": address}]}]
        one["status"] = "RUNNING"
        if self.failing:
            self.switch_off(one["name"])

    def _end(self, one: Json, grace_s: float) -> None:
        name = one["name"]
        if self.machines is not None:
            self.machines.shut_down(name, grace_s)
            self.machines.remove(name)
        with self.lock:
            self.by_name.pop((last(one["zone"]), name), None)

    def _operation(self, kind: str, zone: str, one: Json) -> Json:
        name, now = f"operation-{token_hex(8)}", time.time()
        place = ("projects", PROJECT, "zones", zone)
        operation = {
            "id": str(randbelow(2**62)),
            "name": name,
            "operationType": kind,
            "status": "RUNNING",
            "zone": link(*place),
            "targetId": one["id"],
            "targetLink": one["selfLink"],
            "insertTime": stamp(now),
            "selfLink": link(*place, "operations", name),
        }
        self.operations[name] = operation
        return operation

    def _carried_out(self, operation: Json, work: Callable[[], None]) -> None:
        """Now where that takes no time, else beside whoever asked."""

        def carry_out() -> None:
            work()
            operation.update(status="DONE", progress=100)

        if self.machines is None and not self.boot_s:
            carry_out()
        else:
            threading.Thread(target=carry_out, daemon=True).start()

    def read_operation(self, name: str) -> Json:
        """How far it is; one that is to fail later comes nearer to that."""
        operation = self.operations[name]
        if operation.get("_late"):
            operation["_late"] -= 1
            if not operation["_late"]:
                operation.update(operation.pop("_then"))
        return operation

    def _failed(self, operation: Json, code: str, message: str) -> Json:
        errors = [{"code": code, "message": message}]
        failed = {"status": "DONE", "httpErrorStatusCode": 503, "error": {"errors": errors}}
        operation.update({"_late": self.late, "_then": failed} if self.late else failed)
        return operation


def metric_of(kind: str) -> str:
    """The quota that counts the cpus of a type."""
    series = kind.partition("-")[0]
    return "CPUS" if series in ("e2", "n1") else f"{series.upper()}_CPUS"
