"""What `--stop-nodes` of `kill` and `pause` does once the job's gate is shut."""

from __future__ import annotations

from collections.abc import Iterable

from kubeq.actions.aborting import stop_nodes
from kubeq.actions.session import Session
from kubeq.cli.output import Output
from kubeq.core.model import PoolId


def stop_pools(session: Session, output: Output, pools: Iterable[PoolId]) -> None:
    """Stop the nodes of those pools, each once, and say which left and which are still there."""
    for pool in dict.fromkeys(pools):
        stopped = stop_nodes(session, pool)
        output.note(f"stopped nodes: {', '.join(stopped.asked) or 'none was there'}")
        if stopped.left_over:
            output.warn(f"these nodes were asked to leave and are still there: {', '.join(stopped.left_over)}")
