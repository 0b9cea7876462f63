"""`setup` and `check` as far as they go without a cloud, an engine and nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from secrets import token_hex
from typing import Any

import pytest

from tests.stand_ins.ministack import REGION, Cloud

Snapshot = Callable[..., None]
MODES = {"text": (), "json": ("--json",), "quiet": ("-q",), "csv": ("--csv",)}


@pytest.mark.parametrize("mode", MODES)
def test_everything_that_is_embedded_passes_the_check(kubeq: Any, snapshot: Snapshot, mode: str) -> None:
    snapshot(kubeq(*MODES[mode], "check", "-o", "image=none"), f"check-{mode}")


@pytest.mark.parametrize("mode", MODES)
def test_what_fails_is_told_with_its_hint_and_the_exit_code(kubeq: Any, snapshot: Snapshot, mode: str) -> None:
    ran = kubeq(*MODES[mode], "check")
    assert ran.code == 6
    snapshot(ran, f"check-without-engine-{mode}")


def test_a_check_leaves_nothing_behind(kubeq: Any) -> None:
    kubeq("check", "-o", "image=none")
    assert [path for path in (kubeq.state / "store").rglob("*") if path.is_file()] == []
    assert json.loads(kubeq("--json", "status").stdout)["jobs"] == []


def test_a_state_folder_that_cannot_be_used_is_a_finding_and_no_error(kubeq: Any) -> None:
    blocked = kubeq.write("blocked", "a file")
    ran = kubeq("--json", "check", "-o", "image=none", "-o", f"state_dir={blocked}/x")
    found = {each["check"]: each["outcome"] for each in json.loads(ran.stdout)["checks"]}
    assert (ran.code, found["configuration"], found["state-folder"], found["store-write"]) == (
        6, "passed", "failed", "failed",
    )  # fmt: skip


def test_a_cache_folder_that_cannot_be_used_is_a_finding(kubeq: Any) -> None:
    blocked = kubeq.write("blocked", "a file")
    ran = kubeq("--json", "check", "-o", "image=none", "-o", f"cache_dir={blocked}/x")
    found = {each["check"]: each["outcome"] for each in json.loads(ran.stdout)["checks"]}
    assert (ran.code, found["state-folder"], found["cache-folder"], found["store-write"]) == (
        6, "passed", "failed", "passed",
    )  # fmt: skip


@pytest.mark.parametrize("mode", ("text", "json", "quiet"))
def test_nothing_has_to_be_made_for_what_is_embedded(kubeq: Any, snapshot: Snapshot, mode: str) -> None:
    snapshot(kubeq(*MODES[mode], "setup"), f"setup-embedded-{mode}")
    assert kubeq.nothing_stored()


def test_a_configuration_that_is_written_loads_and_is_written_once(kubeq: Any, snapshot: Snapshot) -> None:
    first = kubeq("setup", "-o", "retries=2", "--write-config")
    assert (kubeq.project / ".kubeq").read_text() == (
        "# Written by kubeq setup.\n[config]\n"
        f"default_url_prefix = file://{kubeq.state}/store\nqueue_url = sqlite:{kubeq.state}/queue.db\nretries = 2\n"
    )
    assert kubeq("config", "retries").stdout == "2\n"
    assert kubeq("setup", "--write-config").code == first.code == 0
    assert kubeq("check", "-o", "image=none").code == 0
    snapshot(kubeq("setup", "-o", "retries=3", "--write-config"), "setup-bad-written-file")
    assert kubeq("setup", "-o", "retries=3", "--write-config", "other").code == 0


def test_the_policy_names_the_account_that_the_table_was_seen_in(kubeq: Any, emulated_aws: Cloud) -> None:
    name = f"setup-{token_hex(4)}"
    words = ("-o", f"default_url_prefix=s3://{name}/jobs", "-o", f"queue_url=dynamodb://{REGION}/{name}")
    ran = kubeq("--json", "setup", *words, environment=emulated_aws.environment)
    assert ran.code == 0, ran.stderr
    (policy,) = json.loads(ran.stdout)["policies"].values()
    tables = [each for statement in policy["Statement"] for each in statement["Resource"] if ":dynamodb:" in each]
    assert len(tables) == 2 and not any(f"{REGION}:*:" in table for table in tables)


def test_a_file_that_says_something_else_is_refused_before_anything_is_made(kubeq: Any, emulated_aws: Cloud) -> None:
    name = f"setup-{token_hex(4)}"
    kubeq.write(".kubeq-other", "# mine\n")
    keys = (f"default_url_prefix=s3://{name}/jobs", f"queue_url=dynamodb://{REGION}/{name}", "provider=local")
    words = [word for key in keys for word in ("-o", key)]
    ran = kubeq("setup", *words, "--write-config", ".kubeq-other", environment=emulated_aws.environment)
    assert (ran.code, ran.stdout) == (5, "")
    dry = kubeq("--json", "setup", "--dry-run", *words, environment=emulated_aws.environment)
    assert {piece["state"] for piece in json.loads(dry.stdout)["pieces"]} == {"missing"}


def test_a_dry_run_writes_no_file(kubeq: Any) -> None:
    ran = kubeq("setup", "--dry-run", "--write-config")
    assert f"would be written to {kubeq.project}/.kubeq" in ran.stdout
    assert not (kubeq.project / ".kubeq").exists()


HIDDEN = {"boto3": ("s3://bucket/me", "aws"), "google.cloud": ("gs://bucket/me", "gcp")}


@pytest.mark.parametrize("module", HIDDEN)
@pytest.mark.parametrize(
    "words", [("status",), ("sub", "--image", "none", "true"), ("setup", "--dry-run"), ("check", "-o", "image=none")]
)
def test_a_library_that_is_not_installed_is_named_with_what_installs_it(
    kubeq: Any, module: str, words: tuple[str, ...]
) -> None:
    url, extra = HIDDEN[module]
    hidden = kubeq.root / "hidden"
    for path in (hidden / "boto3.py", hidden / "google/cloud/__init__.py"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"raise ModuleNotFoundError('No module named {module}', name={module!r})\n")
    kubeq.environment["PYTHONPATH"] = f"{hidden}:{kubeq.environment['PYTHONPATH']}"
    where = (
        word
        for key in (f"default_url_prefix={url}", "region=eu-west-1", "project=some-lab", "provider=local")
        for word in ("-o", key)
    )
    ran = kubeq(words[0], *where, *words[1:])
    assert ran.code == 6
    said = ran.stdout + ran.stderr
    assert f"pip install 'kubeq[{extra}]'" in said and module in said
    assert not list(kubeq.state.glob("submissions/*"))


def test_an_unknown_kind_of_store_is_told_with_the_known_ones(kubeq: Any) -> None:
    ran = kubeq("status", "-o", "default_url_prefix=ftp://host/me")
    assert ran.code == 2 and "'ftp'; known are file, " in ran.stderr
    assert kubeq.nothing_stored()


BAD = {
    "missing-project": ("-o", "default_url_prefix=gs://bucket/me"),
    "missing-region": ("-o", "default_url_prefix=s3://bucket/me"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_configuration_that_cannot_work_is_refused(kubeq: Any, snapshot: Snapshot, name: str) -> None:
    kubeq.environment |= dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION", "GOOGLE_CLOUD_PROJECT"), "")
    ran = kubeq("status", *BAD[name])
    assert ran.code == 2
    snapshot(ran, f"config-bad-{name}")
    assert kubeq.nothing_stored()
