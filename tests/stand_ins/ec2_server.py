"""An emulated EC2, IAM and Systems Manager: moto, one request at a time, with instances that live and die.

A program for an environment of its own that has moto and not kubeq: `python ec2_server.py PORT [IMAGE NETWORK
LABEL VALUE OUTSIDE IMAGES]`.
Without an image its instances are records that run nothing. moto keeps the account; here is what it lacks: idempotent
launches, machines that come up, run, shut down and are gone one after the other, the reasons for that, console output,
quotas, today's image parameters, and all that goes wrong in a cloud, on order (`Faults`).
"""

from __future__ import annotations

import base64
import datetime
import io
import json
import os
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

for variable in ("MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION", "MOTO_ENABLE_AMI_VALIDATION"):
    os.environ[variable] = "true"
sys.path.insert(0, str(Path(__file__).parent))  # not `tests`: its package needs pytest

from ec2_machine import Machine, Machines  # type: ignore[import-not-found]  # noqa: E402
from moto.ec2.models import ec2_backends  # noqa: E402
from moto.ec2.models.instances import Instance, InstanceBackend  # noqa: E402
from moto.moto_server.werkzeug_app import (  # noqa: E402
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import run_simple  # noqa: E402

ACCOUNT = "123456789012"
UBUNTU = "ami-785db401"
"""An image of Ubuntu that moto knows in every region."""
PARAMETERS = ("/aws/service/canonical/ubuntu/server/", "/aws/service/deeplearning/ami/")
TICK_S = 0.05
CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
WHY = {
    "Client.UserInitiatedShutdown": "User initiated shutdown",
    "Client.InstanceInitiatedShutdown": "Instance initiated shutdown",
    "Server.InternalError": "Internal error on launch",
    "Server.SpotInstanceTermination": "Spot instance termination",
}


@dataclass
class Faults:
    """What goes wrong, until it is set otherwise; all of it can be set by name.

    `no_room`: (type, zone, class) without capacity, "*" for any. `refuse`: an operation's code and message, for the
    next so many requests (0: all). `lost`: of so many requests of an operation the answer is lost. `gone`: nobody
    answers. Seconds: `pending_s` a machine takes to come up, `hidden_s` a new one is not listed, `dies_s` after which
    one that came up fails. `held`: none can be terminated while it is pending. `most`: so many may stand at once.
    `quotas`: by their codes. `spot_price`: of types that cost so much on the spot market, more than on demand.
    """

    no_room: list[list[str]] = field(default_factory=list)
    refuse: dict[str, list[Any]] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    gone: bool = False
    pending_s: float = 0.0
    hidden_s: float = 0.0
    dies_s: float | None = None
    held: bool = False
    most: int | None = None
    quotas: dict[str, float] = field(default_factory=dict)
    spot_price: dict[str, float] = field(default_factory=dict)


@dataclass
class Life:
    """An instance in time; `machine` is what it runs on, if it runs."""

    instance: Any
    born: float
    machine: Machine | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    printed: str = ""
    busy: bool = False
    dies: float | None = None

    def console(self) -> str:
        return self.machine.console() if self.machine is not None else self.printed


class Refusal(Exception):
    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code)
        self.code, self.message, self.status = code, message, status


