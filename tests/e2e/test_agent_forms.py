"""An agent that reached a machine in another way than by an installation there: it serves a job all the same."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kubeq.nodes.archive import Archive, agent_archive
from tests.homes import ROOT, Home, eventually

PLAIN = Path(sys.base_prefix) / "bin/python3"
"""The Python below the virtual environment of the tests, which has no kubeq."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return agent_archive((), tmp_path_factory.mktemp("cache"))


def variables_of(home: Home, job: str) -> dict[str, str]:
    """What `kubeq agent` tells an agent of the job."""
    words = shlex.split(home.run("agent", job).stdout)
    return dict(word.split("=", 1) for word in words if word.startswith("KUBEQ_AGENT_"))


def test_an_agent_from_the_archive_runs_a_job_on_a_python_that_has_no_kubeq(home: Home, archive: Archive) -> None:
    home.run("sub", "-n", "packed", "--prepare", "--image", "none", "--seq", "3", "sh", "-c", "echo hi {index}")
    variables = variables_of(home, "packed")
    agent = subprocess.run(
        ["sh", archive.path, "--supervise"],
        env={**variables, "HOME": str(home.root), "PATH": f"{PLAIN.parent}:/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (agent.returncode, agent.stdout, agent.stderr) == (0, "", "")
    assert home.status("packed")["tasks"]["succeeded"] == 3
    assert {task["node"] for task in home.tasks("packed")} == {variables["KUBEQ_AGENT_NODE"]}
    assert home.run("logs", "packed/2").stdout == "hi 2\n"


@pytest.mark.docker
def test_an_agent_from_the_archive_runs_containers(home: Home, archive: Archive, busybox_image: str) -> None:
    home.run("sub", "-n", "packed", "--prepare", "-i", busybox_image, "sh", "-c", "echo in a container; ls /")
    agent = subprocess.run(
        [PLAIN, archive.path],
        env={**variables_of(home, "packed"), "HOME": str(home.root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (agent.returncode, agent.stderr) == (0, "")
    assert home.run("logs", "packed/1").stdout.startswith("in a container\n")


def test_an_agent_of_another_release_leaves_every_task_untouched(home: Home, archive: Archive) -> None:
    home.run("sub", "-n", "packed", "--prepare", "--image", "none", "true")
    variables = {**variables_of(home, "packed"), "KUBEQ_AGENT_RELEASE": "0.0.9+0123456789ab"}
    agent = subprocess.run(
        [PLAIN, archive.path, "--supervise"],
        env={**variables, "HOME": str(home.root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert agent.returncode == 5
    assert agent.stderr.startswith(f"error: this agent is of kubeq {archive.release}, and whoever started it wants")
    (task,) = home.tasks("packed")
    assert (task["state"], task["attempt"]) == ("pending", 0)


def test_a_supervised_agent_that_is_killed_comes_back_and_ends_the_job(home: Home, archive: Archive) -> None:
    home.env["KUBEQ_LEASE"] = "5"
    home.run("sub", "-n", "packed", "--prepare", "--image", "none", "--seq", "4", "sh", "-c", "echo {index}; sleep 1")
    supervisor = subprocess.Popen(
        [PLAIN, archive.path, "--supervise"],
        env={**variables_of(home, "packed"), "HOME": str(home.root)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        eventually(lambda: home.stands("packed") == "running", "a task is claimed", home)
        running = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()
        subprocess.run(["kill", "-KILL", *running], check=True)
        assert home.run("watch", "packed", timeout=90).returncode == 0
    finally:
        supervisor.terminate()
    _, said = supervisor.communicate(timeout=90)
    assert supervisor.returncode == 0
    assert "the agent ended with 137" in said
    assert sum(task["attempt"] for task in home.tasks("packed")) > 4


@pytest.mark.docker
def test_an_agent_in_a_container_runs_containers_beside_it(home: Home, agent_image: str, busybox_image: str) -> None:
    (home.cwd / "input.txt").write_text("staged in\n")
    command = ["sh", "-c", "cat input.txt; echo made > made.txt"]
    home.run("sub", "-n", "packed", "--prepare", "-i", busybox_image, "--seq", "2", "-u", "input.txt", *command)
    variables = variables_of(home, "packed")
    words = ["docker", "run", "--rm", "--name", f"kubeq-{variables['KUBEQ_AGENT_NODE']}", "--network", "host"]
    words += ["--pid", "host"]
    for folder in ("/var/run/docker.sock", str(home.root)):
        words += ["--volume", f"{folder}:{folder}"]
    for name, value in variables.items():
        words += ["--env", f"{name}={value}"]
    agent = subprocess.run([*words, agent_image, "--supervise"], capture_output=True, text=True, timeout=180)
    assert (agent.returncode, agent.stdout, agent.stderr) == (0, "", ""), home.agent_logs()
    assert home.status("packed")["tasks"]["succeeded"] == 2
    home.run("fetch", "packed", "out")
    assert (home.cwd / "out/2/stdout.txt").read_text() == "staged in\n"
    assert (home.cwd / "out/1/made.txt").read_text() == "made\n"


def test_a_kubeq_that_pip_installed_packs_the_very_archive_that_a_checkout_packs(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("kubeq", "consumer"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, source]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    pack = "from pathlib import Path; from kubeq.nodes.archive import agent_archive;"
    pack += f"print(agent_archive(('aws',), Path({str(tmp_path)!r})).digest)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", pack], env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(agent_archive(("aws",), tmp_path / "other").digest), done.stderr
