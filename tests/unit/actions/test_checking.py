"""`check`: everything works on what keeps its word, and each broken word is found, told and cleared up after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest

from kubeq.actions.checking import CHECKS, Finding, Outcome, check
from kubeq.actions.probe_job import run_probe_job
from kubeq.actions.probing import StoreProbe, TableProbe
from kubeq.actions.session import Session
from kubeq.cli.views_check import CheckView
from kubeq.config import with_flags
from kubeq.core.clock import SystemClock
from kubeq.errors import AccessDenied, BackendError
from kubeq.queue import base
from kubeq.queue.base import Change, Key, Page, Row, Standing, Swapped
from kubeq.queue.memory import MemoryTable
from kubeq.store.base import Stored
from kubeq.store.memory import MemoryStore
from tests.jobs import FakeClock, MemorySession, session_in
from tests.providers import FakeProvider


@pytest.fixture
def session(tmp_path: Path, clock: FakeClock) -> Session:
    plain = session_in(tmp_path, clock)
    session = MemorySession(with_flags(plain.config, {"image": "none"}), clock)
    session.provider = FakeProvider()  # type: ignore[misc]
    return session


def rows_of(session: Session) -> list[Row]:
    """Every row that stands, in whatever partition."""
    partitions = session.table._partitions  # type: ignore[attr-defined]
    return [row for partition in partitions for row in MemoryTable.list(session.table, partition, None, 10).rows]  # type: ignore[arg-type]


def failed(findings: Sequence[Finding]) -> list[str]:
    return [finding.check for finding in findings if finding.outcome is Outcome.FAILED]


def test_everything_passes_and_nothing_is_left(session: Session) -> None:
    findings = list(check(session, node=False))
    assert failed(findings) == []
    assert [finding.check for finding in findings if finding.outcome is Outcome.SKIPPED] == ["node"]
    assert {finding.check for finding in findings} < set(CHECKS)
    assert list(session.store.list("")) == []
    assert rows_of(session) == []


def test_inputs_that_lie_elsewhere_are_tried_too(session: Session) -> None:
    session.inputs_store = MemoryStore()  # type: ignore[misc]
    found = [finding.check for finding in check(session, node=False)]
    assert found == [name for name in CHECKS if name not in ("engine", "image")]
    assert session.inputs_store.requests["put"] == 2


class Overwriting(MemoryStore):
    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        self.delete([key])
        return super().put(key, open, size, sha256)


class Forgetful(MemoryStore):
    def get(self, key: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        return BytesIO(b"something else")


class Unlisted(MemoryStore):
    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        return iter(())


class Keeping(MemoryStore):
    def delete(self, keys: Sequence[str]) -> None:
        pass


class Closed(MemoryStore):
    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        raise AccessDenied("you may not write there", hint="ask for s3:PutObject")


@pytest.mark.parametrize(
    ("store", "step"),
    [
        (Overwriting, "store-write-once"),
        (Forgetful, "store-read"),
        (Unlisted, "store-list"),
        (Keeping, "store-delete"),
        (Closed, "store-write"),
    ],
)
def test_a_store_that_breaks_its_word_is_found(session: Session, store: type[MemoryStore], step: str) -> None:
    session.store = store()  # type: ignore[misc]
    findings = list(check(session, node=False))
    assert failed(findings) == [step]
    skipped = [finding for finding in findings if finding.outcome is Outcome.SKIPPED and finding.check != "node"]
    assert all(finding.check.startswith("store-") and step in finding.message for finding in skipped)
    if store is not Keeping:
        assert list(MemoryStore.list(session.store, "")) == []  # type: ignore[arg-type]


def test_what_does_not_answer_is_waited_for_once(session: Session) -> None:
    away = BackendError("it does not answer", transient=True, waited=True)

    class AwayStore(MemoryStore):
        def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
            raise away

    class AwayTable(MemoryTable):
        def insert(self, rows: Sequence[Row]) -> Sequence[Row | None]:
            raise away

    session.store, session.table = AwayStore(), AwayTable()  # type: ignore[misc]
    assert failed(list(check(session, node=False))) == ["store-write", "queue-insert"]
    assert session.store.requests.get("delete", 0) == session.table.requests.get("delete", 0) == 0


class Upserting(MemoryTable):
    def insert(self, rows: Sequence[Row]) -> Sequence[Row | None]:
        self.delete([row.key for row in rows])
        return super().insert(rows)


class Careless(MemoryTable):
    def swap(self, changes: Sequence[Change]) -> Sequence[Swapped | Standing]:
        return [Swapped(Row(*change)) for change in changes]


class Unindexed(MemoryTable):
    def due(self, partition: base.Partition, before: float, after: base.Cursor | None, limit: int) -> Page:
        return Page([], None)


class Stale(MemoryTable):
    def list(self, partition: base.Partition, after: base.Cursor | None, limit: int) -> Page:
        return Page([row._replace(version=1) for row in super().list(partition, after, limit).rows], None)


class Undeleting(MemoryTable):
    def delete(self, keys: Sequence[Key]) -> None:
        pass


@pytest.mark.parametrize(
    ("table", "step"),
    [
        (Upserting, "queue-insert"),
        (Careless, "queue-swap"),
        (Unindexed, "queue-due"),
        (Stale, "queue-list"),
        (Undeleting, "queue-delete"),
    ],
)
def test_a_queue_that_breaks_its_word_is_found(session: Session, table: type[MemoryTable], step: str) -> None:
    session.table = table()  # type: ignore[misc]
    findings = list(check(session, node=False, index_patience_s=0.1))
    assert failed(findings) == [step]
    assert {finding.check for finding in findings if finding.message.startswith(step)} >= {"clock"}
    if table is not Undeleting:
        assert rows_of(session) == []


def test_an_index_that_lags_is_waited_for(session: Session) -> None:
    class Lagging(MemoryTable):
        asked = 0

        def due(self, partition: base.Partition, before: float, after: base.Cursor | None, limit: int) -> Page:
            self.asked += 1
            return super().due(partition, before, after, limit) if self.asked > 2 else Page([], None)

    session.table = Lagging()  # type: ignore[misc]
    assert failed(list(check(session, node=False))) == []


def test_a_clock_that_is_too_far_off_fails(session: Session) -> None:
    class Later(MemoryTable):
        def clock_offset(self) -> float:
            return 47.0

    session.table = Later()  # type: ignore[misc]
    findings = list(check(session, node=False))
    assert failed(findings) == ["clock"]
    assert "47 s behind" in next(finding.message for finding in findings if finding.check == "clock")


def test_a_state_folder_that_cannot_be_used_fails_and_the_rest_is_tried(session: Session) -> None:
    session.config.state_dir.parent.mkdir(parents=True)
    session.config.state_dir.write_text("a file")
    findings = list(check(session, node=False))
    assert failed(findings) == ["state-folder"]
    assert next(finding.hint for finding in findings if finding.check == "state-folder")
    assert "queue-delete" in {finding.check for finding in findings if finding.outcome is Outcome.PASSED}


def test_a_node_that_cannot_be_started_is_told_and_its_job_is_removed(session: Session) -> None:
    provider = FakeProvider()
    provider.refuses = "no more machines"
    with pytest.raises(BackendError, match="no more machines"):
        run_probe_job(session, provider)
    assert rows_of(session) == [] and list(session.store.list("")) == []
    assert list(session.config.state_dir.iterdir()) == []


def test_why_a_node_could_not_be_started_is_told_although_its_job_cannot_be_removed(session: Session) -> None:
    class Closed(MemoryTable):
        def delete(self, keys: Sequence[Key]) -> None:
            raise AccessDenied("you may not delete there")

    provider = FakeProvider()
    provider.refuses = "no more machines"
    session.table = Closed()  # type: ignore[misc]
    with pytest.raises(BackendError, match="no more machines"):
        run_probe_job(session, provider)
    assert list(session.store.list("blobs/")) == []


def test_a_node_that_dies_before_its_task_is_told_with_its_reason(session: Session) -> None:
    session.clock = SystemClock()
    provider = FakeProvider()
    provider.dies_of = "no space left"
    with pytest.raises(BackendError, match="has ended before its task: no space left"):
        run_probe_job(session, provider)
    assert rows_of(session) == [] and list(session.store.list("")) == []


def test_the_steps_of_a_probe_are_those_that_are_documented() -> None:
    named = [f"store-{name}" for name, _ in StoreProbe(MemoryStore()).steps()]
    named += [f"queue-{name}" for name, _ in TableProbe(MemoryTable(), FakeClock()).steps()]
    assert [name for name in CHECKS if name.startswith(("store-", "queue-"))] == named


def test_the_answer_names_what_failed_with_what_mends_it(session: Session) -> None:
    session.store = Closed()  # type: ignore[misc]
    view = CheckView(check(session, node=False))
    text = list(view.text())
    at = next(place for place, line in enumerate(text) if line.startswith("FAILED"))
    assert "store-write" in text[at] and "you may not write there" in text[at]
    assert text[at + 1].strip() == "hint: ask for s3:PutObject"
    assert view.failed == ["store-write"]
    answer = CheckView(check(session, node=False)).json()
    assert answer["ok"] is False
    assert answer["checks"][3]["outcome"] == "failed" and answer["checks"][3]["hint"] == "ask for s3:PutObject"
    assert answer["checks"][4]["duration_s"] is None
    assert list(CheckView(check(session, node=False)).quiet()) == ["store-write"]