class StandIn:
    """The account, as a WSGI application."""

    def __init__(self, machines: Machines | None) -> None:
        self.machines = machines
        self.lock = threading.RLock()
        self.listing = False
        self.reset()
        self._moto = DomainDispatcherApplication(create_backend_app)

    def reset(self) -> None:
        self.faults = Faults()
        self.lives: dict[str, Life] = {}
        self.calls: Counter[str] = Counter()
        self.launches: dict[str, tuple[dict[str, str], Any]] = {}
        self.requests: list[dict[str, str]] = []

    def __call__(self, environ: Any, start: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if environ["PATH_INFO"].startswith("/_stand-in/"):
            return self._ordered(environ["PATH_INFO"].rpartition("/")[2], json.loads(body or b"{}"), start)
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        form = {} if target else dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        operation = target.rpartition(".")[2] or form.get("Action", "")
        if self.faults.gone:
            return self._drop(environ, start)
        with self.lock:
            self.calls[operation] += 1
            self.listing = operation == "DescribeInstances"
            try:
                self._refuse(operation)
                answer = self._answer(operation, form, body, environ, target)
            except Refusal as refusal:
                answer = _error(refusal)
            if self.faults.lost.get(operation, 0) > 0:
                self.faults.lost[operation] -= 1
                return self._drop(environ, start)
        status, headers, content = answer
        start(status, headers)
        return content

    # What is answered

    def _answer(self, operation: str, form: dict[str, str], body: bytes, environ: Any, target: str) -> Any:
        if operation == "GetParameter" and json.loads(body)["Name"].startswith(PARAMETERS):
            return _json({"Parameter": {"Name": json.loads(body)["Name"], "Type": "String", "Value": UBUNTU}})
        if operation == "GetServiceQuota":
            code = json.loads(body)["QuotaCode"]
            return _json(
                {"Quota": {"ServiceCode": "ec2", "QuotaCode": code, "Value": self.faults.quotas.get(code, 640.0)}}
            )
        if operation == "DescribeSpotPriceHistory":
            return self._spot_prices(form, environ)
        if operation == "GetConsoleOutput":
            return self._console(form["InstanceId"])
        if operation == "DescribeRegions" and form.get("RegionName.1"):
            found = self._moto_says(environ)
            if b"<regionName>" not in b"".join(found[2]):
                raise Refusal("InvalidParameterValue", f"Invalid region provided: {form['RegionName.1']}")
            return found
        if operation == "RunInstances" and form.get("DryRun") != "true":
            return self._run(form, environ)
        for key, text in form.items():
            if key.endswith(("GroupDescription", ".Description")):
                _described_well(key, text)
        if operation == "DeleteSecurityGroup":
            self._unused(form["GroupId"])
        if operation == "TerminateInstances":
            self._let_go([value for key, value in form.items() if key.startswith("InstanceId.")])
        return self._moto_says(environ)

    def _moto_says(self, environ: Any) -> tuple[str, Any, list[bytes]]:
        said: list[Any] = []
        content = list(self._moto(environ, lambda status, headers, *_: said.extend((status, headers))))
        return said[0], said[1], content

    def _run(self, form: dict[str, str], environ: Any) -> Any:
        """A launch: once for a token, where there is room."""
        self.requests.append(form)
        token = form.get("ClientToken", "")
        asked = {key: value for key, value in form.items() if key != "ClientToken"}
        if token and token in self.launches:
            before, answer = self.launches[token]
            if before != asked:
                raise Refusal(
                    "IdempotentParameterMismatch",
                    "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
                )
            return answer
        backend = ec2_backends[ACCOUNT][_region(environ)]
        zone = backend.get_subnet(form.get("SubnetId") or form["NetworkInterface.1.SubnetId"]).availability_zone
        spot = form.get("InstanceMarketOptions.MarketType") == "spot"
        self._room(form["InstanceType"], zone, "spot" if spot else "on-demand")
        if len(base64.b64decode(form.get("UserData", ""))) > 16 * 1024:
            raise Refusal("InvalidParameterValue", "User data is limited to 16384 bytes")
        known = {instance.id for instance in backend.all_instances()}
        answer = self._moto_says(environ)
        new = [instance for instance in backend.all_instances() if instance.id not in known]
        for instance in new:
            self._born(instance, form)
        if new and token:
            self.launches[token] = (asked, answer)
        return answer

    def _room(self, kind: str, zone: str, market: str) -> None:
        for wanted in self.faults.no_room:
            if all(pattern in ("*", here) for pattern, here in zip(wanted, (kind, zone, market), strict=True)):
                raise Refusal(
                    "InsufficientInstanceCapacity",
                    f"We do not have sufficient {kind} capacity in the Availability Zone you requested ({zone}).",
                    500,
                )
        standing = [life for life in self.lives.values() if life.instance.state != "terminated"]
        if self.faults.most is not None and len(standing) >= self.faults.most:
            raise Refusal("VcpuLimitExceeded", "You have requested more vCPU capacity than your current limit allows.")
        if market == "spot" and kind in self.faults.spot_price:
            raise Refusal(
                "SpotMaxPriceTooLow", f"Your Spot request price is lower than {self.faults.spot_price[kind]}."
            )

    def _unused(self, group: str) -> None:
        standing = [life.instance for life in self.lives.values() if life.instance.state != "terminated"]
        groups = (each for instance in standing for nic in instance.nics.values() for each in nic.group_set)
        if any(group == each.id for each in groups):
            raise Refusal("DependencyViolation", f"resource {group} has a dependent object")

    def _let_go(self, ids: list[str]) -> None:
        states = {id: self.lives[id].instance.state for id in ids if id in self.lives}
        held = [id for id, state in states.items() if state == "pending"] if self.faults.held else []
        if held:
            raise Refusal(
                "IncorrectInstanceState", f"The instance '{held[0]}' is not in a state from which it can be terminated."
            )

    def _refuse(self, operation: str) -> None:
        rule = self.faults.refuse.get(operation) or self.faults.refuse.get("*")
        if rule is None:
            return
        code, message, times = rule
        if times == 1:
            self.faults.refuse.pop(operation, None)
        elif times > 1:
            rule[2] = times - 1
        raise Refusal(code, message, 503 if code in ("RequestLimitExceeded", "Unavailable") else 400)

    def _console(self, id: str) -> Any:
        life = self.lives.get(id)
        if life is None:
            raise Refusal("InvalidInstanceID.NotFound", f"The instance ID '{id}' does not exist")
        output = base64.b64encode(life.console().encode()).decode()
        inner = f"<instanceId>{id}</instanceId><timestamp>2026-01-01T00:00:00Z</timestamp><output>{output}</output>"
        return _xml("GetConsoleOutputResponse", inner)

    def _spot_prices(self, form: dict[str, str], environ: Any) -> Any:
        """A third of a dollar for two processors, a cent more in each further zone."""
        zones = [zone.name for zone in ec2_backends[ACCOUNT][_region(environ)].describe_availability_zones()]
        types = [value for key, value in form.items() if key.startswith("InstanceType.")]
        items = "".join(
            f"<item><instanceType>{kind}</instanceType><productDescription>Linux/UNIX</productDescription>"
            f"<spotPrice>{_price(kind) * 0.3 + 0.01 * number:.4f}</spotPrice>"
            f"<timestamp>2026-01-01T00:00:00Z</timestamp><availabilityZone>{zone}</availabilityZone></item>"
            for kind in types
            for number, zone in enumerate(zones)
        )
        return _xml("DescribeSpotPriceHistoryResponse", f"<spotPriceHistorySet>{items}</spotPriceHistorySet>")

    # What becomes of instances

    def _born(self, instance: Any, form: dict[str, str]) -> None:
        life = Life(instance=instance, born=time.monotonic())
        self.lives[instance.id] = life
        _state(instance, "pending")
        if self.machines is not None:
            life.busy = True
            life.metadata = _metadata(instance, form)
            user_data = base64.b64decode(form.get("UserData", ""))
            threading.Thread(target=self._boot, args=(life, user_data), daemon=True).start()
        elif self.faults.pending_s <= 0:
            self._up(life)

    def _boot(self, life: Life, user_data: bytes) -> None:
        assert self.machines is not None
        machine = self.machines.start(life.instance.id, user_data, life.metadata)
        for nic in life.instance.nics.values():
            nic.private_ip_address, nic.public_ip = machine.address, None
        with self.lock:
            life.machine, life.busy = machine, False
            if life.instance.state == "shutting-down":  # ended while it came up
                self._down(life, "terminated")

    def _up(self, life: Life) -> None:
        _state(life.instance, "running")
        if self.faults.dies_s is not None:
            life.dies = time.monotonic() + self.faults.dies_s

    def tick(self) -> None:
        """What happens by itself."""
        while True:
            time.sleep(TICK_S)
            with self.lock:
                for life in list(self.lives.values()):
                    self._pass_time(life, time.monotonic())

    def _pass_time(self, life: Life, now: float) -> None:
        instance = life.instance
        if instance.state == "pending" and not life.busy and now >= life.born + self.faults.pending_s:
            self._up(life)
        if instance.state == "running" and life.dies is not None and now >= life.dies:
            self._die(life, "Server.InternalError")
        if instance.state == "running" and life.machine is not None and not life.busy and life.machine.is_off():
            spot = instance.lifecycle == "spot"
            ends = spot or instance.instance_initiated_shutdown_behavior == "terminate"
            self._down(life, "terminated" if ends else "stopped", "Client.InstanceInitiatedShutdown")

    def _die(self, life: Life, code: str) -> None:
        if life.machine is not None:
            life.machine.cut_power()
        self._down(life, "terminated", code)

    def ended(self, instance: Any) -> None:
        """moto has terminated it; here it takes a while."""
        life = self.lives.get(instance.id)
        if life is None or self.machines is None:
            return
        if life.machine is not None or life.busy:
            _state(instance, "shutting-down", "Client.UserInitiatedShutdown")
        if life.machine is not None and not life.busy:
            self._down(life, "terminated")

    def _down(self, life: Life, state: str, code: str = "Client.UserInitiatedShutdown") -> None:
        machine, life.busy = life.machine, True
        if machine is None:
            self._off(life, state, code)
            return
        _state(life.instance, "shutting-down" if state == "terminated" else "stopping", code)

        def end() -> None:
            machine.shut_down()
            life.printed = machine.console()
            if state == "terminated":
                machine.remove()
            with self.lock:
                life.machine = None
                self._off(life, state, code)

        threading.Thread(target=end, daemon=True).start()

    def _off(self, life: Life, state: str, code: str) -> None:
        if state == "terminated" and life.instance.block_device_mapping:
            _terminate(life.instance)
        _state(life.instance, state, code)
        life.busy = False

    def preempt(self, names: list[str], notice_s: float) -> None:
        """Take back the machines of those nodes, after they were told."""
        for life in self.lives.values():
            tags = {tag["key"]: tag["value"] for tag in life.instance.get_tags()}
            if tags.get("kubeq-node") in names and life.instance.state in ("pending", "running"):
                at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=notice_s)
                if life.machine is not None:
                    action = {"action": "terminate", "time": at.strftime("%Y-%m-%dT%H:%M:%SZ")}
                    life.metadata["meta-data/spot/instance-action"] = json.dumps(action)
                    life.machine.tell(life.metadata)
                threading.Timer(notice_s, self._reclaim, [life]).start()

    def _reclaim(self, life: Life) -> None:
        with self.lock:
            if life.instance.state in ("pending", "running"):
                self._die(life, "Server.SpotInstanceTermination")

    def hides(self, instance: Any) -> bool:
        life = self.lives.get(instance.id)
        return self.listing and life is not None and time.monotonic() < life.born + self.faults.hidden_s

    # What the tests order

    def _ordered(self, order: str, told: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        answer: Any = None
        with self.lock:
            if order == "reset":
                for life in self.lives.values():
                    if life.machine is not None:
                        life.machine.remove()
                self.reset()
            elif order == "faults":
                for name, value in told.items():
                    assert hasattr(self.faults, name), name
                    setattr(self.faults, name, value)
            elif order == "preempt":
                self.preempt(told["nodes"], told["notice_s"])
            elif order == "calls":
                answer = dict(self.calls)
            elif order == "requests":
                answer = self.requests
            elif order == "consoles":
                answer = {
                    _described(life.instance)["tags"].get("kubeq-node", ""): life.console()
                    for life in self.lives.values()
                }
            elif order == "machines":
                answer = [_described(life.instance) for life in self.lives.values()]
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    def _drop(self, environ: Any, start: Callable[..., Any]) -> Iterable[bytes]:
        """The connection breaks."""
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        start("503 Gone", [])
        return []


def _described_well(key: str, text: str) -> None:
    """Which characters descriptions of security groups and their rules may hold; moto takes any."""
    if re.search(r"[^A-Za-z0-9 ._:/()#,@\[\]+=&;{}!$*-]", text):
        raise Refusal("InvalidParameterValue", f"Invalid value '{text}' for {key}. Valid descriptions are a-z, ...")


def _price(kind: str) -> float:
    sizes = {"large": 1, "xlarge": 2, "2xlarge": 4, "4xlarge": 8, "8xlarge": 16}
    return 0.1 * sizes.get(kind.rpartition(".")[2], 20)


def _state(instance: Any, state: str, code: str | None = None) -> None:
    instance._state.name, instance._state.code = state, CODES[state]
    if code is not None:
        instance.state_reason.code, instance.state_reason.message = code, f"{code}: {WHY[code]}"
        instance._reason = WHY[code]


def _described(instance: Any) -> dict[str, Any]:
    return {
        "id": instance.id,
        "state": instance.state,
        "code": instance.state_reason.code,
        "type": instance.instance_type,
        "zone": instance.availability_zone,
        "lifecycle": instance.lifecycle,
        "tags": {tag["key"]: tag["value"] for tag in instance.get_tags()},
    }


def _metadata(instance: Any, form: dict[str, str]) -> dict[str, str]:
    keys = {"AccessKeyId": "test", "SecretAccessKey": "test", "Token": "of-this-machine", "Code": "Success"}
    expires = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    identity = {
        "meta-data/iam/security-credentials/": "node",
        "meta-data/iam/security-credentials/node": json.dumps({**keys, "Type": "AWS-HMAC", "Expiration": expires}),
    }
    has_identity = any(key.startswith("IamInstanceProfile.") for key in form)
    return {
        "meta-data/instance-id": instance.id,
        "meta-data/instance-type": instance.instance_type,
        "meta-data/placement/availability-zone": instance.availability_zone,
        "meta-data/placement/region": instance.region_name,
        **(identity if has_identity else {}),
    }


def _region(environ: Any) -> str:
    return str(environ.get("HTTP_AUTHORIZATION", "").split("/")[2])


def _xml(name: str, inner: str) -> Any:
    text = f'<{name} xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId>{inner}</{name}>'
    return "200 OK", [("Content-Type", "text/xml")], [text.encode()]


def _json(value: Any) -> Any:
    return "200 OK", [("Content-Type", "application/x-amz-json-1.1")], [json.dumps(value).encode()]


def _error(refusal: Refusal) -> Any:
    inner = f"<Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message>"
    text = f"<Response><Errors><Error>{inner}</Error></Errors><RequestID>r</RequestID></Response>"
    return f"{refusal.status} No", [("Content-Type", "text/xml")], [text.encode()]


_terminate = Instance.terminate
_all_reservations = InstanceBackend.all_reservations


def main(port: int, machines: Machines | None) -> None:
    account = StandIn(machines)

    def terminate(instance: Any) -> Any:
        previous = _terminate(instance)
        account.ended(instance)
        return previous

    def all_reservations(backend: Any, filters: Any = None) -> Any:
        found = _all_reservations(backend, filters)
        for reservation in found:
            reservation.instances = [one for one in reservation.instances if not account.hides(one)]
        return found

    Instance.terminate = terminate
    InstanceBackend.all_reservations = all_reservations
    threading.Thread(target=account.tick, daemon=True).start()
    run_simple("127.0.0.1", port, account, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    number, *words = sys.argv[1:]
    if words:
        image, network, label, value, outside, images = words
        main(int(number), Machines(image, network, (label, value), outside, images))
    else:
        main(int(number), None)
