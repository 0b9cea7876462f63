"""The Docker runtime: an engine on this machine runs each attempt in a container of its own.

Here is what the runtime is asked (`base.Runtime`) and how its parts are put together: `docker_engine` talks to the
engine, `docker_create` says what is made, `docker_image` has images, `docker_slots` networks, `docker_run` follows a
container.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubeq.core.model import JobId, NodeName, TaskId
from kubeq.core.spec import Mount
from kubeq.errors import BackendError
from kubeq.machine import ProcessMark, has_ended, own_mark, shows_engine
from kubeq_consumer.runtimes.base import Execution
from kubeq_consumer.runtimes.docker_create import (
    WORK_INSIDE,
    Surroundings,
    container_name,
    giving_back_body,
    network_kind,
    pause_body,
    task_body,
)
from kubeq_consumer.runtimes.docker_created import DockerCreated, Made, Maker
from kubeq_consumer.runtimes.docker_engine import DEFAULT_URL, Document, Engine, EngineRefused
from kubeq_consumer.runtimes.docker_gate import Gate, can_have_gates
from kubeq_consumer.runtimes.docker_image import Images
from kubeq_consumer.runtimes.docker_run import Parts
from kubeq_consumer.runtimes.docker_slots import Place, SlotNetworks
from kubeq_consumer.runtimes.exec import exec_path
from kubeq_consumer.runtimes.sampler import Sampler

log = logging.getLogger(__name__)
REMOVAL_S = 30
"""How long a removal that somebody else began may take."""


class DockerRuntime:
    """Runs attempts as containers. `uid` and `gid` own the files; `state` is a directory of the agent's own.

    `label` begins the names of all labels, and tells apart several installations that share an engine.
    """

    name = "docker"

    def __init__(
        self,
        *,
        uid: int,
        gid: int,
        state: Path,
        engine_url: str = DEFAULT_URL,
        label: str = "kubeq",
    ) -> None:
        self._uid = uid
        self._gid = gid
        self._state = state
        self._label = label
        self._engine = Engine(engine_url)
        self._images = Images(self._engine)
        self._slots = SlotNetworks(self._engine, self._make_pause)
        self._sampler = Sampler()
        self._installed: Path | None = None
        self._gates: bool | None = None
        self._given_up: set[str] = set()

    def resolve(self, image: str) -> str:
        """The pinned name of an image, pulled if it is not there. Raises UsageError for what cannot be a name."""
        return self._images.resolve(image)

    def prepare(self, image: str) -> None:
        """Have the pinned image here."""
        self._images.facts(image)

    def create(self, execution: Execution) -> DockerCreated:
        """The container of an attempt, not started, in the network of its slot."""
        refuse_engine_socket(execution.mounts, [self._engine.socket_path])
        maker = Maker(slots=self._slots, make=self._make)
        parts = Parts(engine=self._engine, sampler=self._sampler, give_back=self._give_back, give_up=self._given_up.add)
        return DockerCreated(maker, parts, execution, self._make(execution))

    def leftovers(self) -> Sequence[DockerLeftover]:
        """Containers of agents that are dead now, and those that this runtime could not end or remove: one request."""
        found = []
        for container in self._engine.containers(f"{self._label}.agent"):
            labels: Mapping[str, str] = container.get("Labels") or {}
            mark = ProcessMark.parse(labels.get(f"{self._label}.agent", ""))
            if mark is not None and (has_ended(mark) or container["Id"] in self._given_up):
                found.append(self._leftover(str(container["Id"]), labels))
        return sorted(found, key=lambda leftover: leftover.task is None)  # networks last: tasks stand in them

    def close(self) -> None:
        """Remove the networks of the slots and close the connections. Safe twice."""
        self._slots.close()
        self._engine.close()

    def _make(self, execution: Execution) -> Made:
        try:
            return self._make_once(execution)
        except EngineRefused as error:
            log.info("task %s needs another try, perhaps with its image or network anew: %s", execution.task, error)
        assert execution.image is not None, "a container needs an image"
        self._images.forget(execution.image)  # somebody may have removed it since it was prepared
        place = self._place(execution)
        if place is not None:
            self._slots.drop_if_ended(place)
        return self._make_once(execution)

    def _place(self, execution: Execution) -> Place | None:
        """The namespace of its slot; None if it has one of its own, or the node's."""
        mode, per_slot = network_kind(execution.network)
        if not per_slot or self._program() is None:
            return None
        return Place(node=execution.node, slot=execution.slot, mode=mode)

    def _make_once(self, execution: Execution) -> Made:
        assert execution.image is not None, "a container needs an image"
        facts = self._images.facts(execution.image)
        mode, _ = network_kind(execution.network)
        joined = None
        place = self._place(execution)
        if place is not None:
            joined = (place, self._slots.join(place, execution.image))
            mode = f"container:{joined[1]}"
        gate = self._gate(execution)
        around = Surroundings(
            uid=self._uid,
            gid=self._gid,
            program=self._program(),
            gate=None if gate is None else gate.path,
            network_mode=mode,
            image_entrypoint=facts.entrypoint,
            image_sets_home=facts.sets_home,
            labels=self._labels_of(execution),
        )
        task = execution.task
        name = container_name(task.job, task.index, execution.attempt, secrets.token_hex(4))
        try:
            container = self._engine.create(name, task_body(execution, around))
        except BackendError:
            if gate is not None:
                gate.close()
            raise
        return Made(container=container, joined=joined, gate=gate)

    def _gate(self, execution: Execution) -> Gate | None:
        """A gate beside the work directory; None where this engine's containers could not be let through it."""
        if self._gates is None:
            self._gates = self._program() is not None and can_have_gates(self._engine.state())
        work = execution.work
        return Gate(work.with_name(f"{work.name}.{secrets.token_hex(4)}.gate")).make() if self._gates else None

    def _make_pause(self, place: Place, image: str) -> str:
        program = self._program()
        assert program is not None, "without our program every container has a namespace of its own"
        labels = {**self._agent_labels(place.node), f"{self._label}.pause": f"{place.slot}/{place.mode}"}
        name = container_name("pause", place.node, place.slot, place.mode, secrets.token_hex(4))
        return self._engine.create(name, pause_body(image, program, place.mode, labels))

    def _labels_of(self, execution: Execution) -> dict[str, str]:
        labels = {
            f"{self._label}.job": str(execution.task.job),
            f"{self._label}.task": str(execution.task.index),
            f"{self._label}.attempt": str(execution.attempt),
            **self._agent_labels(execution.node),
        }
        if self._must_give_back(execution):
            labels[f"{self._label}.owner"] = f"{self._uid}:{self._gid}"
        return labels

    def _agent_labels(self, node: NodeName) -> dict[str, str]:
        return {f"{self._label}.node": str(node), f"{self._label}.agent": str(own_mark())}

    def _program(self) -> Path | None:
        """kubeq-exec where the engine can mount it from; None if we have none for this machine."""
        if self._installed is None:
            source = exec_path(self._engine.machine())
            if source is None:
                return None
            self._installed = installed(source, self._state / "exec")
        return self._installed

    def _must_give_back(self, execution: Execution) -> bool:
        return execution.user is not None and self._uid != 0

    def _give_back(self, execution: Execution) -> None:
        """Files that a command made as another user become the submitting user's, so that the agent can read them."""
        if self._must_give_back(execution):
            assert execution.image is not None, "a container needs an image"
            owner = f"{self._uid}:{self._gid}"
            self._run_giving_back(execution.image, execution.work, owner, self._agent_labels(execution.node))

    def _run_giving_back(self, image: str, work: Path, owner: str, labels: Mapping[str, str]) -> None:
        body = giving_back_body(image, work, owner, self._program(), labels)
        container = self._engine.create(container_name("own", secrets.token_hex(8)), body)
        try:
            self._engine.start(container)
            while not self._engine.wait(container):
                pass
            found = self._engine.inspect(container)
            if found is None or found["State"]["ExitCode"] != 0:
                raise BackendError(f"not every file in {work} could be given to user {owner}")
        finally:
            self._engine.remove(container)

    def _leftover(self, container: str, labels: Mapping[str, str]) -> DockerLeftover:
        job, index = labels.get(f"{self._label}.job"), labels.get(f"{self._label}.task", "")
        return DockerLeftover(
            task=TaskId(JobId(job), int(index)) if job and index.isdigit() else None,
            attempt=int(labels.get(f"{self._label}.attempt", "0")),
            node=NodeName(labels.get(f"{self._label}.node", "")),
            container=container,
            runtime=self,
        )

    def _clear(self, container: str) -> None:
        found = self._engine.inspect(container)
        if found is None:
            self._given_up.discard(container)
            return
        self._engine.remove(container)
        deadline = time.monotonic() + REMOVAL_S
        while self._engine.inspect(container) is not None:
            if time.monotonic() > deadline:
                raise BackendError(f"container {container[:12]} could not be removed within {REMOVAL_S} s")
            time.sleep(0.05)
        self._given_up.discard(container)
        labels: Mapping[str, str] = found["Config"].get("Labels") or {}
        owner, work = labels.get(f"{self._label}.owner"), _work_of(found)
        if owner is not None and work is not None and work.is_dir():
            self._run_giving_back(
                found["Image"], work, owner, self._agent_labels(NodeName(labels[f"{self._label}.node"]))
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerLeftover:
    """A container whose agent is dead, or that its agent gave up."""

    task: TaskId | None
    attempt: int
    node: NodeName
    container: str
    runtime: DockerRuntime

    def remove(self) -> None:
        """Kill and remove it, and give its files back to their owner. Raises BackendError if that cannot be done."""
        self.runtime._clear(self.container)


def refuse_engine_socket(mounts: Iterable[Mount], sockets: Iterable[str]) -> None:
    """Raises BackendError for a mount that would show a container engine's socket: whoever has it owns the machine."""
    for mount in mounts:
        if shows_engine(mount.source, sockets):
            raise BackendError(
                f"the mount {mount.source}:{mount.target} would show the container engine's socket to the task",
                hint="mount a directory that does not hold it",
            )


def installed(program: Path, folder: Path) -> Path:
    """A copy of a program in a folder of ours, executable, named by its contents; made once."""
    content = program.read_bytes()
    place = folder / f"{program.name}.{hashlib.sha256(content).hexdigest()[:12]}"
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{secrets.token_hex(8)}"
        draft.write_bytes(content)
        draft.chmod(0o755)
        draft.rename(place)
    return place


def _work_of(container: Document) -> Path | None:
    mounts: Iterable[Mapping[str, str]] = container.get("Mounts") or ()
    return next((Path(mount["Source"]) for mount in mounts if mount["Destination"] == WORK_INSIDE), None)
