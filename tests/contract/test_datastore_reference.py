"""The table's contract over Google's own emulators, where a machine has them: is our stand-in too kind?

Skipped elsewhere, in CI too, because nobody can install them from a package registry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from secrets import token_hex

import pytest

from kubeq.queue.base import Partition, Tally
from kubeq.queue.datastore import DatastoreTable
from kubeq.queue.datastore_entities import Place
from tests.contract.test_record_table import *  # noqa: F403 (the whole contract, with another `open_client`)
from tests.contract.test_record_table import Open
from tests.stand_ins.google_datastore import EMULATORS, googles_emulator


class CountingByListing(DatastoreTable):
    """For the older emulator, which does not implement aggregation queries."""

    def count(self, partition: Partition, consistent: bool) -> Mapping[Tally, int]:
        rows = self.list(partition, None, self.batch).rows
        return Counter(row.tally for row in rows if row.tally is not None)


@pytest.fixture(scope="module", params=sorted(EMULATORS))
def googles(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with googles_emulator(request.param, tmp_path_factory.mktemp(request.param)) as address:
        yield request.param, address


@pytest.fixture
def open_client(googles: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Open:
    name, address = googles
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", address)
    place = Place(project=f"test-{token_hex(6)}", namespace="", database="")
    return lambda: (CountingByListing if name == "datastore" else DatastoreTable)(place)
