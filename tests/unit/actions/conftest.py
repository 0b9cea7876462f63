"""A session in memory, a clock that the test moves, and a maker of jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeq.actions.session import Session
from tests.jobs import FakeClock, Work, session_in


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def session(tmp_path: Path, clock: FakeClock) -> Session:
    return session_in(tmp_path, clock)


@pytest.fixture
def work(session: Session, clock: FakeClock) -> Work:
    return Work(session, clock)
