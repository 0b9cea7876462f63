"""Records as they stand in rows: what comes back, and what an older kubeq wrote."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kubeq.core import wire
from kubeq.core.digest import Digest
from kubeq.core.model import Job, JobId, Node, NodeName, NodeState, Policy, PoolId
from kubeq.core.requests import Requests
from kubeq.core.resources import Resources
from kubeq.errors import BackendError

COUNTS = Requests(queue={"PutItem": 12, "Query": 3}, store={"PutObject": 1})
NODE = Node(
    name=NodeName("p-1"),
    pool=PoolId("p"),
    number=1,
    provider="local",
    state=NodeState.ACTIVE,
    host="h",
    requested_at=1.0,
)
JOB = Job(
    id=JobId("j"),
    name="j",
    pool=PoolId("p"),
    user="u",
    host="h",
    submitted_at=1.0,
    total=1,
    spec=Digest.of(b"spec"),
    columns=(),
    resources=Resources(),
    policy=Policy(),
    results_url="",
)


@pytest.mark.parametrize("requests", [None, Requests(), COUNTS])
def test_the_requests_of_a_node_and_of_a_job_come_back(requests: Requests | None) -> None:
    node, job = replace(NODE, requests=requests), replace(JOB, requests=requests)
    assert wire.decode_node(node.name, wire.encode_node(node)) == node
    assert wire.decode_job(job.id, wire.encode_job(job)) == job


def test_a_row_of_before_requests_were_counted_says_nothing_of_them() -> None:
    node, job = wire.encode_node(NODE), wire.encode_job(JOB)
    assert "requests" not in json.loads(node) and "requests" not in json.loads(job)
    assert wire.decode_node(NODE.name, node).requests is wire.decode_job(JOB.id, job).requests is None


@pytest.mark.parametrize("counts", ['"many"', '{"queue":{}}', '{"queue":3,"store":{}}'])
def test_counts_that_cannot_be_read_make_a_record_that_cannot_be_read(counts: str) -> None:
    body = wire.encode_node(NODE)[:-1] + f',"requests":{counts}}}'
    with pytest.raises(BackendError, match="node p-1 cannot be read"):
        wire.decode_node(NODE.name, body)


def test_a_node_with_counts_is_still_a_value_that_sets_hold() -> None:
    assert len({replace(NODE, requests=COUNTS), replace(NODE, requests=COUNTS)}) == 1
