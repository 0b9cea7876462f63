"""What the nodes of a pool are told, wherever they come from. What only machines of a cloud need is in `machines`."""

from __future__ import annotations

from kubeq.actions.relaying import RELAYED_POLL_S, needs_relay, relaying
from kubeq.actions.session import Session
from kubeq.core.model import Job, Pool
from kubeq.core.wire import decode_spec
from kubeq.nodes.base import NodeRequest
from kubeq.nodes.forms import endpoint_variables
from kubeq.nodes.packages import extras_of


def node_request(session: Session, pool: Pool, job: Job | None = None) -> NodeRequest:
    """What every node of the pool is told; of a launch for that job also whether its tasks need containers."""
    config = session.config
    relayed = session.provider_of(pool.id).capabilities.relays and needs_relay(session)
    urls = (config.queue_url, session.store.url, session.inputs_store.url)
    return NodeRequest(
        pool=pool.id,
        queue_url=urls[0],
        store_url=urls[1],
        blobs_url=urls[2],
        state_dir=config.state_dir,
        cache_dir=config.cache_dir,
        linger_s=config.linger_s,
        linger_others_s=config.linger_others_s,
        poll_s=max(config.poll_s, RELAYED_POLL_S) if relayed else config.poll_s,
        until_idle=pool.private,
        outfit=pool.outfit,
        relay=relaying(session, pool) if relayed else None,
        environ={} if relayed else endpoint_variables(extras_of(*urls), config.place.environ),
        containers=job is not None and _in_containers(session, pool, job),
    )


def _in_containers(session: Session, pool: Pool, job: Job) -> bool:
    """Whether the job's tasks run in containers, where that matters: machines of a cloud have an engine."""
    return bool(pool.hosts) and decode_spec(session.blobs.read(job.spec)).image is not None
