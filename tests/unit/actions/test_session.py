"""What follows from a configuration."""

from __future__ import annotations

from pathlib import Path

from kubeq.actions.session import Session
from kubeq.store.retry import Retrying
from tests.jobs import FakeClock, session_in


def test_the_store_of_a_command_is_retried_whatever_its_backend(tmp_path: Path, clock: FakeClock) -> None:
    session = session_in(tmp_path, clock, Session)
    assert isinstance(session.store, Retrying)
    assert session.store.url == session.config.store_url
    assert session.store is session.store
