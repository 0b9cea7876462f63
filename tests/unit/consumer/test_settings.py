"""What an agent is told: a token comes in a file, and is in no text that may be shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeq.errors import UsageError
from kubeq_consumer.settings import read_settings

SECRET = "ab" * 32


def told(tmp_path: Path, **more: str) -> dict[str, str]:
    words = {
        "POOL": "p",
        "NODE": "p-1",
        "QUEUE": "relay:///s",
        "STORE": "relay:///s",
        "STATE": str(tmp_path),
        "CACHE": str(tmp_path),
        **more,
    }
    return {f"KUBEQ_AGENT_{name}": value for name, value in words.items()}


def test_a_token_is_read_from_its_file_and_shown_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"p-1:{SECRET}\n")
    config = read_settings(told(tmp_path, TOKEN_FILE=str(file)))
    assert config.token == f"p-1:{SECRET}"
    assert SECRET not in repr(config)


def test_without_a_file_there_is_no_token(tmp_path: Path) -> None:
    assert read_settings(told(tmp_path)).token is None


def test_a_token_that_cannot_be_read_is_named_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("missing", "binary", "."):
        with pytest.raises(UsageError, match="TOKEN_FILE"):
            read_settings(told(tmp_path, TOKEN_FILE=str(tmp_path / name)))
