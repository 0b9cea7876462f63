"""The command line as a user meets it: a process in an empty home, whole screens held against files.

`pytest tests/cli --update-snapshots` writes the files anew; read the difference before you commit it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOTS = Path(__file__).parent / "snapshots"
VARYING = (
    (re.compile(r"\b\d{8}-\d{6}-[0-9a-hjkmnp-tv-z]{4}\b"), "JOB-ID"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?"), "TIME"),
    (re.compile(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{12}\b"), "POOL-ID"),
    (re.compile(r"(?<=in )\d+(\.\d)?s\b"), "DURATION"),
    (re.compile(r"(?<=\"pid\": )\d+"), "PID"),
    (re.compile(r"\(\d+ ms\)$", re.MULTILINE), "(N ms)"),
    (re.compile(r"(?<=\"duration_s\": )\d[\d.e-]*"), "SECONDS"),
    (re.compile(r"(?<=,)\d+\.\d+$", re.MULTILINE), "SECONDS"),
)


@dataclass(frozen=True, slots=True)
class Ran:
    """One command that has ended."""

    words: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


class Kubeq:
    """Runs kubeq in a home of its own. `project` is where it stands; nothing else of this machine's user is seen."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.project = root / "project"
        self.project.mkdir(parents=True)
        self.state = root / "state" / "kubeq"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KUBEQ_", "XDG_"))}
        self.environment = {
            **kept,
            "HOME": str(root / "home"),
            "XDG_STATE_HOME": str(root / "state"),
            "XDG_CACHE_HOME": str(root / "cache"),
            "XDG_CONFIG_HOME": str(root / "config"),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'consumer'}",
            "COLUMNS": "100",
            "LC_ALL": "C.UTF-8",
            "DOCKER_HOST": f"unix://{root}/no-engine.sock",
        }

    def __call__(
        self, *words: str, environment: Mapping[str, str] | None = None, stdin: str | None = None, timeout: float = 60
    ) -> Ran:
        """The command's exit code and what it wrote."""
        (self.root / "home").mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "kubeq", *words],
            cwd=self.project,
            env={**self.environment, **(environment or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Ran(words, done.returncode, done.stdout, done.stderr)

    def write(self, name: str, content: str | bytes) -> Path:
        """A file in the project."""
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def nothing_stored(self) -> bool:
        """Whether there is no state at all: no folder, no journal, no queue."""
        return not self.state.exists()


@pytest.fixture
def kubeq(tmp_path: Path) -> Kubeq:
    return Kubeq(tmp_path)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-snapshots", action="store_true", help="Write the files in tests/cli/snapshots anew.")


@pytest.fixture
def snapshot(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    """`snapshot(ran, name)`: the whole screen equals the file of that name, but for ids, times and the home's path."""
    update = bool(request.config.getoption("--update-snapshots", default=False))

    def check(ran: Ran, name: str) -> None:
        screen = screen_of(ran, tmp_path)
        path = SNAPSHOTS / f"{name}.txt"
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(screen)
        assert path.exists(), f"there is no snapshot {path}; pytest tests/cli --update-snapshots writes it"
        assert screen == path.read_text()

    return check


def screen_of(ran: Ran, root: Path) -> str:
    """Everything that a command showed, without what differs from run to run."""
    text = f"$ kubeq {' '.join(ran.words)}\nexit code {ran.code}\n--- stdout\n{ran.stdout}--- stderr\n{ran.stderr}"
    text = text.replace(str(root), "/ROOT")
    for pattern, word in VARYING:
        text = pattern.sub(word, text)
    return text
