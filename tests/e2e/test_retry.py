"""Running again only what failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.homes import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_retry_runs_only_what_failed_and_waits_for_the_end(home: Home, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    command = f"echo {{index}} >> {tmp_path}/ran; test {{index}} != 2 || test -e {mended}"
    home.run("sub", "--image", "none", "-n", "three", "--seq", "3", "--shell", command, code=3)
    again = home.run("retry", "three", code=3)
    assert "retrying 1 task of three" in again.stdout
    mended.touch()
    assert home.json("retry", "LAST")["changed"] == [f"{home.status('three')['id']}/2"]
    assert home.status("three")["status"] == "succeeded"
    assert sorted((tmp_path / "ran").read_text().split()) == ["1", "2", "2", "2", "3"]
    home.end()


def test_retry_of_a_job_without_failures_only_follows_it(home: Home) -> None:
    home.run("sub", "--image", "none", "-n", "fine", "true")
    assert "retrying nothing" in home.run("retry", "fine").stdout
    home.end()
