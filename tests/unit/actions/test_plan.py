"""Plans: what a request comes to. Every refusal, with its words, is in tests/cli."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubeq.actions.plan import NO_ISOLATION, Plan, make_plan
from kubeq.config import load_config, with_flags
from kubeq.core.resources import Resources
from kubeq.core.spec import Network
from kubeq.errors import UsageError
from kubeq.nodes.base import NodeProvider
from tests.providers import FakeCloud, FakeProvider


@pytest.fixture
def plan(tmp_path: Path) -> Any:
    def make(*command: str, file: str = "", provider: NodeProvider | None = None, **flags: Any) -> Plan:
        (tmp_path / ".kubeq").write_text(f"[config]\n{file}\n")
        config = load_config(
            file=tmp_path / ".kubeq", profile=None, overrides=(), environ={"SET": "here"}, cwd=tmp_path, home=tmp_path
        )
        return make_plan(command, with_flags(config, flags), provider or FakeProvider())

    return make


def test_a_plain_command_is_one_task_with_the_defaults(plan: Any) -> None:
    made = plan("echo", "{hi}")
    assert (made.total, made.name, made.named, made.warnings) == (1, "echo", False, ())
    assert made.spec.command == ("echo", "{hi}")
    assert made.spec.image == "python:3.12-slim"
    assert made.spec.resources == Resources(cpu=1.0)
    assert made.spec.network is Network.SLOT


def test_options_end_up_in_the_spec_and_the_policy(plan: Any, tmp_path: Path) -> None:
    made = plan(
        "x", image="busybox", resources="cpu=2,memory=1G", env=["B=2", "A=1", "SET"], user="7:8", network="none",
        mount=[f"{tmp_path}:/data:ro"], shm_size="1Mi", cd="sub/dir", timeout="1m", results=["*.png"], ignore=["*.o"],
        retries="2", exclusive=True, entrypoint="sh -c", shell=True,
    )  # fmt: skip
    spec = made.spec
    assert spec.environment == (("A", "1"), ("B", "2"), ("SET", "here"))
    assert (spec.resources, spec.user, spec.network) == (Resources(cpu=2.0, memory=10**9), "7:8", Network.NONE)
    assert (spec.mounts[0].target, spec.mounts[0].read_only, spec.shm_size) == ("/data", True, 2**20)
    assert (spec.directory, spec.timeout_s, spec.results, spec.ignore) == ("sub/dir", 60.0, ("*.png",), ("*.o",))
    assert (spec.entrypoint, spec.shell) == (("sh", "-c"), True)
    assert (made.policy.retries, made.policy.exclusive, made.policy.loss_limit) == (2, True, 5)


def test_a_sequence_needs_no_placeholder(plan: Any) -> None:
    made = plan("simulate", seq="1000000")
    assert (made.total, made.warnings) == (1_000_000, ())
    assert made.spec.columns == ("index",)


def test_unused_columns_empty_cells_and_repeated_rows_are_told(plan: Any, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("x,not used\n1,\n1,\n")
    warnings = " ".join(plan("echo", "{x}", params=["p.csv"]).warnings)
    for word in ("column not used", "empty: 2", "own: 1", "'not used'"):
        assert word in warnings


def test_without_a_container_no_memory_is_asked_for_and_it_is_said_once(plan: Any) -> None:
    made = plan("true", image="none", file="default_resource_memory = 2G")
    assert made.spec.image is None
    assert made.spec.resources == Resources(cpu=1.0)
    assert made.warnings == (NO_ISOLATION,)


def test_an_image_of_the_configuration_gives_way_to_the_process_runtime(plan: Any) -> None:
    assert plan("true", runtime="process", file="image = busybox").spec.image is None


def test_a_container_option_of_the_configuration_is_refused_too_without_a_container(plan: Any) -> None:
    with pytest.raises(UsageError, match="--user"):
        plan("true", image="none", file="user = nobody")


@pytest.mark.parametrize("resources", ["cpu=4.5", "memory=9G"])
def test_a_request_that_no_node_can_hold_is_refused(plan: Any, resources: str) -> None:
    with pytest.raises(UsageError, match=r"largest node has cpu=4,memory=8\.0GB"):
        plan("true", resources=resources)


def test_a_word_that_no_record_can_hold_is_refused(plan: Any) -> None:
    with pytest.raises(UsageError, match="not valid UTF-8"):
        plan("echo", "\udcff")


@pytest.mark.parametrize("command", [["x" * 131_072], ["x" * 100_000] * 21])
def test_a_command_that_no_kernel_would_take_is_refused(plan: Any, command: list[str]) -> None:
    with pytest.raises(UsageError, match="too long"):
        plan(*command)


@pytest.mark.parametrize("unguarded", [{"image": "none"}, {"image": "busybox", "network": "host"}])
def test_tasks_that_could_act_as_a_machine_of_a_cloud_are_refused_unless_that_is_allowed(
    plan: Any, unguarded: dict[str, str]
) -> None:
    option = " ".join(f"--{name} {value}" for name, value in unguarded.items() if value != "busybox")
    with pytest.raises(UsageError, match=f"with {option} the tasks could act as the machine in the cloud") as caught:
        plan("true", provider=FakeCloud(), **unguarded)
    assert "--allow-node-credentials" in (caught.value.hint or "")
    allowed = plan("true", provider=FakeCloud(), allow_node_credentials=True, **unguarded)
    assert allowed.spec.allow_node_credentials
    assert plan("true", provider=FakeCloud(), local=True, **unguarded).spec.allow_node_credentials is False
    assert plan("true", **unguarded).spec.allow_node_credentials is False
    assert plan("true", provider=FakeCloud(), image="busybox").spec.allow_node_credentials is False
