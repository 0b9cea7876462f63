"""The walls of the house: who may import whom, where printing and broad excepts may stand, what the agent loads."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = [*sorted((ROOT / "kubeq").rglob("*.py")), *sorted((ROOT / "consumer").rglob("*.py"))]
LONGEST_MODULE = 300
LONGEST_FUNCTION = 46
SDK_HOMES = {
    "docker": ("kubeq/actions/images.py", "consumer/kubeq_consumer/runtimes/docker_engine.py"),
    "boto3": ("kubeq/aws.py",),
    "botocore": ("kubeq/aws.py",),
    "google": ("kubeq/gcp.py", "kubeq/*/gcs*.py", "kubeq/*/datastore*.py", "kubeq/*/gce*.py"),
    "paramiko": ("kubeq/nodes/ssh*.py",),
}


def _trees() -> Iterator[tuple[str, ast.Module]]:
    for path in SOURCES:
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'consumer'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_core_imports_the_standard_library_and_errors_only() -> None:
    for name, tree in _trees():
        if name.startswith("kubeq/core/"):
            for module in _imports(tree):
                ours = module.split(".")[0] in ("kubeq", "kubeq_consumer")
                allowed = module.startswith(("kubeq.core", "kubeq.errors"))
                assert allowed if ours else module.split(".")[0] in sys.stdlib_module_names, f"{name} imports {module}"


def test_core_does_no_input_or_output() -> None:
    banned = {"os", "pathlib", "socket", "subprocess", "logging", "threading", "shutil", "sqlite3", "urllib"}
    for name, tree in _trees():
        if name.startswith("kubeq/core/"):
            assert not banned & {module.split(".")[0] for module in _imports(tree)}, name


def test_an_sdk_is_imported_only_in_the_modules_named_after_it() -> None:
    for name, tree in _trees():
        for module in _imports(tree):
            homes = SDK_HOMES.get(module.split(".")[0])
            assert homes is None or any(fnmatch(name, home) for home in homes), f"{name} imports {module}"


def test_only_the_output_prints_and_only_main_exits() -> None:
    programs = {"kubeq/relay/__main__.py", "consumer/kubeq_consumer/__main__.py"}
    allowed = {"kubeq/cli/output.py", "kubeq/cli/main.py", *programs}
    for name, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "sys.exit", "exit") or name in allowed, f"{name}: {called}"


def test_broad_excepts_stand_in_two_places_only() -> None:
    found = []
    for name, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                caught = "" if node.type is None else ast.unparse(node.type)
                cleans_up_only = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
                if caught in ("", "Exception", "BaseException") and not cleans_up_only:
                    found.append(name)
    assert sorted(found) == ["consumer/kubeq_consumer/attempt.py", "kubeq/cli/main.py"]


def test_there_are_fewer_than_twenty_error_classes() -> None:
    tree = ast.parse((ROOT / "kubeq/errors.py").read_text(encoding="utf-8"))
    assert sum(isinstance(node, ast.ClassDef) for node in tree.body) < 20


def test_a_started_agent_has_loaded_no_sdk_no_click_and_no_command_line() -> None:
    program = (
        "import sys, json; import kubeq_consumer.__main__, kubeq_consumer.building, kubeq_consumer.runtimes.process;"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'consumer'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(done.stdout))
    for module in (
        "click",
        "docker",
        "boto3",
        "botocore",
        "google.cloud",
        "paramiko",
        "kubeq.cli",
        "kubeq.actions",
        "kubeq.config",
    ):
        assert module not in loaded, module


def test_asking_for_the_version_loads_nothing_heavy() -> None:
    program = "import sys, json; import kubeq.cli.main; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout))
    for module in ("docker", "sqlite3", "http.client", "kubeq.queue", "kubeq.store", "kubeq.actions"):
        assert module not in loaded, module


def test_a_module_fits_on_a_few_screens_and_a_function_on_one() -> None:
    for name, tree in _trees():
        lines = len((ROOT / name).read_text(encoding="utf-8").splitlines())
        assert lines <= LONGEST_MODULE, f"{name} has {lines} lines: give its second purpose a module"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= LONGEST_FUNCTION, f"{name}: {node.name} has {length} lines"


def test_every_module_says_what_lives_in_it() -> None:
    for name, tree in _trees():
        assert ast.get_docstring(tree), f"{name} has no docstring"
