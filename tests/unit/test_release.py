"""Which kubeq an installation is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import kubeq
from kubeq.errors import Conflict, UsageError
from kubeq.release import OF_THE_USER, agent_code, check_release, this_release

ROOT = Path(__file__).parents[2]


def release_in(folder: Path) -> str:
    """What an installation in that folder says of itself."""
    asked = "from kubeq.release import this_release; print(this_release())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", asked], env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A copy of the packages side by side, as pip lays them."""
    shutil.copytree(ROOT / "kubeq", tmp_path / "kubeq", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "consumer/kubeq_consumer", tmp_path / "kubeq_consumer")
    return tmp_path


def test_a_release_is_the_version_and_the_code() -> None:
    assert re.fullmatch(re.escape(kubeq.__version__) + r"\+[0-9a-f]{12}", this_release())


def test_the_agents_code_has_nothing_of_the_command_line() -> None:
    names = set(agent_code())
    assert {"kubeq/__init__.py", "kubeq/core/model.py", "kubeq/store/local.py", "kubeq/queue/sqlite.py"} <= names
    assert {"kubeq_consumer/__main__.py", "kubeq_consumer/runtimes/exec/kubeq-exec.x86_64"} <= names
    rooms = {name.split("/")[1] for name in names if name.startswith("kubeq/")}
    assert not rooms & {"cli", "actions", "config", "nodes", "__main__.py"}
    assert not [name for name in names if name.startswith("kubeq_consumer") and name.endswith((".pyc", ".c"))]


def test_what_is_the_users_is_what_the_agent_may_not_import() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (of_agent,) = [each for each in contracts if each.get("source_modules") == ["kubeq_consumer"]]
    forbidden = {name for name in of_agent["forbidden_modules"] if name.startswith("kubeq.")}
    assert forbidden == {f"kubeq.{name}" for name in OF_THE_USER}


def test_installed_and_from_a_checkout_it_is_the_same_release(installation: Path) -> None:
    assert release_in(installation) == this_release()


def test_another_line_of_the_agents_code_is_another_release_and_one_of_the_users_is_not(installation: Path) -> None:
    with (installation / "kubeq/cli/main.py").open("a") as file:
        file.write("# changed\n")
    assert release_in(installation) == this_release()
    with (installation / "kubeq/core/model.py").open("a") as file:
        file.write("# changed\n")
    changed = release_in(installation)
    assert changed != this_release()
    assert changed.startswith(f"{kubeq.__version__}+")


def test_another_release_than_the_wanted_one_is_refused_naming_both() -> None:
    check_release(this_release())
    with pytest.raises(Conflict, match=re.escape(f"this agent is of kubeq {this_release()}")) as caught:
        check_release("0.0.9+0123456789ab")
    assert "0.0.9+0123456789ab" in caught.value.message
    assert caught.value.hint


def test_an_installation_without_the_agent_says_so(installation: Path) -> None:
    shutil.rmtree(installation / "kubeq_consumer")
    asked = "from kubeq.release import this_release; this_release()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", asked], env={"PYTHONPATH": str(installation)}, capture_output=True, text=True
    )
    assert f"{UsageError.__name__}: this kubeq has no agent" in done.stderr
