"""Inputs by URL, from the command line to the task: from a web server, from a bucket, from an earlier task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubeq.store.gcs_bucket import Bucket
from tests.homes import Home, eventually
from tests.stand_ins.gcs import EMULATOR, FakeGcs
from tests.stand_ins.web import Page, Web

RUN = ("--image", "none")


def test_a_task_finds_what_its_urls_name_and_the_client_sent_none_of_it(
    tmp_path: Path, web: Web, emulated_gcs: FakeGcs
) -> None:
    home = Home(tmp_path / "home", **{EMULATOR: emulated_gcs.url})
    bucket = Bucket(emulated_gcs.bucket())
    for name in ("tree/a", "tree/b/c"):
        bucket.create(name, name.encode())
    page = web.put("/f.txt", b"from the web\n", cuts=1)
    uploads = ("-u", f"{page}:web.txt", "-u", f"gs://{bucket.name}/tree:t")
    try:
        done = home.json("sub", *RUN, *uploads, "--fetch", "got", "sh", "-c", "cat web.txt t/a t/b/c > all")
        assert (done["status"], done["uploaded"]["files"]) == ("succeeded", 0)
        assert (home.cwd / "got/1/all").read_text() == "from the web\ntree/atree/b/c"
        shown = home.json("show", done["job"])["inputs"]
        assert [(file["path"], file["size"], file["url"]) for file in shown] == [
            ("t/a", 6, f"gs://{bucket.name}/tree/a"),
            ("t/b/c", 8, f"gs://{bucket.name}/tree/b/c"),
            ("web.txt", 13, page),
        ]
        assert shown[0]["pin"].startswith("generation:")
        assert shown[2]["pin"] == f"etag:{web.pages['/f.txt'].headers['ETag']}"
    finally:
        home.end()


def test_many_tasks_of_a_node_fetch_a_source_once(home: Home, web: Web) -> None:
    page = web.put("/f.txt", b"from the web\n")
    home.run("sub", *RUN, "-u", page, "--seq", "20", "sh", "-c", "cat f.txt {index} 2>/dev/null; test -s f.txt")
    assert len(web.asked) == 2  # once to look, once to fetch


def test_a_task_is_given_what_an_earlier_one_has_stored(home: Home) -> None:
    first = home.submit(*RUN, "--seq", "2", "sh", "-c", "mkdir out; echo {index} > out/n; cp /bin/true out/run")
    eventually(lambda: home.stands(first) == "succeeded", "the first job succeeds", home)
    uploads = ("-u", f"kubeq://{first}/2/out:before", "-u", "kubeq://LAST/1/out/n:one")
    done = home.run("sub", *RUN, *uploads, "sh", "-c", "cat one before/n && before/run")
    assert done.stdout == "1\n2\n"


def test_a_source_that_changed_after_the_submission_fails_the_task_with_both_pins(home: Home, web: Web) -> None:
    url = web.put("/f.txt", b"one")
    old = web.pages["/f.txt"]
    web.put("/f.txt", b"two")
    old.then = web.pages["/f.txt"]
    web.pages["/f.txt"] = old
    done = home.run("--json", "sub", *RUN, "-u", url, "cat", "f.txt", code=3)
    job = json.loads(done.stdout)["job"]
    (task,) = home.tasks(job)
    assert (task["state"], task["reason"]) == ("failed", "input")
    (attempt,) = home.json("show", f"{job}/1")["task"]["attempts"]
    assert attempt["message"] == (
        f"the input f.txt has changed since the job was submitted: {url} was etag:{old.headers['ETag']} and is "
        f"etag:{web.pages['/f.txt'].headers['ETag']} now"
    )


@pytest.mark.parametrize(
    ("path", "page", "code", "said"),
    [
        ("/absent", None, 2, "there is nothing at this URL"),
        ("/denied", Page(status=403), 6, "may not be read: 403"),
        ("/fleeting", Page(content=b"now"), 2, "cannot be pinned"),
    ],
)
def test_a_source_that_cannot_be_one_is_refused_before_anything_is_stored(
    home: Home, web: Web, path: str, page: Page | None, code: int, said: str
) -> None:
    if page is not None:
        web.pages[path] = page
    done = home.run("sub", *RUN, "-u", f"{web.url}{path}", "true", code=code)
    assert said in done.stderr
    assert home.json("status")["jobs"] == []


def test_a_source_that_vanishes_fails_the_task_with_a_sentence(home: Home, web: Web) -> None:
    url = web.put("/f.txt", b"one", then=Page(status=404))
    home.run("sub", *RUN, "-u", url, "cat", "f.txt", code=3)
    (task,) = home.tasks("LAST")
    assert (task["state"], task["reason"]) == ("failed", "input")
    message = home.json("show", "LAST/1")["task"]["attempts"][0]["message"]
    assert message.startswith(f"the input f.txt is gone: there is no {url} any more, which was etag:")
