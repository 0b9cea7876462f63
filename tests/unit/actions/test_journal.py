"""The local journal, whole and damaged."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from kubeq.actions.journal import Journal, Step
from kubeq.core.model import JobId
from kubeq.errors import AccessDenied, BackendError

ONE, TWO, THREE = (JobId(f"20260102-030405-000{n}") for n in (1, 2, 3))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "state", "sqlite:/a")


def test_last_is_the_newest_submission_that_was_sealed(journal: Journal) -> None:
    for id in (ONE, TWO):
        journal.write(id, Step.BEGUN, "demo", 1.0)
        journal.write(id, Step.SEALED, "demo", 2.0)
    assert journal.last([]) == TWO


def test_a_job_that_was_begun_counts_only_if_it_came_to_stand_in_the_queue(journal: Journal) -> None:
    journal.write(ONE, Step.BEGUN, "demo", 1.0)
    journal.write(ONE, Step.SEALED, "demo", 2.0)
    journal.write(TWO, Step.BEGUN, "demo", 3.0)
    assert journal.last([ONE]) == ONE
    assert journal.last([ONE, TWO]) == TWO


def test_completing_an_older_submission_does_not_make_it_the_last(journal: Journal) -> None:
    journal.write(ONE, Step.BEGUN, "demo", 1.0)
    journal.write(TWO, Step.BEGUN, "demo", 2.0)
    journal.write(TWO, Step.SEALED, "demo", 3.0)
    journal.write(ONE, Step.SEALED, "demo", 4.0)
    assert journal.last([ONE, TWO]) == TWO


def test_nothing_was_submitted_yet(journal: Journal) -> None:
    assert journal.last([ONE]) is None


def test_submissions_to_another_queue_are_not_looked_at(journal: Journal, tmp_path: Path) -> None:
    Journal(tmp_path / "state", "sqlite:/b").write(THREE, Step.SEALED, "demo", 9.0)
    journal.write(ONE, Step.SEALED, "demo", 1.0)
    assert journal.last([]) == ONE


def test_a_journal_cut_at_any_byte_is_read_with_at_most_one_warning(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write(ONE, Step.SEALED, "demo", 1.0)
    journal.write(TWO, Step.SEALED, "demo", 2.0)
    path = tmp_path / "state" / "journal.jsonl"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert journal.last([]) in (None, ONE, TWO)
        assert len(caplog.records) <= 1
        journal.write(THREE, Step.SEALED, "demo", 3.0)
        assert journal.last([]) == THREE


def test_garbage_between_the_lines_is_passed_over(journal: Journal, tmp_path: Path) -> None:
    journal.write(ONE, Step.SEALED, "demo", 1.0)
    path = tmp_path / "state" / "journal.jsonl"
    path.write_bytes(path.read_bytes() + b'\xff\x00garbage\n{"id": 3}\n[]\nnull\n')
    journal.write(TWO, Step.BEGUN, "demo", 2.0)
    assert [line.id for line in journal.lines()] == [ONE, TWO]


def test_a_state_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(BackendError) as error:
        Journal(tmp_path / "state" / "deep", "sqlite:/a").write(ONE, Step.BEGUN, "demo", 1.0)
    assert str(tmp_path / "state") in error.value.message
    assert not isinstance(error.value, AccessDenied)
