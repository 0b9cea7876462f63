"""The submitter's question about an image, to no engine, to a real one, and to one that answers with errors."""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from kubeq.actions.images import describe_engine, release_of_image, resolve_elsewhere, resolve_image
from kubeq.errors import BackendError, ImageUnavailable

ROOT = Path(__file__).resolve().parents[3]
ID = "sha256:" + "1" * 64
DIGEST = "sha256:" + "d" * 64


class Engine(socketserver.ThreadingUnixStreamServer):
    """Answers as the Docker engine does, from a table of paths."""

    answers: dict[str, tuple[int, object]]


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine

    def do_GET(self) -> None:
        path = self.path.removeprefix("/v1.41")
        code, answer = self.server.answers.get(path, (404, {"message": f"no such thing: {path}"}))
        content = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def address_string(self) -> str:
        return "unix"


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    path = f"/tmp/kubeq-{tmp_path.name[-40:]}.sock"  # a socket's path ends at 107 bytes (unix(7))
    Path(path).unlink(missing_ok=True)
    with Engine(path, Answering) as server:
        version = {"ApiVersion": "1.41", "Version": "20.10", "Os": "linux", "Arch": "amd64"}
        server.answers = {"/version": (200, version)}
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        yield server
        server.shutdown()
        thread.join()
    Path(path).unlink(missing_ok=True)


def test_an_image_of_a_registry_is_pinned_to_the_registrys_digest(engine: Engine) -> None:
    engine.answers["/images/python:3.12/json"] = (200, {"Id": ID, "RepoDigests": [f"other@{ID}", f"python@{DIGEST}"]})
    assert resolve_image("python:3.12") == f"python@{DIGEST}"


def test_an_image_that_no_registry_gave_is_pinned_to_its_id(engine: Engine) -> None:
    engine.answers["/images/mine/json"] = (200, {"Id": ID, "RepoDigests": None})
    assert resolve_image("mine") == ID


def test_an_image_that_is_not_here_is_looked_up_in_its_registry_and_not_pulled(engine: Engine) -> None:
    engine.answers["/images/far/away:1/json"] = (404, {"message": "No such image: far/away:1"})
    engine.answers["/distribution/far/away:1/json"] = (200, {"Descriptor": {"digest": DIGEST}})
    assert resolve_image("far/away:1") == f"far/away@{DIGEST}"


@pytest.mark.parametrize(
    ("code", "words", "hint"),
    [
        (403, "errors: denied: requested access to the resource is denied", "docker login"),
        (404, "manifest unknown", "spelling"),
        (500, "dial tcp: lookup registry.example on 10.0.0.1:53: no such host", "docker load"),
    ],
)
def test_an_image_that_cannot_be_had_is_named_with_the_engines_words(
    engine: Engine, code: int, words: str, hint: str
) -> None:
    engine.answers["/images/gone/json"] = (404, {"message": "No such image: gone"})
    engine.answers["/distribution/gone/json"] = (code, {"message": words})
    with pytest.raises(ImageUnavailable) as error:
        resolve_image("gone")
    assert "gone" in error.value.message and words in error.value.message
    assert error.value.hint is not None and hint in error.value.hint


@pytest.mark.parametrize(("architecture", "fits"), [("amd64", True), ("riscv64", False), (None, True)])
def test_an_image_for_another_kind_of_machine_is_refused(engine: Engine, architecture: str, fits: bool) -> None:
    engine.answers["/images/mine/json"] = (200, {"Id": ID, "RepoDigests": None, "Architecture": architecture})
    platforms = [{"os": "linux", "architecture": architecture}, {"os": "windows", "architecture": "amd64"}]
    engine.answers["/images/far/json"] = (404, {"message": "No such image: far"})
    answer = {"Descriptor": {"digest": DIGEST}, "Platforms": platforms if architecture else []}
    engine.answers["/distribution/far/json"] = (200, answer)
    if fits:
        assert (resolve_image("mine"), resolve_image("far")) == (ID, f"far@{DIGEST}")
        return
    for image in ("mine", "far"):
        with pytest.raises(ImageUnavailable, match=f"{image} is for riscv64, and this machine is amd64") as error:
            resolve_image(image)
        assert "linux/amd64" in str(error.value.hint)
    assert resolve_elsewhere("far") == f"far@{DIGEST}", "nodes elsewhere may be of that kind"


