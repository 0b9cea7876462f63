"""Preparing an attempt: everything but the start, so that it can be done while others run.

What every attempt on a node works with (`Node`) is here too: it is what preparing needs.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kubeq.core.clock import Clock
from kubeq.core.digest import Digest
from kubeq.core.images import is_image_id
from kubeq.core.manifest import Manifest
from kubeq.core.model import Reach
from kubeq.core.requests import Requests
from kubeq.core.spec import JobSpec, command_of
from kubeq.core.wire import decode_spec
from kubeq.errors import (
    AccessDenied,
    BackendError,
    ImageUnavailable,
    IntegrityError,
    KubeqError,
    ObjectNotFound,
    UsageError,
    VersionMismatch,
)
from kubeq.queue.claims import Claims, Grant
from kubeq.store.blobs import Blobs
from kubeq.store.checkpoints import Checkpoints
from kubeq.store.outputs import Outputs
from kubeq_consumer.blobcache import BlobCache
from kubeq_consumer.capture import Capture
from kubeq_consumer.checkpointing import Keeping
from kubeq_consumer.environment import environment_of, gpu_variables
from kubeq_consumer.finishing import Finisher
from kubeq_consumer.outfitting import Outfitter
from kubeq_consumer.packages import Packages
from kubeq_consumer.peers import FILE, FOLDER
from kubeq_consumer.remotes import Remotes
from kubeq_consumer.runtimes.base import Created, Execution, Runtime
from kubeq_consumer.settings import AgentConfig
from kubeq_consumer.shipping import Shipper
from kubeq_consumer.staging import Staged, stage_in

PINNED = "image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What every attempt on this node works with."""

    config: AgentConfig
    clock: Clock
    now: Callable[[], float]
    requests: Callable[[], Requests]
    """How many requests this agent has made of queue and store."""
    claims: Claims
    blobs: Blobs
    outputs: Outputs
    checkpoints: Checkpoints
    cache: BlobCache
    remotes: Remotes
    outfitter: Outfitter
    packages: Packages
    shipper: Shipper
    finisher: Finisher
    runtime_for: Callable[[JobSpec, bool], Runtime]
    """The runtime of a job; with True, cleared anew of what dead agents left on this machine."""
    leaving: threading.Event
    """Set when this agent has been told to give back what it has: nothing is waited for any more."""
    starting: threading.Semaphore
    """How many commands may be in the middle of their start: more than this gains nothing (performance notes)."""
    total_memory: int | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """An attempt that could start at once."""

    spec: JobSpec
    command: list[str]
    image: str | None
    staged: Staged
    created: Created
    capture: Capture
    keeping: Keeping


class Unrunnable(KubeqError):
    """The runtime refuses what the job asks for (a mount that does not exist, say); it would so everywhere."""


FAULTS_OF_THE_TASK = (ObjectNotFound, IntegrityError, UsageError, VersionMismatch, Unrunnable)
"""What preparing raises that would be so on any node."""


def prepare(node: Node, grant: Grant, slot: int, folder: Path, devices: tuple[int, ...] = ()) -> Prepared:
    """Stage in, pin and pull the image, create the container, which sees those GPUs.

    Raises one of FAULTS_OF_THE_TASK, ImageUnavailable for its image, and BackendError for what this node, its engine,
    queue or store cannot do now.
    """
    try:
        return _prepare(node, grant, slot, folder, devices)
    except OSError as error:
        raise BackendError(f"{error.filename or folder}: {error.strerror or error}", transient=True) from error


