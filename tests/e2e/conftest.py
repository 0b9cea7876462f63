"""Homes for tests; no agent of one is left when its test ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.homes import Home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    one = Home(tmp_path / "home")
    yield one
    one.end()


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Home]:
    """A home whose leases are short, for tests in which agents die."""
    one = Home(tmp_path / "home", KUBEQ_LEASE="5")
    yield one
    one.end()
