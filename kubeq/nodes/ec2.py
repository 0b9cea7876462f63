"""Nodes that are EC2 instances of one region: made, seen and ended through EC2's API, which alone remembers them.

How a machine becomes a node is in `machine_boot`. What fits and what it costs is found out in `ec2_plan`, one machine
is made in `ec2_launch`, who may connect is in `ec2_group`, and how things are known as kubeq's in `ec2_tags`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

from kubeq.core.machines import Machine, Machines, Offer
from kubeq.core.model import Node, NodeName, PoolId, Reach
from kubeq.core.resources import Resources
from kubeq.errors import BackendError, NotFound, UsageError
from kubeq.nodes.base import HostSeen, Launched, NodeCapabilities, NodeRequest, Observation, Owned, Refused
from kubeq.nodes.ec2_calls import Ec2Calls, Said
from kubeq.nodes.ec2_group import AddressSeenBy, address_seen_by, forget_group, open_to_caller, pool_group
from kubeq.nodes.ec2_launch import Launcher, check_allowed
from kubeq.nodes.ec2_plan import PROVIDER, Plan, plan_for
from kubeq.nodes.ec2_tags import LIVING, STANDING, by_name, machines_seen, own_tags
from kubeq.nodes.machine_boot import EC2, machine_text
from kubeq.nodes.prices import Price
from kubeq.nodes.ssh_keys import forget_key, key_path

LOOK_S = 5.0
MOST_AT_ONCE = 16
"""Launches that are under way at once; each has a thread that mostly waits."""
MOST_NAMES = 200
"""Values of one filter (Amazon EC2 API Reference, "Filter")."""
NOT_YET = {"IncorrectInstanceState", "IncorrectState"}
NOT_AT_ALL = {"OperationNotPermitted", "UnsupportedOperation"}
UNKNOWN = {"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"}
PLAN_S = 120.0
"""So long a launch goes by what was offered: a submission asks for both, one after the other."""
LISTED_S = 600.0
"""After so long a machine that was made is listed for everybody, by a wide margin."""
USER = "root"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ec2Settings:
    """What the provider is told. `through_ssm`: one connects through AWS's Session Manager and opens no port.

    `caller` is as whom port 22 is opened, `address_seen_by` from where that one comes.
    """

    region: str
    state_dir: Path
    price: Price
    caller: str = ""
    through_ssm: bool = False
    address_seen_by: AddressSeenBy = field(default=address_seen_by)


class Ec2Provider:
    """A NodeProvider whose nodes are EC2 instances. Makes no request until it is asked something."""

    name: ClassVar[str] = PROVIDER
    capabilities: NodeCapabilities = NodeCapabilities(reach=Reach.NETWORK, costs_money=True, look_every_s=LOOK_S)

    def __init__(self, settings: Ec2Settings, calls: Ec2Calls | None = None) -> None:
        self._settings = settings
        self._calls = calls or Ec2Calls(region=settings.region)
        self._fresh: dict[NodeName, tuple[str, float]] = {}
        self._plan: tuple[Plan, float] | None = None

    def largest(self) -> Resources | None:
        """Not known before it is known what the machines are to be."""
        return None

    def usual(self, tasks: int) -> int:
        """One machine, as long as nobody asks for more: each costs money."""
        return 1

    def offers(self, machines: Machines) -> Sequence[Offer]:
        """See NodeProvider. The first is also tried out (`DryRun`), so that a lack of permission is known now."""
        self._check_region(machines)
        plan = plan_for(self._calls, machines, self._settings.price)
        check_allowed(self._calls, plan)
        self._plan = plan, self._calls.time.now()
        return plan.offers

    def owned(self) -> Sequence[Owned]:
        """See NodeProvider. Those of this region."""
        return [seen.owned() for seen in machines_seen(self._calls, STANDING)]

    def boot_text(self, request: NodeRequest, name: NodeName, number: int, machine: Machine) -> str | None:
        """See NodeProvider."""
        return machine_text(request, name, number, machine, EC2)

    def console(self, name: NodeName) -> str | None:
        """See NodeProvider. EC2 keeps it for an hour after the machine has ended."""
        found = by_name(machines_seen(self._calls, node=[name])).get(name)
        if found is None:
            return None
        for latest in (True, False):  # types of an old kind have but what AWS has kept of itself
            ask = partial(self._calls.ec2.get_console_output, InstanceId=found.id, Latest=latest)
            with suppress(Said):
                answer = self._calls.ask(f"the console of {found.id}", ask, expected={*UNKNOWN, *NOT_YET, *NOT_AT_ALL})
                return answer.get("Output") or None
        return None

    def look(self, pool: PoolId) -> Sequence[HostSeen]:
        """See NodeProvider. It has no hosts of the user's."""
        return ()

    def launch(self, request: NodeRequest, names: Mapping[NodeName, int]) -> Mapping[NodeName, Launched | Refused]:
        """See NodeProvider. One RunInstances a name, side by side."""
        machines = request.machines
        if machines is None:
            raise UsageError("it is not said what the pool's machines are to be", hint="name a region and a type")
        self._check_region(machines)
        standing = by_name(machines_seen(self._calls, LIVING, pool=[request.pool]))
        answers: dict[NodeName, Launched | Refused] = {
            name: Launched(name=name, machine=standing[name].machine) for name in names if name in standing
        }
        left = [name for name in names if name not in answers]
        if not left:
            return answers
        plan = self._plan_for(machines)
        group = pool_group(self._calls, request.pool, plan.network, machines.ports, own_tags(request))
        launcher = Launcher(calls=self._calls, request=request, plan=plan, groups=(group,))
        threads = ThreadPoolExecutor(min(len(left), MOST_AT_ONCE), thread_name_prefix=PROVIDER)
        try:
            made = threads.map(lambda name: self._noted(launcher.start(name, names[name])), left)
            return answers | {answer.name: answer for answer in made}
        finally:
            threads.shutdown(cancel_futures=True)  # who is interrupted starts no more, and knows of those that came

    def observe(self, pool: PoolId) -> Mapping[NodeName, Observation]:
        """See NodeProvider. One DescribeInstances; EC2 forgets a machine about an hour after it has ended."""
        return {name: seen.observation() for name, seen in by_name(machines_seen(self._calls, pool=[pool])).items()}

    def silent(self, pool: PoolId) -> Mapping[str, str]:
        """See NodeProvider. `observe` learns of all or fails."""
        return {}

    def terminate(self, names: Sequence[NodeName]) -> None:
        """See NodeProvider. The machine shuts down, of which its agent is told by a TERM, and is gone.

        Also one that was made here a moment ago, which EC2 lists for nobody yet.
        """
        for start in range(0, len(names), MOST_NAMES):
            part = names[start : start + MOST_NAMES]
            seen = {one.id: one.name for one in machines_seen(self._calls, STANDING, node=part)}
            now = self._calls.time.now()
            fresh = {name: id for name, (id, made_at) in self._fresh.items() if now - made_at < LISTED_S}
            self._end(seen | {fresh[name]: name for name in part if name in fresh})
            for name in part:
                self._fresh.pop(name, None)

    def command(self, node: Node, words: Sequence[str], *, terminal: bool) -> list[str]:
        """See NodeProvider. OpenSSH's client with the pool's key, after port 22 was opened to this machine."""
        seen = by_name(machines_seen(self._calls, LIVING, node=[node.name])).get(node.name)
        if seen is None or seen.address is None:
            raise NotFound(f"EC2 has no machine of {node.name} any more", hint="kubeq nodes lists those there are")
        key = key_path(self._settings.state_dir, node.pool)
        if not key.is_file():
            raise NotFound(f"the key of pool {node.pool} is not on this machine", hint="use the machine that made it")
        if not self._settings.through_ssm:
            mine = self._settings.address_seen_by(seen.address, seen.private)
            open_to_caller(self._calls, node.pool, self._settings.caller, mine)
        options = [
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=accept-new",
            f"UserKnownHostsFile={key.with_name('known_hosts')}",
            f"HostKeyAlias={node.name}",  # a name is never used again, an address soon
            *([] if terminal else ["BatchMode=yes"]),
            *([f"ProxyCommand={self._session_manager(seen.id)}"] if self._settings.through_ssm else []),
        ]
        return [
            *("ssh", "-t" if terminal else "-T", "-l", USER, "-i", str(key)),
            *(word for option in options for word in ("-o", option)),
            *("--", seen.address, *([shlex.join(["/bin/sh", "-c", shlex.join(words)])] if words else [])),
        ]

    def forget(self, pool: PoolId | None, older_s: float) -> None:
        """See NodeProvider. The security group goes once no machine is in it, and the pool's key."""
        if pool is not None:  # an account has pools of other people too
            forget_group(self._calls, pool, older_s)
            key_path(self._settings.state_dir, pool).with_name("known_hosts").unlink(missing_ok=True)
            forget_key(self._settings.state_dir, pool)

    def _check_region(self, machines: Machines) -> None:
        if machines.region != self._settings.region:
            raise UsageError(
                f"the pool's machines are to be in {machines.region}, and this is {self._settings.region}",
                hint=f"set region = {machines.region}",
            )

    def _plan_for(self, machines: Machines) -> Plan:
        """What was found out a moment ago if it is about the same machines, or is found out now."""
        if self._plan is not None:
            plan, made_at = self._plan
            if plan.machines == machines and self._calls.time.now() - made_at < PLAN_S:
                return plan
        return plan_for(self._calls, machines, self._settings.price)

    def _noted(self, answer: Launched | Refused) -> Launched | Refused:
        """The same; a machine that was made is known here before anybody lists it."""
        if isinstance(answer, Launched) and answer.machine is not None and answer.machine.id is not None:
            self._fresh[answer.name] = answer.machine.id, self._calls.time.now()
        return answer

    def _end(self, machines: Mapping[str, NodeName]) -> None:
        """End the machines of those ids; one that EC2 does not let go yet, or does not know yet, is asked for again."""
        if not machines:
            return
        ec2, fresh = self._calls.ec2, {id for id, _ in self._fresh.values()}
        unready = NOT_YET | UNKNOWN if len(machines) == 1 and fresh & machines.keys() else NOT_YET
        try:
            self._calls.ask(
                f"the machines of {', '.join(list(machines.values())[:3])}",
                lambda: ec2.terminate_instances(InstanceIds=list(machines)),
                expected={*UNKNOWN, *NOT_YET, *NOT_AT_ALL},
                again=lambda said: said.code in unready,
            )
        except Said as said:
            if len(machines) > 1:  # what is said of one keeps all the others from being ended
                self._end_each(machines)
            elif said.code not in UNKNOWN:
                (id,) = machines
                raise BackendError(
                    f"the machine {id} of {machines[id]} cannot be ended: {said}",
                    hint="kubeq nodes --orphans shows and ends what is left",
                ) from said

    def _end_each(self, machines: Mapping[str, NodeName]) -> None:
        errors = []
        for id, name in machines.items():
            try:
                self._end({id: name})
            except BackendError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _session_manager(self, instance: str) -> str:
        """AWS's own way in, which needs its command line with the session-manager-plugin."""
        words = ["aws", "ssm", "start-session", "--region", self._settings.region, "--target", instance]
        return shlex.join([*words, "--document-name", "AWS-StartSSHSession", "--parameters", "portNumber=%p"])
