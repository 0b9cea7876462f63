"""What -v adds is kubeq's own."""

from __future__ import annotations

from pathlib import Path

from tests.homes import Home
from tests.stand_ins.dynamodb import made_table
from tests.stand_ins.ministack import REGION, Cloud


def test_no_library_of_a_cloud_is_heard_and_no_secret_is_seen_however_verbose(
    tmp_path: Path, emulated_aws: Cloud
) -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY": "canary-of-the-key", "AWS_SESSION_TOKEN": "canary-of-the-token"}
    home = Home(tmp_path, **(dict(emulated_aws.environment) | secrets))
    queue = f"dynamodb://{REGION}/{made_table(emulated_aws)}"
    (home.cwd / ".kubeq").write_text(f"[config]\ndefault_url_prefix = s3://bucket/jobs\nqueue_url = {queue}\n")
    done = home.run("-vv", "status")
    assert "no jobs" in done.stdout
    assert "botocore" not in done.stderr and "canary" not in done.stderr
