"""kubeq in the hands of a user who is not root, and who may use the engine by its group alone."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.homes import ROOT, Home

USER = 12345
ENTER = """
set -e
for pair in "$PUBLIC/python=$PREFIX" "$PUBLIC/packages=$PACKAGES" "$PUBLIC/project=$PROJECT"; do
    mount --bind "${pair#*=}" "${pair%%=*}"
done
unset PUBLIC PREFIX PACKAGES PROJECT
exec setpriv --reuid 12345 --regid 12345 --groups "$GROUPS_OF_USER" -- "$@"
"""
pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.getuid() != 0, reason="only root can start a command as somebody else"),
]


class OtherHome(Home):
    """The home of that user, who sees this interpreter and this project under public paths: root's may be closed."""

    def __init__(self, root: Path, public: Path, groups: str) -> None:
        python = Path(os.path.realpath(sys.executable))
        self._program = public / "python" / python.relative_to(Path(sys.base_prefix).resolve())
        super().__init__(
            root,
            PUBLIC=str(public),
            PREFIX=str(Path(sys.base_prefix).resolve()),
            PACKAGES=sysconfig.get_paths()["purelib"],
            PROJECT=str(ROOT),
            PYTHONPATH=f"{public}/project:{public}/project/consumer:{public}/packages",
            PYTHONDONTWRITEBYTECODE="1",
            GROUPS_OF_USER=groups,
        )
        for place in ("python", "packages", "project"):
            (public / place).mkdir()
        for path in (root, self.cwd):
            os.chown(path, USER, USER)

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        words = ["unshare", "--mount", "sh", "-c", ENTER, "sh", str(self._program), "-m", "kubeq", *arguments]
        pipes: dict[str, int] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(words, cwd=self.cwd, env=self.env, text=True, **pipes, **more)


@pytest.fixture
def home(docker_engine: str) -> Iterator[OtherHome]:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no mount namespace can be made here")
    status = Path(docker_engine.removeprefix("unix://")).stat()
    if not status.st_mode & stat.S_IWGRP:
        pytest.skip("the engine is root's alone")
    with tempfile.TemporaryDirectory(prefix="kubeq-other-user-") as name:  # pytest's own folders are root's alone
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "public").mkdir()
        one = OtherHome(folder / "home", folder / "public", str(status.st_gid))
        yield one
        one.end()
        shutil.rmtree(one.root)


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


def test_containers_run_as_the_user_and_everything_that_comes_back_is_the_users(
    home: OtherHome, busybox_image: str
) -> None:
    make = "id -u; umask 077; mkdir -p made/deep; echo x > made/deep/{index}; touch /tmp/x"
    home.run("sub", "--local", "-i", busybox_image, "--seq", "6", "--fetch", "out", "--shell", make)
    for index in range(1, 7):
        assert (home.cwd / f"out/{index}/stdout.txt").read_text() == f"{USER}\n"
        assert (home.cwd / f"out/{index}/made/deep/{index}").read_text() == "x\n"
    assert owners(home.root) == {USER}
    usages = [task["usage"] for task in home.tasks("LAST")]
    assert all(usage["cpu_s"] is not None and usage["peak_memory_bytes"] for usage in usages)
    assert not list(home.state.glob("nodes/*/attempts/*")), "nothing of an attempt is left"


def test_what_root_in_a_container_made_is_given_back(home: OtherHome, busybox_image: str) -> None:
    make = "id -u; umask 077; mkdir made; echo x > made/file"
    home.run("sub", "--local", "-i", busybox_image, "--user", "root", "--fetch", "out", "--shell", make)
    assert (home.cwd / "out/1/stdout.txt").read_text() == "0\n"
    assert (home.cwd / "out/1/made/file").read_text() == "x\n"
    assert owners(home.root) == {USER}


def test_a_user_without_an_account_needs_no_more_than_a_home(home: OtherHome) -> None:
    home.submit("-i", "none", "true")
    del home.env["HOME"]
    assert "this user has no home directory that is known" in home.run("status", code=2).stderr


def test_processes_run_as_the_user_too(home: OtherHome) -> None:
    done = home.run("sub", "--local", "-i", "none", "--shell", "id -u; id -G")
    assert done.stdout.split()[0] == str(USER)


def test_an_agent_in_the_background_belongs_to_the_user(home: OtherHome, busybox_image: str) -> None:
    job = home.submit("-i", busybox_image, "--seq", "3", "true", "{index}")
    home.run("watch", job)
    assert home.status(job)["status"] == "succeeded"
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in home.agents().values()} <= {USER}
