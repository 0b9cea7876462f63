"""What a command finds in its environment besides what the submitter gave it."""

from __future__ import annotations

from kubeq.core.model import NodeName
from kubeq.core.spec import JobSpec
from kubeq.queue.claims import Grant


def environment_of(
    spec: JobSpec, grant: Grant, node: NodeName, total_memory: int | None
) -> tuple[tuple[str, str], ...]:
    """The submitter's variables and kubeq's own, the latter last so that they win.

    `KUBEQ_TASK_MEMORY` is in bytes: the task's limit, or the node's memory where it has none.
    """
    task, need = grant.task, grant.need
    memory = need.memory or total_memory
    ours = {
        "KUBEQ_JOB": task.id.job,
        "KUBEQ_TASK_INDEX": str(task.id.index),
        "KUBEQ_TASK_COUNT": str(grant.job.total),
        "KUBEQ_ATTEMPT": str(grant.attempt),
        "KUBEQ_NODE_NAME": node,
        "KUBEQ_TASK_CPUS": f"{need.cpu:g}",
        **({"KUBEQ_TASK_MEMORY": str(memory)} if memory else {}),
        **{
            f"KUBEQ_PARAM_{column}": value
            for column, value in zip(spec.columns, task.values, strict=True)
            if column.isidentifier()
        },
    }
    return (*spec.environment, *ours.items())


def gpu_variables(spec: JobSpec, devices: tuple[int, ...]) -> tuple[tuple[str, str], ...]:
    """How a command learns of its GPUs. A container sees no others; without one CUDA is told to use no others."""
    if not devices:
        return ()
    numbers = ",".join(map(str, devices))
    told = (("KUBEQ_TASK_GPUS", numbers),)
    return told if spec.image is not None else (*told, ("CUDA_VISIBLE_DEVICES", numbers))
