"""The agent archive: what is in it, and that it is the same bytes for the same installation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kubeq.core.digest import Digest
from kubeq.errors import BackendError
from kubeq.nodes.archive import LEAST_PYTHON, Archive, agent_archive
from kubeq.nodes.packages import packages_for
from kubeq.release import agent_code, this_release

ROOT = Path(__file__).parents[3]
MAKE = (
    "import os, sys; from pathlib import Path; os.umask(int(sys.argv[2], 8));"
    "from kubeq.nodes.archive import agent_archive; print(agent_archive((), Path(sys.argv[1])).digest)"
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return agent_archive(("aws",), tmp_path_factory.mktemp("cache"))


def names(archive: Archive) -> list[str]:
    with zipfile.ZipFile(archive.path) as file:
        return file.namelist()


def test_the_archive_is_its_digest(archive: Archive) -> None:
    assert archive.digest == Digest.of(archive.path.read_bytes())
    assert (archive.release, archive.python) == (this_release(), LEAST_PYTHON)


def test_it_holds_the_agent_its_rooms_and_its_packages_and_nothing_of_the_command_line(archive: Archive) -> None:
    inside = set(names(archive))
    packages = {name for package in packages_for(("aws",)) for name in package.files}
    assert inside == {*agent_code(), *packages, "__main__.py", "unpacking.py", "kubeq-agent.json"}
    assert not [name for name in inside if name.startswith(("click/", "kubeq/cli/", "kubeq/actions/", "kubeq/nodes/"))]
    assert not [name for name in inside if name.endswith((".pyc", ".so"))]


def test_it_says_what_it_is(archive: Archive) -> None:
    with zipfile.ZipFile(archive.path) as file:
        said = json.loads(file.read("kubeq-agent.json"))
    assert (said["release"], said["python"]) == (this_release(), "3.11")
    assert {"docker", "boto3", "botocore"} <= set(said["packages"])


def test_names_are_sorted_times_fixed_and_only_the_programs_executable(archive: Archive) -> None:
    with zipfile.ZipFile(archive.path) as file:
        entries = file.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    programs = [entry.filename for entry in entries if entry.external_attr >> 16 == 0o100755]
    assert programs == [f"kubeq_consumer/runtimes/exec/kubeq-exec.{machine}" for machine in ("aarch64", "x86_64")]


def test_another_machine_another_user_and_another_day_make_the_same_bytes(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "kubeq", tmp_path / "site/kubeq", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "consumer/kubeq_consumer", tmp_path / "site/kubeq_consumer")
    for path in (tmp_path / "site").rglob("*.py"):
        path.chmod(0o600)
        os.utime(path, (10**9, 10**9))

    def made(place: Path, umask: str, **environment: str) -> str:
        command = [sys.executable, "-P", "-c", MAKE, str(tmp_path / umask), umask]
        environment |= {"PYTHONPATH": os.pathsep.join((str(place), str(place / "consumer")))}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    here = made(ROOT, "022", PYTHONHASHSEED="1", TZ="UTC")
    assert made(tmp_path / "site", "077", PYTHONHASHSEED="2", TZ="Asia/Tokyo", LC_ALL="C") == here


def test_a_second_call_packs_nothing(tmp_path: Path) -> None:
    first = agent_archive((), tmp_path)
    before = first.path.stat()
    assert agent_archive((), tmp_path) == first
    assert first.path.stat() == before
    assert [path.name for path in first.path.parent.iterdir()] == [first.path.name]


def test_what_is_in_it_decides_the_bytes(archive: Archive, tmp_path: Path) -> None:
    small = agent_archive((), tmp_path)
    assert small.digest != archive.digest
    assert small.digest.size < archive.digest.size < 5 * 2**20
    assert not [name for name in names(small) if name.startswith("boto")]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(BackendError, match="the agent cannot be packed into") as caught:
        agent_archive((), tmp_path / "cache")
    assert "KUBEQ_CACHE_DIR" in (caught.value.hint or "")


def test_the_launcher_is_what_sh_reads(archive: Archive) -> None:
    launcher = archive.path.read_bytes().split(b"\nPK")[0].decode()
    done = subprocess.run(["sh", "-n"], input=launcher, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