def test_for_nodes_elsewhere_only_a_registrys_digest_means_anything(engine: Engine) -> None:
    engine.answers["/images/mine/json"] = (200, {"Id": ID, "RepoDigests": None})
    engine.answers["/images/python/json"] = (200, {"Id": ID, "RepoDigests": [f"python@{DIGEST}"]})
    assert resolve_elsewhere("mine") is None
    assert resolve_elsewhere("python") == f"python@{DIGEST}"
    assert resolve_elsewhere(ID) == ID, "whoever names an id knows why"
    assert resolve_elsewhere(f"far@{DIGEST}") == f"far@{DIGEST}"


def test_for_nodes_elsewhere_a_registry_that_cannot_be_asked_is_left_to_them(engine: Engine) -> None:
    engine.answers["/images/gone/json"] = (404, {"message": "No such image: gone"})
    engine.answers["/distribution/gone/json"] = (500, {"message": "dial tcp: no such host"})
    assert resolve_elsewhere("gone") is None
    engine.answers["/distribution/gone/json"] = (404, {"message": "manifest unknown"})
    with pytest.raises(ImageUnavailable, match="gone does not exist"):
        resolve_elsewhere("gone")


def test_nodes_elsewhere_need_no_engine_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert resolve_elsewhere("python") is None
    with pytest.raises(BackendError, match="no Docker engine answers"):
        describe_engine()


def test_the_engine_says_what_it_is(engine: Engine) -> None:
    assert describe_engine() == "Docker 20.10 for linux/amd64"


def test_an_id_that_is_not_here_is_asked_of_no_registry(engine: Engine) -> None:
    engine.answers[f"/images/{ID}/json"] = (404, {"message": "No such image"})
    with pytest.raises(ImageUnavailable, match="no registry"):
        resolve_image(ID)


def test_an_engine_in_trouble_is_a_transient_error_of_a_backend(engine: Engine) -> None:
    engine.answers["/images/python/json"] = (500, {"message": "the disk is on fire"})
    with pytest.raises(BackendError, match="the disk is on fire") as error:
        resolve_image("python")
    assert error.value.transient


def test_without_an_engine_the_hint_says_how_to_do_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(BackendError, match="no Docker engine answers") as error:
        resolve_image("python")
    assert error.value.hint is not None and "--image none" in error.value.hint
    assert f"at unix://{tmp_path}/none.sock (DOCKER_HOST): No such file" in error.value.message


def test_the_real_engine_pins_an_image_that_was_built_here(busybox_image: str) -> None:
    assert resolve_image(busybox_image).startswith("sha256:")


# ---- the agent's image ----


def test_an_image_on_this_machine_says_of_which_kubeq_it_is(engine: Engine) -> None:
    engine.answers["/images/agent:1/json"] = (200, {"Id": ID, "Config": {"Labels": {"kubeq.release": "0.1.0+abc"}}})
    engine.answers["/images/other:1/json"] = (200, {"Id": ID, "Config": {"Labels": None}})
    assert release_of_image("agent:1") == "0.1.0+abc"
    assert release_of_image("other:1") == "unknown"
    assert release_of_image("absent:1") is None


def test_without_an_engine_nothing_is_said_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    assert release_of_image("agent:1") is None


def test_an_engine_on_another_machine_is_not_asked_for_an_image_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://elsewhere")
    with pytest.raises(BackendError, match="ssh://elsewhere is not on this machine"):
        resolve_image("python:3")
    assert resolve_elsewhere("python:3") is None


ASKING = """
import sys
from kubeq.actions.images import describe_engine
from kubeq.errors import BackendError
from kubeq_consumer.runtimes.docker_engine import Engine
for ask in (describe_engine, Engine(sys.argv[1]).machine):
    try:
        ask()
    except BackendError as error:
        print(error)
assert "docker" in sys.modules
assert "paramiko" not in sys.modules
"""


def test_asking_an_engine_loads_nothing_for_engines_over_ssh(engine: Engine) -> None:
    pytest.importorskip("paramiko")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'consumer'}"}
    command = [sys.executable, "-c", ASKING, os.environ["DOCKER_HOST"]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
