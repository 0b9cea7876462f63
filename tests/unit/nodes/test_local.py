"""Nodes of this machine, with small programs in the place of agents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kubeq.core.model import NodeName, PoolId
from kubeq.core.resources import Resources
from kubeq.machine import has_ended, mark_of
from kubeq.nodes.base import Launched, NodeRequest, Refused
from kubeq.nodes.boot import LOG_HERE, agent_environment, python_path
from kubeq.nodes.local import LocalProvider

POOL = PoolId("0123456789ab")
NAME = NodeName("0123456789ab-1")
PROGRAM = """
import json, os, sys, time
facts = {"cwd": os.getcwd(), "session": os.getsid(0), "pid": os.getpid(), "environment": dict(os.environ),
         "stdin": sys.stdin.read()}
place = os.path.join(os.environ["KUBEQ_AGENT_STATE"], "facts-%d.json" % os.getpid())
with open(place + ".new", "w") as file:
    json.dump(facts, file)
os.rename(place + ".new", place)
time.sleep(60)
"""


def eventually(question: Callable[[], object]) -> object:
    deadline = time.monotonic() + 20
    while not (answer := question()):
        assert time.monotonic() < deadline, "not within 20 s"
        time.sleep(0.01)
    return answer


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def provider(state: Path) -> Iterator[LocalProvider]:
    one = LocalProvider(state, [sys.executable, "-c", PROGRAM])
    yield one
    one.terminate(list(one.observe(POOL)))


def request_in(state: Path, limit: Resources | None = None) -> NodeRequest:
    return NodeRequest(
        pool=POOL,
        queue_url=f"sqlite:{state}/queue.db",
        store_url=f"file://{state}/store",
        blobs_url=f"file://{state}/store",
        state_dir=state,
        cache_dir=state / "cache",
        linger_s=600,
        linger_others_s=60,
        poll_s=0.25,
        limit=limit,
    )


def facts_of(state: Path) -> dict[str, object]:
    path = eventually(lambda: next(iter(state.glob("facts-*.json")), None))
    assert isinstance(path, Path)
    found: dict[str, object] = json.loads(path.read_text())
    return found


def test_a_node_runs_in_a_session_of_its_own_at_the_root_without_stdin(provider: LocalProvider, state: Path) -> None:
    answer = provider.launch(request_in(state), {NAME: 1})[NAME]
    facts = facts_of(state)
    assert isinstance(answer, Launched)
    assert (facts["pid"], facts["session"], facts["cwd"], facts["stdin"]) == (answer.pid, answer.pid, "/", "")
    assert provider.observe(POOL)[NAME].alive


def test_no_node_is_started_where_several_machines_share_the_state(state: Path) -> None:
    state.mkdir()
    device = state.stat().st_dev
    mounts = state / "mountinfo"
    mounts.write_text(f"36 35 {os.major(device)}:{os.minor(device)} / /home rw - nfs4 server:/home rw\n")
    refused = LocalProvider(state, ["true"], mounts).launch(request_in(state), {NAME: 1})[NAME]
    assert isinstance(refused, Refused)
    assert "network file system (nfs4)" in refused.reason and "state_dir" in refused.reason


def test_a_node_is_told_its_own_variables_and_none_of_the_callers(provider: LocalProvider, state: Path) -> None:
    os.environ["KUBEQ_IMAGE"] = "callers"
    try:
        provider.launch(request_in(state, Resources(cpu=1.5, memory=10**9)), {NAME: 1})
    finally:
        del os.environ["KUBEQ_IMAGE"]
    environment = facts_of(state)["environment"]
    assert isinstance(environment, dict)
    ours = {name: value for name, value in environment.items() if name.startswith("KUBEQ_")}
    assert ours == agent_environment(request_in(state, Resources(cpu=1.5, memory=10**9)), NAME, 1, "local") | LOG_HERE
    assert (ours["KUBEQ_AGENT_CPU"], ours["KUBEQ_AGENT_MEMORY"], ours["KUBEQ_AGENT_UNTIL_IDLE"]) == (
        "1.5",
        "1000000000",
        "0",
    )
    assert environment["PATH"] == os.environ["PATH"]


def test_launching_a_live_name_again_starts_nothing(provider: LocalProvider, state: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        again = [threads.submit(provider.launch, request_in(state), {NAME: 1}) for _ in range(4)]
        answers = {answer.result()[NAME] for answer in again}
    assert len(answers) == 1
    assert all(isinstance(answer, Launched) for answer in answers)


def test_a_dead_node_is_told_with_the_last_line_it_printed(state: Path) -> None:
    provider = LocalProvider(state, ["/bin/sh", "-c", "echo first; echo 'it broke' >&2; echo; exit 3"])
    provider.launch(request_in(state), {NAME: 1})
    eventually(lambda: not provider.observe(POOL)[NAME].alive)
    assert provider.observe(POOL)[NAME].reason == "it broke"


def test_a_dead_name_can_be_launched_again(state: Path) -> None:
    provider = LocalProvider(state, ["true"])
    first = provider.launch(request_in(state), {NAME: 1})[NAME]
    eventually(lambda: not provider.observe(POOL)[NAME].alive)
    second = provider.launch(request_in(state), {NAME: 1})[NAME]
    assert isinstance(first, Launched) and isinstance(second, Launched)
    assert first.pid != second.pid


def test_a_node_that_cannot_be_recorded_never_runs(state: Path) -> None:
    provider = LocalProvider(state, [sys.executable, "-c", PROGRAM])
    (state / "nodes" / NAME / "process.json").mkdir(parents=True)
    answer = provider.launch(request_in(state), {NAME: 1})[NAME]
    assert isinstance(answer, Refused)
    assert "process.json" in answer.reason
    second = NodeName("0123456789ab-2")
    provider.launch(request_in(state), {second: 2})
    facts = facts_of(state)
    assert facts["pid"] == provider.observe(POOL)[second].pid
    assert len(list(state.glob("facts-*.json"))) == 1
    provider.terminate([second])


def test_terminate_ends_a_node_and_knows_no_error_for_others(provider: LocalProvider, state: Path) -> None:
    provider.launch(request_in(state), {NAME: 1})
    provider.terminate([NAME, NodeName("0123456789ab-99")])
    eventually(lambda: not provider.observe(POOL)[NAME].alive)
    provider.terminate([NAME])


@pytest.mark.parametrize("wrong", [{"started": 1}, {"boot": "another-boot"}])
def test_a_process_that_was_given_the_pid_later_is_never_signalled(state: Path, wrong: dict[str, object]) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        mark = mark_of(stranger.pid)
        assert mark is not None
        record = {"schema": 1, "pool": POOL, "number": 1, "pid": mark.pid, "started": mark.started, "boot": mark.boot}
        directory = state / "nodes" / NAME
        directory.mkdir(parents=True)
        (directory / "process.json").write_text(json.dumps({**record, **wrong}))
        provider = LocalProvider(state)
        assert not provider.observe(POOL)[NAME].alive
        provider.terminate([NAME])
        assert not has_ended(mark)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_node_on_record_in_another_pid_namespace_is_neither_called_dead_nor_signalled(state: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        mark = mark_of(stranger.pid)
        assert mark is not None
        record = {"schema": 1, "pool": POOL, "number": 1, "pid": mark.pid, "started": mark.started, "boot": mark.boot}
        (state / "nodes" / NAME).mkdir(parents=True)
        (state / "nodes" / NAME / "process.json").write_text(json.dumps({**record, "namespace": "1"}))
        provider = LocalProvider(state)
        assert provider.observe(POOL)[NAME].alive
        provider.terminate([NAME])
        assert stranger.poll() is None and not has_ended(mark)
    finally:
        stranger.kill()
        stranger.wait()


def test_nodes_of_other_pools_and_broken_records_are_not_seen(provider: LocalProvider, state: Path) -> None:
    provider.launch(request_in(state), {NAME: 1})
    broken = state / "nodes" / "broken"
    broken.mkdir()
    (broken / "process.json").write_text('{"pool": "0123')
    assert set(provider.observe(POOL)) == {NAME}
    assert provider.observe(PoolId("ffffffffffff")) == {}


def test_without_a_state_folder_there_are_no_nodes_and_none_is_made(tmp_path: Path) -> None:
    assert LocalProvider(tmp_path / "state").observe(POOL) == {}
    assert not (tmp_path / "state").exists()


def test_a_node_survives_the_process_that_started_it(state: Path) -> None:
    launcher = (
        "import sys; from pathlib import Path; from kubeq.nodes.local import LocalProvider\n"
        "from tests.unit.nodes.test_local import NAME, PROGRAM, request_in\n"
        "state = Path(sys.argv[1])\n"
        "LocalProvider(state, [sys.executable, '-c', PROGRAM]).launch(request_in(state), {NAME: 1})"
    )
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'consumer'}"}
    subprocess.run([sys.executable, "-c", launcher, str(state)], check=True, env=environment, timeout=60)
    facts_of(state)
    provider = LocalProvider(state)
    assert provider.observe(POOL)[NAME].alive
    provider.terminate([NAME])
    eventually(lambda: not provider.observe(POOL)[NAME].alive)


def test_the_agent_is_found_from_any_directory_when_kubeq_runs_from_a_checkout() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import kubeq_consumer, kubeq"],
        cwd="/",
        env={**os.environ, "PYTHONPATH": python_path(".")},
        timeout=60,
    )
    assert found.returncode == 0
