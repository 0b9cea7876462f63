"""What is said where a package that only some need is not installed."""

from __future__ import annotations

import pytest

from kubeq.errors import BackendError
from kubeq.extras import extra


def test_a_package_that_is_missing_is_told_with_the_command_that_installs_it() -> None:
    with pytest.raises(BackendError) as caught, extra("aws"):
        raise ModuleNotFoundError("No module named 'boto3'", name="boto3")
    assert caught.value.message == "the Python package boto3 is needed and is not installed"
    assert caught.value.hint == "pip install 'kubeq[aws]'"


@pytest.mark.parametrize("name", ["kubeq.store.gone", "kubeq_consumer"])
def test_a_module_of_our_own_is_not_to_be_installed(name: str) -> None:
    with pytest.raises(ModuleNotFoundError), extra("aws"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
