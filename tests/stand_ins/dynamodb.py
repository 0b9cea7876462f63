"""DynamoDB tables for tests: in the stand-in, made as `kubeq setup` makes them; or a real one:

    KUBEQ_LIVE_DYNAMODB=dynamodb://REGION/TABLE pytest -m live

The real table is emptied before each test: name none that is in use.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from kubeq import aws
from kubeq.metering import Meter
from kubeq.queue.base import Cursor, Page, Partition, RecordTable
from kubeq.queue.dynamodb import DynamoDbTable
from kubeq.queue.dynamodb_setup import DynamoDbSetup
from tests.stand_ins.base import unavailable
from tests.stand_ins.ministack import REGION, Cloud

LAG_S = 2.0
"""Longer than the index of the real service has ever been seen to lag behind a table that is used by one test."""


def made_table(cloud: Cloud) -> str:
    """The name of a new table in the stand-in, for the environment of which this process must already be set up."""
    name = cloud.name()
    setup = DynamoDbSetup(REGION, name, sleep=lambda seconds: None)
    for piece in setup.survey():
        setup.create(piece)
    return name


def live_table() -> Callable[[], RecordTable]:
    """Opens the real table, which is empty now."""
    url = os.environ.get("KUBEQ_LIVE_DYNAMODB", "")
    if not url.startswith("dynamodb://"):
        pytest.skip("KUBEQ_LIVE_DYNAMODB names no table")
    region, _, name = url.removeprefix("dynamodb://").partition("/")
    setup = DynamoDbSetup(region, name)
    if not all(piece.stands for piece in setup.survey()):
        unavailable(f"{url} is not a queue: make it with kubeq setup")
    client = aws.client("dynamodb", region, Meter())
    for page in client.get_paginator("scan").paginate(TableName=name, ProjectionExpression="p, n"):
        for item in page["Items"]:
            client.delete_item(TableName=name, Key=item)
    return lambda: Settled(region, name)


class Settled(DynamoDbTable):
    """The real table for tests that look at once for what they have just written: it lets the index catch up."""

    def due(self, partition: Partition, before: float, after: Cursor | None, limit: int) -> Page:
        time.sleep(LAG_S)
        return super().due(partition, before, after, limit)
