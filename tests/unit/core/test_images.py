from __future__ import annotations

import pytest

from kubeq.core.images import check_image_name, is_image_id, parse_image_name
from kubeq.errors import UsageError

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "name",
    [
        "python", "python:3.12-slim", "library/python", "ghcr.io/owner/name:v1", "localhost:5000/a/b__c.d-e:T_1",
        "[::1]:5000/a", f"python@sha256:{HEX}", f"host.example/a:1@sha256:{HEX}", f"sha256:{HEX}", "Host.Example/a",
    ],
)  # fmt: skip
def test_names_that_registries_take_are_taken(name: str) -> None:
    check_image_name(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        ("--privileged", "dash"),
        ("-x", "dash"),
        ("Python:3", "lower case"),
        ("owner/Name", "lower case"),
        ("a b", "blank"),
        ("a\nb", "blank"),
        ("http://host/a", "URL"),
        ("docker://host/a", "URL"),
        ("a@sha256:12", "64 hexadecimal"),
        ("a:", "may stand"),
        ("a//b", "may stand"),
        ("a/", "may stand"),
        ("a;b", "may stand"),
        ("a__" + "_b", "may stand"),
    ],
)
def test_what_cannot_be_a_name_is_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as raised:
        check_image_name(name)
    assert raised.value.hint


def test_a_name_too_long_for_registries_is_refused() -> None:
    with pytest.raises(UsageError, match="too long"):
        check_image_name("a" * 256)


def test_a_name_is_taken_apart() -> None:
    parsed = parse_image_name(f"localhost:5000/a/b:t@sha256:{HEX}")
    assert (parsed.repository, parsed.tag, parsed.digest) == ("localhost:5000/a/b", "t", f"sha256:{HEX}")


@pytest.mark.parametrize(
    "name", ["python", "library/python", "docker.io/library/python", "index.docker.io/library/python"]
)
def test_the_ways_to_write_a_name_of_docker_hub_are_one(name: str) -> None:
    assert parse_image_name(name).plain == "python"


def test_only_a_whole_id_is_an_id() -> None:
    assert is_image_id(f"sha256:{HEX}")
    assert not is_image_id(HEX) and not is_image_id("sha256:12") and not is_image_id("python")
