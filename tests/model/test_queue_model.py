"""Many agents and users, crashes between any two requests, lost answers, late writes: the queue keeps its promises."""

from __future__ import annotations

import itertools
from pathlib import Path

from kubeq.queue.dynamodb import DynamoDbTable
from kubeq.queue.memory import MemoryTable
from kubeq.queue.sqlite import SqliteTable
from tests.model.machine import check
from tests.model.world import World
from tests.stand_ins.dynamodb import made_table
from tests.stand_ins.ministack import REGION, Cloud


def test_the_queue_keeps_its_promises_over_memory() -> None:
    def world() -> World:
        table = MemoryTable()
        return World(table, table)

    check(world, examples=150)


def test_the_queue_keeps_its_promises_over_sqlite_and_both_tables_answer_alike(tmp_path: Path) -> None:
    files = itertools.count()

    def world() -> World:
        return World(SqliteTable(tmp_path / f"{next(files)}.sqlite"), MemoryTable(), twins=True)

    check(world, examples=60)


def test_the_queue_keeps_its_promises_over_dynamodb_and_both_tables_answer_alike(emulated_aws: Cloud) -> None:
    def world() -> World:
        return World(DynamoDbTable(REGION, made_table(emulated_aws)), MemoryTable(), twins=True)

    check(world, examples=5)
