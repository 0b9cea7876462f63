"""Which form of the agent goes where, and what is run there."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from kubeq.core.digest import Digest
from kubeq.errors import UsageError
from kubeq.nodes.archive import Archive
from kubeq.nodes.forms import (
    Boot,
    Form,
    Found,
    archive_command,
    boot_from_image,
    boot_from_store,
    choose_form,
    endpoint_variables,
    image_command,
    image_name,
)
from kubeq.release import this_release

ENVIRONMENT = {"KUBEQ_AGENT_POOL": "p1", "KUBEQ_AGENT_NODE": "p1-3", "KUBEQ_AGENT_STORE": "s3://b/it's here"}
ARCHIVE = Archive(path=Path("/cache/x.pyz"), digest=Digest.of(b"archive"), release="0.1.0+0123456789ab", python=11)


@pytest.mark.parametrize(
    ("extras", "found", "form"),
    [
        ((), Found(python=11, docker=True), Form.ARCHIVE),
        (("aws",), Found(python=13, docker=False), Form.ARCHIVE),
        ((), Found(python=10, docker=True), Form.IMAGE),
        ((), Found(python=None, docker=True), Form.IMAGE),
        (("gcp",), Found(python=13, docker=True), Form.IMAGE),
        (("aws", "gcp"), Found(python=13, docker=True), Form.IMAGE),
    ],
)
def test_the_archive_goes_where_it_runs_and_the_image_everywhere_else(
    extras: tuple[str, ...], found: Found, form: Form
) -> None:
    assert choose_form(extras, found) is form


@pytest.mark.parametrize(
    ("extras", "python", "words"),
    [
        ((), 9, r"needs Python 3\.11 or Docker, and the machine has Python 3\.9 and no Docker"),
        ((), None, "the machine has no Python 3 and no Docker"),
        (("gcp",), 12, "this backplane needs the agent's image, and the machine has no Docker"),
    ],
)
def test_a_machine_for_neither_is_refused_with_what_it_has(
    extras: tuple[str, ...], python: int | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        choose_form(extras, Found(python=python, docker=False))
    assert "install Docker" in (caught.value.hint or "")


def test_an_archive_may_need_a_newer_python_than_kubeq_does() -> None:
    assert choose_form((), Found(python=12, docker=True), least_python=13) is Form.IMAGE


def test_the_image_is_that_of_this_release_unless_a_tag_is_given() -> None:
    tag = this_release().replace("+", "-")
    assert image_name() == f"kubeq-consumer:{tag}"
    assert image_name("localhost:5000/team/agent") == f"localhost:5000/team/agent:{tag}"
    assert image_name("team/agent:stable") == "team/agent:stable"
    assert image_name("team/agent@sha256:" + "a" * 64) == "team/agent@sha256:" + "a" * 64


def test_only_where_a_cloud_is_goes_along_never_who_the_user_is() -> None:
    environ = {
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL_S3": "http://minio:9000",
        "AWS_ENDPOINT_URL": "http://user:password@proxy",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "GOOGLE_CLOUD_PROJECT": "p",
        "HOME": "/root",
    }
    assert endpoint_variables(("aws",), environ) == {
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL_S3": "http://minio:9000",
    }
    assert endpoint_variables(("gcp",), environ) == {"GOOGLE_CLOUD_PROJECT": "p"}
    assert endpoint_variables((), environ) == {}


def test_the_archives_line_is_one_that_a_shell_reads_back() -> None:
    words = shlex.split(archive_command("/srv/agent.pyz", ENVIRONMENT))
    assert words == ["env", *(f"{n}={v}" for n, v in ENVIRONMENT.items()), "sh", "/srv/agent.pyz", "--supervise"]


def test_the_images_line_names_credentials_and_gives_none() -> None:
    words = shlex.split(image_command("agent:1", Boot(environment=ENVIRONMENT, extras=("aws",)), "--rm"))
    assert words[:3] == ["docker", "run", "--rm"]
    assert words[-2:] == ["agent:1", "--supervise"]
    given = [words[at + 1] for at, word in enumerate(words) if word == "--env"]
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} <= set(given)
    assert "KUBEQ_AGENT_STATE=/var/lib/kubeq" in given
    assert "KUBEQ_AGENT_STORE=s3://b/it's here" in given
    mounts = [words[at + 1] for at, word in enumerate(words) if word == "--volume"]
    assert mounts == ["/var/run/docker.sock:/var/run/docker.sock", "/var/lib/kubeq:/var/lib/kubeq"]


@pytest.mark.parametrize("at_end", [":", "poweroff"])
def test_a_boot_text_is_whole_and_a_shell_can_read_it(at_end: str) -> None:
    boot = Boot(environment=ENVIRONMENT, extras=("aws",), at_end=at_end)
    from_store, from_image = boot_from_store(boot, ARCHIVE, "s3://b/blobs/x"), boot_from_image(boot, "agent:1")
    for text in (from_store, from_image):
        assert subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True).stderr == ""
        assert text.startswith("#!/bin/sh\n# Makes this machine node p1-3 of pool p1")
        assert f"at_end() {{ {at_end}; }}\ntrap at_end EXIT\n" in text
    assert f"export KUBEQ_AGENT_ARCHIVE={ARCHIVE.digest}\n" in from_store
    assert from_store.endswith('"$python" "$archive" --supervise\n')


def run_boot(text: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(tmp_path), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    return subprocess.run(["sh"], input=text, env=environment, capture_output=True, text=True, timeout=60)


def test_a_boot_whose_archive_lies_there_already_runs_it_and_then_ends_the_machine(tmp_path: Path) -> None:
    program = b"import os, sys\nprint(sys.argv[1:], os.environ['KUBEQ_AGENT_STORE'])\nsys.exit(5)\n"
    archive = Archive(path=tmp_path, digest=Digest.of(program), release="r", python=11)
    place = tmp_path / f".cache/kubeq/agents/{archive.digest.sha256}.pyz"
    place.parent.mkdir(parents=True)
    place.write_bytes(program)
    boot = Boot(environment=ENVIRONMENT, extras=("aws",), at_end=f"echo off > {tmp_path}/machine")
    done = run_boot(boot_from_store(boot, archive, "s3://b/k"), tmp_path)
    assert (done.returncode, done.stdout) == (5, "['--supervise'] s3://b/it's here\n"), done.stderr
    assert (tmp_path / "machine").read_text() == "off\n"


def test_a_boot_without_a_python_says_so_and_ends_the_machine(tmp_path: Path) -> None:
    newer = Archive(path=tmp_path, digest=ARCHIVE.digest, release="9.9", python=99)
    boot = Boot(environment=ENVIRONMENT, extras=(), at_end=f"echo off > {tmp_path}/machine")
    done = run_boot(boot_from_store(boot, newer, "s3://b/k"), tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: the agent of kubeq 9.9 needs Python 3.99 or newer, and this machine has none\n"
    assert (tmp_path / "machine").exists()
