"""Google's own emulators of Datastore, where they happen to be on a machine: what our own stand-in is compared with.

They are parts of the Google Cloud CLI (`gcloud components install cloud-datastore-emulator cloud-firestore-emulator`),
need Java, and are in no package registry, so tests can neither install nor demand them: where they are missing, their
tests are skipped, in CI too. The older one counts nothing and tells no time; the newer one, of Firestore in Datastore
mode, takes longer.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.api_core import exceptions as api
from google.cloud import datastore

from tests.stand_ins.base import Server, serving

EMULATORS = {
    "datastore": (
        "cloud-datastore-emulator/CloudDatastore.jar",
        "com.google.cloud.datastore.emulator.CloudDatastore",
        ["--testing"],
    ),
    "firestore": (
        "cloud-firestore-emulator/cloud-firestore-emulator.jar",
        "com.google.cloud.datastore.emulator.firestore.CloudFirestore",
        ["--database-mode=datastore-mode"],
    ),
}


@contextmanager
def googles_emulator(name: str, folder: Path) -> Iterator[str]:
    """Its address, for DATASTORE_EMULATOR_HOST; skips the test where there is none."""
    jar, main, options = EMULATORS[name]
    gcloud, java = shutil.which("gcloud"), shutil.which("java")
    found = Path(gcloud).resolve().parent.parent / "platform" / jar if gcloud else None
    if found is None or java is None or not found.exists():
        pytest.skip(
            f"NOT COMPARED WITH GOOGLE'S {name.upper()} EMULATOR, which is not on this machine and in no registry; "
            f"with it: gcloud components install cloud-{name}-emulator, and Java"
        )

    def command(port: int) -> list[str]:
        start = ["start", "--host=127.0.0.1", f"--port={port}", *options]
        return [java, "-Xmx512m", "-cp", str(found), main, *start]

    with serving(command, lambda _: {"PATH": "/usr/bin:/bin", "HOME": str(folder)}, _answers, folder) as server:
        yield _address(server)


def _address(server: Server) -> str:
    return f"127.0.0.1:{server.port}"


def _answers(server: Server) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATASTORE_EMULATOR_HOST", _address(server))
        client = datastore.Client(project="ready")
        try:
            client.get(client.key("ready", "yet"), retry=None, timeout=1)
        except (api.ServiceUnavailable, api.DeadlineExceeded):
            return False
    return True
