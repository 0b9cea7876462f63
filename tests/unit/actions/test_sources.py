"""`kubeq://JOB/TASK/PATH`: what an earlier task stored, as it is recorded when the new job is submitted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from kubeq.actions.session import Session
from kubeq.actions.sources import look_of
from kubeq.config import with_flags
from kubeq.core.digest import Digest
from kubeq.core.model import Exit, Job
from kubeq.errors import Conflict, KubeqError, NotFound, ObjectNotFound, UsageError
from kubeq.store.sources import Pinned
from tests.jobs import FakeClock, Work, session_in

FILES = {"out/a.txt": b"A", "out/deep/run.sh": b"#!", "outer": b"O", "top": b"T"}


@pytest.fixture
def job(work: Work) -> Job:
    job = work.submit([("x",), ("y",)], ["n"], name="demo")
    (first, _) = work.claim(2)
    work.end(first, files=FILES, executable=["out/deep/run.sh"])
    return job


def found(session: Session, url: str) -> Mapping[str, Pinned]:
    return {file.name: file for file in look_of(session)(url)}


def test_one_file_is_named_by_its_attempt_and_its_digest(session: Session, job: Job) -> None:
    for name in (job.id, "demo"):
        assert found(session, f"kubeq://{name}/1/out/a.txt") == {
            "": Pinned(url=f"kubeq://{job.id}/1/1/out/a.txt", pin=f"sha256:{hashlib.sha256(b'A').hexdigest()}", size=1)
        }


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("", ["out/a.txt", "out/deep/run.sh", "outer", "top"]),
        ("/", ["out/a.txt", "out/deep/run.sh", "outer", "top"]),
        ("/out", ["a.txt", "deep/run.sh"]),
        ("/out/", ["a.txt", "deep/run.sh"]),
        ("/out/deep", ["run.sh"]),
        ("/top", [""]),
    ],
)
def test_a_directory_is_all_below_it(session: Session, job: Job, path: str, names: list[str]) -> None:
    assert sorted(found(session, f"kubeq://demo/1{path}")) == names


def test_the_executable_bit_comes_along(session: Session, job: Job) -> None:
    files = found(session, "kubeq://demo/1/out")
    assert (files["deep/run.sh"].executable, files["a.txt"].executable) == (True, False)


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("kubeq://demo", UsageError, "names no output of a task"),
        ("kubeq://demo/", UsageError, "names no output of a task"),
        ("kubeq://demo/x/out", UsageError, "names no output of a task"),
        ("kubeq://demo/0/out", UsageError, "names no output of a task"),
        ("kubeq:///1/out", UsageError, "names no output of a task"),
        ("kubeq://other/1/out", NotFound, "other"),
        ("kubeq://demo/3/out", NotFound, "has no task 3"),
        ("kubeq://demo/2/out", Conflict, "has stored nothing yet: it is claimed"),
        ("kubeq://demo/1/ou", ObjectNotFound, "there is nothing at kubeq://demo/1/ou"),
        ("kubeq://demo/1/../2/x", ObjectNotFound, "there is nothing"),
    ],
)
def test_what_names_no_stored_file_says_why(
    session: Session, job: Job, url: str, error: type[KubeqError], said: str
) -> None:
    with pytest.raises(error, match=said):
        look_of(session)(url)


def test_a_later_attempt_is_the_one_that_is_recorded(session: Session, work: Work) -> None:
    job = work.submit([("x",)], ["n"], name="again", retries=1)
    work.run(exit=Exit(code=1), files={"f": b"first"})
    work.clock.advance(3600)
    work.run(files={"f": b"second"})
    (file,) = found(session, "kubeq://again/1/f").values()
    assert file.url == f"kubeq://{job.id}/1/2/f"
    assert file.pin == f"sha256:{Digest.of(b'second').sha256}"


def test_results_in_another_store_are_refused(work: Work, session: Session, job: Job, tmp_path: Path) -> None:
    other = session_in(tmp_path / "other", FakeClock())
    other = type(other)(with_flags(other.config, {}), other.clock)
    other.__dict__["queue"] = session.queue
    other.__dict__["store"] = _Elsewhere(session)
    with pytest.raises(UsageError, match="which is another store than this job would have"):
        look_of(other)("kubeq://demo/1/out")


class _Elsewhere:
    """The same objects at another URL."""

    url = "file:///elsewhere"

    def __init__(self, session: Session) -> None:
        self._store = session.store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)
