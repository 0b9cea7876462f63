"""Stores of the real services, for `pytest -m live`."""

from __future__ import annotations

import os
import time
from secrets import token_hex

import pytest

from kubeq.store.base import ObjectStore
from kubeq.store.open import open_store
from kubeq.store.retry import Retrying


def live_store(request: pytest.FixtureRequest, variable: str) -> ObjectStore:
    """A store of the test's own below the URL in that variable, retried as users' stores are; emptied in the end."""
    url = os.environ.get(variable)
    if not url:
        pytest.fail(
            f"{variable} is not set; it is the URL of a store below which the tests may make and delete objects"
        )
    store = Retrying(open_store(f"{url}/{token_hex(6)}"), time.sleep)
    request.addfinalizer(lambda: store.delete([stored.key for stored in store.list("")]))
    return store
