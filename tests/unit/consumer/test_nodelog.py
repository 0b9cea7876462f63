"""The node's own log reaches the store in order, whatever the store does meanwhile, and never holds the agent up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from kubeq.core.model import NodeName
from kubeq.errors import BackendError
from kubeq.json_log import JsonLines
from kubeq.store.memory import MemoryStore
from kubeq.store.node_logs import node_log_reader
from kubeq_consumer.nodelog import NodeLog

NAME = NodeName("p-1")


class Away(MemoryStore):
    """A store that can be out of reach, or take what it is given and lose its answer."""

    away = False
    loses_answers = False

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        if self.away:
            raise BackendError("nobody answered", transient=True)
        created = super().put(key, open, size, sha256)
        if self.loses_answers:
            raise BackendError("the answer was lost", transient=True)
        return created


@pytest.fixture
def store() -> Away:
    return Away()


def shipper(store: Away) -> NodeLog:
    return NodeLog(store, NAME, logging.Formatter("%(message)s"))


def say(log: NodeLog, message: str) -> None:
    log.emit(logging.LogRecord("x", logging.INFO, "", 0, message, (), None))


def stored(store: Away) -> list[str]:
    return node_log_reader(store, NAME).read_new().decode().splitlines()


def test_every_record_is_a_line_and_a_later_life_goes_on_behind_it(store: Away) -> None:
    log = shipper(store)
    say(log, "one"), say(log, "two")
    log._ship()
    say(log, "three")
    log._ship()
    again = shipper(store)
    say(again, "four")
    again._ship()
    assert stored(store) == ["one", "two", "three", "four"]
    assert len(list(store.list("nodes/p-1/log/"))) == 3


def test_how_the_machine_came_up_is_the_beginning_of_the_first_life_only(store: Away, tmp_path: Path) -> None:
    (tmp_path / "boot.log").write_text("it boots\n")
    for message in ("one", "two"):
        log = NodeLog(store, NAME, logging.Formatter("%(message)s"), tmp_path)
        store.away = True
        say(log, message)
        log._ship()
        store.away = False
        log._ship()
    assert stored(store) == ["it boots", "one", "two"]


def test_nothing_is_stored_where_nothing_was_said(store: Away) -> None:
    shipper(store)._ship()
    assert list(store.list("nodes/")) == []


def test_a_store_that_was_away_gets_everything_in_order(store: Away) -> None:
    log = shipper(store)
    store.away = True
    for message in ("one", "two"):
        say(log, message)
        log._ship()
    store.away = False
    say(log, "three")
    log._ship(), log._ship()
    assert stored(store) == ["one", "two", "three"]


def test_an_answer_that_was_lost_stores_nothing_twice(store: Away) -> None:
    log = shipper(store)
    store.loses_answers = True
    say(log, "one")
    log._ship()
    store.loses_answers = False
    say(log, "two")
    log._ship(), log._ship()
    assert stored(store) == ["one", "two"]


def test_what_waits_for_a_store_is_bounded_and_the_gap_is_told(store: Away) -> None:
    log = NodeLog(store, NAME, logging.Formatter("%(message)s"), most_waiting=20)
    for number in range(10):
        say(log, f"line {number}")
    log._ship()
    assert stored(store) == ["[kubeq: 8 lines could not be stored in time]", "line 8", "line 9"]


def test_a_log_without_end_is_cut_and_says_so(store: Away) -> None:
    log = NodeLog(store, NAME, logging.Formatter("%(message)s"), most_bytes=10)
    for _ in range(3):
        say(log, "x" * 20)
        log._ship()
    assert stored(store) == ["x" * 20, "[kubeq: the rest of this log is on the node only]"]


def test_a_handler_that_was_started_ships_by_itself_and_its_end_waits_for_the_rest(store: Away) -> None:
    log = shipper(store)
    logger = logging.getLogger("a node's own")
    logger.setLevel(logging.INFO)
    log.start()
    logger.info("the last words of %s", "the agent")
    log.stop()
    logger.info("nobody hears this")
    assert stored(store) == ["the last words of the agent"]


def test_a_line_that_tells_of_an_attempts_beginning_names_it() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "starts", (), None)
    record.attempt = "demo/1/2"
    assert '"attempt": "demo/1/2"' in JsonLines().format(record)
