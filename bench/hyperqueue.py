"""HyperQueue as a peer: installed once into an environment of its own in the cache, driven through its interface."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = "0.27.0"
SUBMISSION = """
import sys, time
from hyperqueue import Job, LocalCluster
with LocalCluster() as cluster:
    client = cluster.client()
    started = time.perf_counter()
    job = Job()
    for number in range(int(sys.argv[1])):
        job.program(["true", str(number), str(number * 0.5)])
    client.submit(job)
    print(time.perf_counter() - started, file=sys.stderr)
"""


def python_with_hyperqueue() -> Path | None:
    """The interpreter of an environment that has it; None if it cannot be installed here."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kubeq"
    environment = cache / f"bench-hyperqueue-{VERSION}"
    python = environment / "bin/python"
    if (environment / "installed").exists():
        return python
    for command in (
        [sys.executable, "-m", "venv", str(environment)],
        [str(python), "-m", "pip", "install", "--quiet", f"hyperqueue=={VERSION}"],
    ):
        if subprocess.run(command, check=False).returncode != 0:
            return None
    (environment / "installed").touch()
    return python


def submission_s(python: Path, tasks: int) -> float:
    """Seconds to describe and submit that many tasks to a server that runs; it keeps no journal of them."""
    with tempfile.TemporaryDirectory(prefix="kubeq-bench-") as folder:
        done = subprocess.run(
            [str(python), "-c", SUBMISSION, str(tasks)], cwd=folder, check=True, capture_output=True, text=True
        )
    return float(done.stderr.split()[-1])
