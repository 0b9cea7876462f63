"""What -v adds is kubeq's own, and with -vv what a command has cost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.homes import Home
from tests.stand_ins.dynamodb import made_table
from tests.stand_ins.ministack import REGION, Cloud


def test_no_library_of_a_cloud_is_heard_and_no_secret_is_seen_however_verbose(
    tmp_path: Path, emulated_aws: Cloud
) -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY": "canary-of-the-key", "AWS_SESSION_TOKEN": "canary-of-the-token"}
    home = Home(tmp_path, **(dict(emulated_aws.environment) | secrets))
    queue = f"dynamodb://{REGION}/{made_table(emulated_aws)}"
    (home.cwd / ".kubeq").write_text(
        f"[config]\ndefault_url_prefix = s3://bucket/jobs\nqueue_url = {queue}\nprovider = local\n"
    )
    done = home.run("-vv", "status")
    assert "no jobs" in done.stdout
    assert "botocore" not in done.stderr and "canary" not in done.stderr
    assert "requests: queue 1 Query; store none" in done.stderr


ASKED = re.compile(r"^requests: queue (?P<queue>.*); store (?P<store>.*)$", re.MULTILINE)


def test_twice_verbose_tells_the_requests_of_a_command_in_every_mode(kubeq: Any) -> None:
    for mode in ((), ("-q",), ("--json",), ("--csv",)):
        ran = kubeq("-vv", "status", *mode)
        told = ASKED.findall(ran.stderr)
        assert told == [(told[0][0], "none")] and re.fullmatch(r"\d+ reads?", told[0][0]), (mode, ran.stderr)
        assert "requests" not in ran.stdout


def test_the_requests_are_told_of_a_command_that_fails_too(kubeq: Any) -> None:
    ran = kubeq("-vv", "show", "nothing")
    assert ran.code == 4
    assert ran.stderr.index("error: ") < ran.stderr.index("requests: queue ")


def test_a_command_that_asks_nobody_says_so(kubeq: Any) -> None:
    assert kubeq("-vv", "config", "lease").stderr == "requests: none\n"


def test_less_verbose_or_in_a_mode_that_there_is_not_nothing_is_told_of_requests(kubeq: Any) -> None:
    assert "requests" not in kubeq("-v", "status").stderr
    assert "requests" not in kubeq("-vv", "status", environment={"KUBEQ_OUTPUT": "loud"}).stderr


def test_a_submission_and_a_check_tell_what_they_have_asked(kubeq: Any) -> None:
    for words in (("sub", "--prepare", "-i", "none", "true"), ("check", "-o", "image=none")):
        told = ASKED.search(kubeq("-vv", *words).stderr)
        assert told is not None and "put" in told["store"] and "write" in told["queue"], words