def _prepare(node: Node, grant: Grant, slot: int, folder: Path, devices: tuple[int, ...]) -> Prepared:
    task = grant.task
    spec = spec_of(node.blobs, grant.job.spec)
    _refuse_credentials(node.config, spec)
    # An earlier attempt may still run here although its agent is dead; two must never run beside each other.
    runtime = node.runtime_for(spec, grant.attempt > 1)
    work = _empty_folder(folder)
    inputs = task.inputs or spec.inputs
    manifest = node.blobs.read_manifest(inputs) if inputs else Manifest()
    staged = stage_in(manifest, node.cache, node.remotes, work)
    _have_directory(work, spec)
    keeping = Keeping(node.checkpoints, node.clock, node.leaving, node.config.saving_s, folder)
    keeping.restore(task.id, grant.attempt, open_to_all=spec.user is not None)
    image = _pin(node, grant, spec, runtime)
    if image is not None:
        _have(node, spec, image, runtime)
    command = command_of(spec, task.values)
    peers = node.config.folder / FOLDER / FILE
    execution = Execution(
        task=task.id,
        attempt=grant.attempt,
        node=node.config.node,
        slot=slot,
        image=image,
        entrypoint=spec.entrypoint,
        command=tuple(command),
        work=work,
        directory=spec.directory,
        environment=environment_of(spec, grant, node.config.node, node.total_memory) + gpu_variables(spec, devices),
        user=spec.user,
        network=spec.network,
        resources=grant.need,
        shm_size=spec.shm_size,
        mounts=spec.mounts,
        peers=peers if peers.exists() else None,
        devices=devices,
        checkpoint=keeping.folder,
    )
    with ExitStack() as undo:
        capture = Capture(folder / "stdout.txt", spec.log_limit).open()
        undo.callback(capture.close)
        created = _create(runtime, execution)
        undo.pop_all()
    return Prepared(spec, command, image, staged, created, capture, keeping)


def _have_directory(work: Path, spec: JobSpec) -> None:
    """Where the command starts; a user of the container's own may write there."""
    start_in = work / spec.directory
    start_in.mkdir(parents=True, exist_ok=True)
    if spec.user is not None:
        work.chmod(0o777)
        start_in.chmod(0o777)


def _refuse_credentials(config: AgentConfig, spec: JobSpec) -> None:
    """Whatever the submitter's kubeq let pass: on a machine of a cloud no task acts as the machine unasked."""
    if config.machine is not None and spec.sees_node_credentials and not spec.allow_node_credentials:
        raise Unrunnable(
            f"on {config.node}, a machine of a cloud, it could act as the machine: it has "
            f"{'no container' if spec.image is None else 'the network of the machine'}",
            hint="submit it again with --allow-node-credentials",
        )


def _create(runtime: Runtime, execution: Execution) -> Created:
    try:
        return runtime.create(execution)
    except (AccessDenied, ImageUnavailable):
        raise
    except BackendError as error:
        if error.transient:
            raise
        raise Unrunnable(error.message, hint=error.hint) from error


def _empty_folder(folder: Path) -> Path:
    """A new, empty work directory in the attempt's folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    work = folder / "work"
    work.mkdir()
    work.chmod(0o755)
    return work


def _pin(node: Node, grant: Grant, spec: JobSpec, runtime: Runtime) -> str | None:
    """The image by digest: from the spec, else what the first agent of the job resolved it to."""
    if spec.image is None:
        return None
    return spec.image_digest or node.claims.pin(grant.job.id, PINNED, runtime.resolve(spec.image))


def _have(node: Node, spec: JobSpec, image: str, runtime: Runtime) -> None:
    """Have the image here. Raises ImageUnavailable where no node could have it, BackendError where another one may.

    An id is what one engine calls an image that no registry gave: where other machines serve the same queue, one of
    them has it, or can be given it (docker save, docker load).
    """
    try:
        runtime.prepare(image)
    except ImageUnavailable as error:
        if node.claims.reach is Reach.HOST or not is_image_id(image):
            raise
        name = f"{spec.image} ({image[:19]})"
        raise BackendError(f"the image {name} is from no registry, and not on this machine", hint=error.hint) from error


@lru_cache(maxsize=64)
def spec_of(blobs: Blobs, digest: Digest) -> JobSpec:
    """The spec of a job, read once. Raises ObjectNotFound, IntegrityError, BackendError."""
    return decode_spec(blobs.read(digest))
