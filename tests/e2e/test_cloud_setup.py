"""Three lines of configuration move a job into a cloud: from `kubeq setup` to the agents of `sub` on two machines."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubeq.errors import NotFound
from tests.e2e.clouds import containers_of
from tests.homes import Home, eventually
from tests.stand_ins.ministack import REGION

MakeHome = Callable[[str], Home]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """A backplane that nobody has set up yet: what to say to `setup`, and what is in every process's environment."""

    name: str
    store: str
    queue: str
    keys: Mapping[str, str]
    environment: Mapping[str, str]

    @property
    def options(self) -> list[str]:
        """The keys as options of one command."""
        return [word for name, value in self.keys.items() for word in ("-o", f"{name}={value}")]


@pytest.fixture(params=["aws", "google"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    if request.param == "aws":
        account = request.getfixturevalue("ministack")
        bucket, table = account.name(), account.name()
        queue = f"dynamodb://{REGION}/{table}"
        keys = {"default_url_prefix": f"s3://{bucket}/me", "region": REGION, "queue_url": queue, "provider": "local"}
        return Cloud(
            name="aws", store=f"s3://{bucket}/me", queue=queue, keys=keys, environment=dict(account.environment)
        )
    storage, database = request.getfixturevalue("fake_gcs"), request.getfixturevalue("datastore_server")
    name = f"{storage.bucket()}-new"
    environment = {**database.environment, "STORAGE_EMULATOR_HOST": storage.url}
    keys = {"default_url_prefix": f"gs://{name}/me", "project": name, "provider": "local"}
    return Cloud(
        name="google", store=f"gs://{name}/me", queue=f"datastore://{name}", keys=keys, environment=environment
    )


@pytest.fixture
def make_home(tmp_path: Path, cloud: Cloud) -> Iterator[MakeHome]:
    """Homes whose processes can reach the cloud; none has a configuration yet."""
    made: list[Home] = []

    def make(name: str) -> Home:
        made.append(Home(tmp_path / name, **cloud.environment, KUBEQ_LEASE="5", KUBEQ_POLL="0.5", KUBEQ_LINGER="10"))
        return made[-1]

    yield make
    for home in made:
        home.end()


@pytest.fixture
def ready(make_home: MakeHome, cloud: Cloud) -> Home:
    """A home in which everything has been set up."""
    home = make_home("home")
    home.run("setup", *cloud.options, "--write-config")
    return home


def objects_in(store: str, environment: Mapping[str, str]) -> list[str]:
    """The keys of everything that is stored."""
    from kubeq.store.open import open_store

    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return [stored.key for stored in open_store(store).list("")]


def test_set_up_check_submit_and_fetch_from_a_home_that_has_the_configuration_only(
    make_home: MakeHome, cloud: Cloud
) -> None:
    home = make_home("home")
    told = home.json("setup", *cloud.options, "--dry-run")
    assert {piece["state"] for piece in told["pieces"]} == {"missing"}
    made = home.json("setup", *cloud.options, "--write-config")
    assert [piece["kind"] for piece in made["pieces"]] == [piece["kind"] for piece in told["pieces"]]
    assert {piece["state"] for piece in made["pieces"]} == {"created"}
    assert made["policies"]
    assert {piece["state"] for piece in home.json("setup")["pieces"]} == {"stands"}
    found = home.json("check", "--node", "-o", "image=none")
    assert found["ok"], found
    assert objects_in(cloud.store, cloud.environment) == []

    (home.cwd / "in.txt").write_text("from here\n")
    script = "cat in.txt; echo {index} > made.txt"
    home.run("sub", "-n", "demo", "--image", "none", "-u", "in.txt", "--seq", "3", "sh", "-c", script)
    other = make_home("other")
    (other.cwd / ".kubeq").write_bytes((home.cwd / ".kubeq").read_bytes())
    assert other.status("demo")["status"] == "succeeded"
    other.run("fetch", "demo", "out")
    assert [(other.cwd / f"out/{index}/made.txt").read_text() for index in (1, 2, 3)] == ["1\n", "2\n", "3\n"]
    assert other.run("logs", "demo/2").stdout == "from here\n"
    assert not other.agents()

    other.run("clean", "demo", "--results", "--yes")
    other.run("clean", "--blobs", "--force", "--yes")
    left = objects_in(cloud.store, cloud.environment)
    assert not [key for key in left if not key.startswith("nodes/")], "all but the log of a node that lingers"


def test_a_queue_on_the_network_is_asked_less_often(make_home: MakeHome, cloud: Cloud) -> None:
    home = make_home("home")
    del home.env["KUBEQ_POLL"]
    assert home.run("config", "poll").stdout == "250ms\n"
    assert home.run("config", "poll", *cloud.options).stdout == "3s\n"


@pytest.mark.docker
def test_two_machines_serve_one_job_and_one_of_them_may_die(
    ready: Home, make_home: MakeHome, busybox_image: str
) -> None:
    """Two homes stand for two machines: each has a state, a cache and an agent of its own. No task ends before one of
    them is dead."""
    (ready.cwd / "in.txt").write_text("in\n")
    gate = ready.root / "gate"
    gate.mkdir(mode=0o755)
    script = "until test -e /gate/open; do sleep 0.1; done; cat in.txt; echo {index} > made.txt"
    options = ("-i", busybox_image, "-u", "in.txt", "--mount", f"{gate}:/gate:ro", "--seq", "8")
    job = ready.submit("-n", "shared", *options, "sh", "-c", script)
    other = make_home("other")
    (other.cwd / ".kubeq").write_bytes((ready.cwd / ".kubeq").read_bytes())
    other.run("addnodes", "1", job)
    mine, theirs = ready.agents(), other.agents()

    def working() -> set[str]:
        return {task["node"] for task in ready.tasks(job) if task["started_at"]}

    eventually(lambda: ready.stands(job) == "running", "one runs something", ready)
    eventually(lambda: working() == {*mine, *theirs}, "both run something", other)
    for pid in mine.values():
        os.kill(pid, signal.SIGKILL)
    (gate / "open").touch()
    eventually(lambda: other.stands(job) == "succeeded", "the other one does the rest", other, timeout=120)
    tasks = other.tasks(job)
    assert {task["node"] for task in tasks} == set(theirs)
    assert any(task["attempt"] > 1 for task in tasks)
    assert containers_of(job) == [], "the other agent has cleared up after the dead one"
    other.run("fetch", job, "out")
    assert [(other.cwd / f"out/{task['index']}/made.txt").read_text() for task in tasks] == [
        f"{task['index']}\n" for task in tasks
    ]


def test_an_interrupted_submission_is_completed_by_resume(ready: Home) -> None:
    (ready.cwd / "in.txt").write_text("in\n")
    process = ready.start(
        "sub", "-n", "cut", "--image", "none", "-u", "in.txt", "--seq", "400", "sh", "-c", "true {index}"
    )
    (draft,) = eventually(lambda: list(ready.state.glob("submissions/*.jsonl")), "it is drafted", ready)
    eventually(lambda: _is_in_the_queue(ready, draft.stem), "it has begun", ready)
    process.kill()
    process.communicate()
    (found,) = ready.json("status")["jobs"]
    if found["status"] == "incomplete":
        ready.run("resume", found["id"])
    assert sum(ready.status("cut")["tasks"].values()) == 400
    ready.run("kill", "cut")


def _is_in_the_queue(home: Home, job: str) -> bool:
    try:
        return bool(home.stands(job))
    except NotFound:
        return False


def test_what_is_not_set_up_is_told_before_anything_is_stored(make_home: MakeHome, cloud: Cloud) -> None:
    home = make_home("home")
    missing = home.run("--json", "sub", *cloud.options, "--image", "none", "true", code=6)
    error = json.loads(missing.stderr.splitlines()[-1])["error"]
    assert "does not exist" in error["message"], error
    assert "kubeq setup" in error["hint"]
    assert not home.state.exists() or not list(home.state.glob("submissions/*"))


def test_a_store_that_is_missing_is_told_and_the_queue_has_no_job(ready: Home, cloud: Cloud) -> None:
    scheme = cloud.store.partition(":")[0]
    lost = f"default_url_prefix={scheme}://kubeq-test-nowhere-at-all/me"
    done = ready.run("sub", "-o", lost, "--image", "none", "true", code=6)
    assert "kubeq-test-nowhere-at-all does not exist" in done.stderr
    assert ready.json("status")["jobs"] == []


def test_a_job_of_another_store_is_told_and_not_mistaken_for_lost(ready: Home, cloud: Cloud) -> None:
    job = ready.submit("--prepare", "--image", "none", "true")
    other = f"default_url_prefix={cloud.store}-other"
    assert ready.json("-o", other, "status", job)["jobs"][0]["results_url"].startswith(f"{cloud.store}/")
    done = ready.run("-o", other, "fetch", job, "out", code=4)
    assert f"stored is in {cloud.store}/results/{job}/, and this configuration's store is {cloud.store}-other" in (
        done.stderr
    )


def test_a_store_of_this_machine_does_not_go_with_a_queue_on_the_network(ready: Home) -> None:
    done = ready.run("-o", f"default_url_prefix=file://{ready.root}/store", "status", code=2)
    assert "gives tasks to any machine, and their files are on this one" in done.stderr


def test_a_queue_of_this_machine_goes_with_a_store_on_the_network(ready: Home, cloud: Cloud) -> None:
    queue = f"queue_url=sqlite:{ready.root}/q.db"
    done = ready.run("sub", "-o", queue, "--local", "--image", "none", "echo", "hi")
    assert done.stdout == "hi\n"
    assert any(key.startswith("results/") for key in objects_in(cloud.store, cloud.environment))
