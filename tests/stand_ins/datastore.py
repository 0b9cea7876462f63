"""Datastore for tests: the emulator of our own, for every test that asks for it, or a real database:

    KUBEQ_LIVE_DATASTORE=datastore://PROJECT/NAMESPACE pytest -m live

Nothing of Google's is imported before a test asks. In the real database each test has a namespace of its own below the
one that is named, and removes what it wrote.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from secrets import token_hex
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kubeq.queue.datastore import DatastoreTable
    from tests.stand_ins.datastore_emulator import DatastoreEmulator

Open = Callable[[], "DatastoreTable"]
"""Opens one more client of a test's own table."""


@pytest.fixture(scope="session")
def datastore_server() -> Iterator[DatastoreEmulator]:
    """The emulator of this test process; the environment does not point to it yet."""
    from tests.stand_ins.datastore_emulator import DatastoreEmulator

    emulator = DatastoreEmulator()
    emulator.start()
    yield emulator
    emulator.stop()


@pytest.fixture
def emulated_datastore(
    datastore_server: DatastoreEmulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DatastoreEmulator]:
    """The same, for every client that is made during the test; afterwards it is as obliging as before."""
    for name, value in datastore_server.environment.items():
        monkeypatch.setenv(name, value)
    yield datastore_server
    datastore_server.mend()


@pytest.fixture
def open_datastore(emulated_datastore: DatastoreEmulator) -> Open:
    """Opens clients of one new table in the emulator."""
    from kubeq.queue.datastore import DatastoreTable
    from kubeq.queue.datastore_entities import Place

    place = Place(project=f"test-{token_hex(6)}", namespace="", database="")
    return lambda: DatastoreTable(place)


@pytest.fixture
def open_live_datastore() -> Iterator[Open]:
    """Opens clients of one new table in the real database that the environment names."""
    url = os.environ.get("KUBEQ_LIVE_DATASTORE", "")
    if not url.startswith("datastore://"):
        pytest.skip("KUBEQ_LIVE_DATASTORE names no namespace of a real database")
    from google.cloud import datastore

    from kubeq.queue.datastore import DatastoreTable
    from kubeq.queue.datastore_entities import KIND, Place
    from kubeq.queue.open import place_in_a_project

    named = Place(*place_in_a_project(url.removeprefix("datastore:")))
    place = named._replace(namespace=f"{named.namespace or 'kubeq-test'}-{token_hex(6)}")
    yield lambda: DatastoreTable(place)
    client = datastore.Client(project=place.project, namespace=place.namespace, database=place.database or None)
    query = client.query(kind=KIND)
    query.keys_only()
    keys = [entity.key for entity in query.fetch()]
    for start in range(0, len(keys), 500):
        client.delete_multi(keys[start : start + 500])
