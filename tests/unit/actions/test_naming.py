"""Names and ids."""

from __future__ import annotations

import pytest

from kubeq.actions.naming import default_name, is_job_id, new_job_id, private_pool_id, shared_pool_id
from kubeq.core.names import JOB_NAME


def test_an_id_is_the_time_in_utc_and_four_letters() -> None:
    id = new_job_id(1_767_323_045.0)
    assert id.startswith("20260102-030405-")
    assert is_job_id(id)


def test_ids_of_one_second_differ() -> None:
    assert len({new_job_id(0.0) for _ in range(100)}) > 90


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["echo", "hi"], "echo"),
        (["python3", "^mandelbrot.py", "{x}"], "mandelbrot.py"),
        (["python3", "^scripts/^odd name!.py"], "odd-name-.py"),
        (["^{file}", "x"], "file"),
        (["/usr/bin/env", "true"], "env"),
        (["echo a; exit 3"], "echo"),
        (["LAST"], "job"),
        (["20260102-030405-abcd"], "job"),
        (["***"], "job"),
        (["ü" * 100], "job"),
        (["x" * 100], "x" * 64),
    ],
)
def test_a_job_without_a_name_is_called_after_its_first_file_or_word(command: list[str], name: str) -> None:
    assert default_name(command) == name
    assert JOB_NAME.fullmatch(name)


def test_a_shared_pool_is_the_digest_of_what_its_nodes_are_asked_for() -> None:
    one = shared_pool_id("sqlite:/a", "file:///s", "local")
    assert one == shared_pool_id("sqlite:/a", "file:///s", "local")
    others = [("sqlite:/b", "file:///s", "local"), ("sqlite:/a", "file:///t", "local"), ("sqlite:/a", "file:///s", "x")]
    assert one not in [shared_pool_id(*other) for other in others]
    assert len(one) == 12


def test_a_private_pool_is_never_met_again() -> None:
    assert len({private_pool_id() for _ in range(1000)}) == 1000
