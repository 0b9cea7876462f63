"""Jobs, nodes and pools."""

from __future__ import annotations

from kubeq.core.digest import Digest
from kubeq.core.model import (
    GoneReason,
    Job,
    JobId,
    Node,
    NodeName,
    NodeOrder,
    NodeState,
    Policy,
    Pool,
    PoolId,
    TaskId,
)
from kubeq.core.packages import Package
from kubeq.core.requests import Requests
from kubeq.core.wire.base import SCHEMA, Document, decode_resources, dumps, encode_resources, optional, read, sparse
from kubeq.core.wire.machines import decode_machine, decode_machines, encode_machine, encode_machines


def encode_job(job: Job) -> str:
    """The row body of a job. Its id is the row's key."""
    return dumps(
        sparse(
            {
                "schema": SCHEMA,
                "name": job.name,
                "pool": job.pool,
                "user": job.user,
                "host": job.host,
                "submitted_at": job.submitted_at,
                "total": job.total,
                "spec": str(job.spec),
                "columns": list(job.columns),
                "resources": encode_resources(job.resources),
                "policy": {
                    "retries": job.policy.retries,
                    "loss_limit": job.policy.loss_limit,
                    "lease_s": job.policy.lease_s,
                    "exclusive": job.policy.exclusive,
                    **({"strikes": job.policy.strikes} if job.policy.strikes else {}),
                },
                "results_url": job.results_url,
                "sealed_at": job.sealed_at,
                "paused": job.paused or None,
                "cancelled": job.cancelled or None,
                "open": job.open,
                "closed_at": job.closed_at,
                "nodes": job.nodes,
                "requests": job.requests and encode_requests(job.requests),
            }
        )
    )


def decode_job(id: JobId, body: str) -> Job:
    """The job of a row."""

    def build(document: Document) -> Job:
        policy = document["policy"]
        return Job(
            id=id,
            name=document["name"],
            pool=PoolId(document["pool"]),
            user=document["user"],
            host=document["host"],
            submitted_at=document["submitted_at"],
            total=document["total"],
            spec=Digest.parse(document["spec"]),
            columns=tuple(document["columns"]),
            resources=decode_resources(document["resources"]),
            policy=Policy(
                retries=policy["retries"],
                loss_limit=policy["loss_limit"],
                lease_s=policy["lease_s"],
                exclusive=policy["exclusive"],
                strikes=policy.get("strikes", 0),
            ),
            results_url=document["results_url"],
            sealed_at=document.get("sealed_at"),
            paused=document.get("paused", False),
            cancelled=document.get("cancelled", False),
            open=document["open"],
            closed_at=document.get("closed_at"),
            nodes=document.get("nodes"),
            requests=_requests_of(document),
        )

    return read(f"job {id}", body, build)


def encode_node(node: Node) -> str:
    """The row body of a node. Its name is the row's key."""
    return dumps(
        sparse(
            {
                "schema": SCHEMA,
                "pool": node.pool,
                "number": node.number,
                "provider": node.provider,
                "state": node.state,
                "host": node.host,
                "pid": node.pid,
                "address": node.address,
                "total": node.total and encode_resources(node.total),
                "tasks": [[task.job, task.index] for task in node.tasks] or None,
                "requested_at": node.requested_at,
                "started_at": node.started_at,
                "seen_at": node.seen_at,
                "ended_at": node.ended_at,
                "gone": node.gone,
                "note": node.note,
                "version": node.version,
                "order": node.order,
                "machine": node.machine and encode_machine(node.machine),
                "worked": node.worked or None,
                "begun": node.begun or None,
                "packages": node.packages or None,
                "requests": node.requests and encode_requests(node.requests),
            }
        )
    )


def decode_node(name: NodeName, body: str) -> Node:
    """The node of a row."""

    def build(document: Document) -> Node:
        total, machine = document.get("total"), document.get("machine")
        return Node(
            name=name,
            pool=PoolId(document["pool"]),
            number=document["number"],
            provider=document["provider"],
            state=NodeState(document["state"]),
            host=document["host"],
            pid=document.get("pid"),
            address=document.get("address"),
            total=decode_resources(total) if total else None,
            tasks=tuple(TaskId(JobId(job), index) for job, index in document.get("tasks", ())),
            requested_at=document["requested_at"],
            started_at=document.get("started_at"),
            seen_at=document.get("seen_at"),
            ended_at=document.get("ended_at"),
            gone=optional(GoneReason, document.get("gone")),
            note=document.get("note"),
            version=document.get("version"),
            order=optional(NodeOrder, document.get("order")),
            machine=decode_machine(machine) if machine else None,
            worked=document.get("worked", False),
            begun=document.get("begun", False),
            packages=document.get("packages", 0),
            requests=_requests_of(document),
        )

    return read(f"node {name}", body, build)


def encode_pool(pool: Pool) -> str:
    """The row body of a pool. Its id is the row's key."""
    return dumps(
        sparse(
            {
                "schema": SCHEMA,
                "provider": pool.provider,
                "private": pool.private or None,
                "created_at": pool.created_at,
                "nodes": pool.nodes,
                "hosts": list(pool.hosts) or None,
                "outfit": pool.outfit and str(pool.outfit),
                "archives": [str(digest) for digest in pool.archives] or None,
                "machines": pool.machines and encode_machines(pool.machines),
                "numbered_at": pool.numbered_at,
                "numbered_from": pool.numbered_from if pool.numbered_from > 1 else None,
                "packages": [encode_package(package) for package in pool.packages] or None,
            }
        )
    )


def decode_pool(id: PoolId, body: str) -> Pool:
    """The pool of a row."""

    def build(document: Document) -> Pool:
        machines = document.get("machines")
        return Pool(
            id=id,
            provider=document["provider"],
            private=document.get("private", False),
            created_at=document["created_at"],
            nodes=document["nodes"],
            hosts=tuple(document.get("hosts", ())),
            outfit=optional(Digest.parse, document.get("outfit")),
            archives=tuple(Digest.parse(text) for text in document.get("archives", ())),
            machines=decode_machines(machines) if machines else None,
            numbered_at=document.get("numbered_at"),
            numbered_from=document.get("numbered_from", 1),
            packages=tuple(decode_package(package) for package in document.get("packages", ())),
        )

    return read(f"pool {id}", body, build)


def encode_package(package: Package) -> Document:
    """A package as it stands in its pool's row."""
    return {
        "number": package.number,
        "name": package.name,
        "content": str(package.content),
        "entry": package.entry,
    }


def decode_package(document: Document) -> Package:
    return Package(
        number=document["number"],
        name=document["name"],
        content=Digest.parse(document["content"]),
        entry=document["entry"],
    )


def encode_requests(requests: Requests) -> Document:
    """Counts as they stand in rows and in answers, by name."""
    return {"queue": dict(sorted(requests.queue.items())), "store": dict(sorted(requests.store.items()))}


def _requests_of(document: Document) -> Requests | None:
    counts = document.get("requests")
    return None if counts is None else Requests(queue=dict(counts["queue"]), store=dict(counts["store"]))
