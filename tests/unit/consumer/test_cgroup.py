from __future__ import annotations

from pathlib import Path

from kubeq_consumer.runtimes.cgroup import Reading, find_group, later

ID = "c0ffee" * 10


def fill(directory: Path, files: dict[str, str]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_text(content)
    return directory


V1 = {
    "cpuacct": {"cpuacct.usage": "1500000000\n", "cgroup.procs": "41\n42\n"},
    "memory": {
        "memory.usage_in_bytes": "1000\n",
        "memory.max_usage_in_bytes": "5000\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        "cgroup.procs": "41\n42\n",
    },
    "blkio": {
        "blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\n8:16 Read 1\n8:16 Write 2\nTotal 33\n",
        "cgroup.procs": "41\n",
    },
}
V2 = {
    "cpu.stat": "usage_usec 2500000\nuser_usec 1\nsystem_usec 2\n",
    "memory.current": "1000\n",
    "memory.peak": "6000\n",
    "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n",
    "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2\n",
    "cgroup.procs": "0\n",
}
FIGURES_V1 = Reading(cpu_s=1.5, memory_bytes=1000, peak_memory_bytes=5000, read_bytes=11, written_bytes=22, oom_kills=2)
FIGURES_V2 = Reading(cpu_s=2.5, memory_bytes=1000, peak_memory_bytes=6000, read_bytes=11, written_bytes=22, oom_kills=1)


def version_1(root: Path, place: str, mounts: dict[str, str] | None = None) -> None:
    for controller, files in V1.items():
        fill(root / (mounts or {}).get(controller, controller) / place, files)


def version_2(root: Path, place: str) -> None:
    fill(root, {"cgroup.controllers": "cpu io memory pids\n"})
    fill(root / place, V2)


def test_version_1_is_read_where_the_engine_makes_its_own_groups(tmp_path: Path) -> None:
    version_1(tmp_path, f"docker/{ID}")
    group = find_group(ID, root=tmp_path)
    assert group is not None and group.read() == FIGURES_V1
    assert group.process() == 41


def test_version_1_is_read_where_systemd_makes_them_and_mounts_two_controllers_in_one_place(tmp_path: Path) -> None:
    version_1(tmp_path, f"system.slice/docker-{ID}.scope", {"cpuacct": "cpu,cpuacct"})
    group = find_group(ID, root=tmp_path)
    assert group is not None and group.read() == FIGURES_V1


def test_version_2_is_read_where_the_engine_makes_its_own_groups(tmp_path: Path) -> None:
    version_2(tmp_path, f"docker/{ID}")
    group = find_group(ID, root=tmp_path)
    assert group is not None and group.read() == FIGURES_V2


def test_version_2_is_read_where_systemd_makes_them(tmp_path: Path) -> None:
    version_2(tmp_path, f"system.slice/docker-{ID}.scope")
    group = find_group(ID, root=tmp_path)
    assert group is not None and group.read() == FIGURES_V2


def test_a_group_elsewhere_is_found_by_a_process_in_it(tmp_path: Path) -> None:
    place = f"user.slice/user-1000.slice/docker-{ID}.scope"
    proc = fill(tmp_path / "proc/41", {"cgroup": f"0::/{place}\n"}).parent
    version_2(tmp_path / "two", place)
    assert find_group(ID, root=tmp_path / "two", proc=proc) is None
    group = find_group(ID, 41, root=tmp_path / "two", proc=proc)
    assert group is not None and group.read() == FIGURES_V2
    fill(proc / "42", {"cgroup": f"9:name=systemd:/x\n4:memory:/{place}\n3:cpuacct,cpu:/{place}\n2:blkio:/{place}\n"})
    version_1(tmp_path / "one", place)
    group = find_group(ID, 42, root=tmp_path / "one", proc=proc)
    assert group is not None and group.read() == FIGURES_V1


def test_a_process_of_another_namespace_is_none(tmp_path: Path) -> None:
    version_2(tmp_path, f"docker/{ID}")
    group = find_group(ID, root=tmp_path)
    assert group is not None and group.process() == 0


def test_a_group_has_certainly_no_process_when_it_says_so_or_is_gone(tmp_path: Path) -> None:
    version_2(tmp_path, f"docker/{ID}")
    group = find_group(ID, root=tmp_path)
    assert group is not None
    procs, events = tmp_path / "docker" / ID / "cgroup.procs", tmp_path / "docker" / ID / "cgroup.events"
    procs.write_text("")
    assert group.process() is None
    events.write_text("populated 1\nfrozen 0\n")
    assert group.process() == 0, "somebody is in a group below"
    events.write_text("populated 0\nfrozen 0\n")
    assert group.process() is None
    procs.unlink()
    assert group.process() is None


def test_a_group_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    version_2(tmp_path, f"docker/{ID}")
    group = find_group(ID, root=tmp_path)
    procs = tmp_path / "docker" / ID / "cgroup.procs"
    procs.unlink()
    procs.mkdir()  # any error but "there is no such group"
    assert group is not None and group.process() == 0


def test_a_group_of_version_1_is_whole_once_every_controller_has_made_it(tmp_path: Path) -> None:
    version_1(tmp_path, f"docker/{ID}")
    moved = (tmp_path / "memory").rename(tmp_path / "later")
    early = find_group(ID, root=tmp_path)
    assert early is not None and not early.whole
    moved.rename(tmp_path / "memory")
    group = find_group(ID, root=tmp_path)
    assert group is not None and group.whole and group.read() == FIGURES_V1


def test_there_is_no_group_before_the_start_and_after_the_end(tmp_path: Path) -> None:
    version_1(tmp_path, "docker/other")
    assert find_group(ID, root=tmp_path) is None
    assert find_group(ID, root=tmp_path / "nothing") is None


def test_a_group_that_is_taken_away_reads_as_unknown(tmp_path: Path) -> None:
    version_2(tmp_path, f"docker/{ID}")
    group = find_group(ID, root=tmp_path)
    for file in (tmp_path / "docker" / ID).iterdir():
        file.unlink()
    assert group is not None and group.read() == Reading()


def test_a_kernel_without_a_peak_still_gives_the_highest_that_was_seen(tmp_path: Path) -> None:
    version_2(tmp_path, f"docker/{ID}")
    directory = tmp_path / "docker" / ID
    (directory / "memory.peak").unlink()
    group = find_group(ID, root=tmp_path)
    assert group is not None
    seen = later(Reading(), group.read())
    (directory / "memory.current").write_text("900\n")
    assert later(seen, group.read()).peak_memory_bytes == 1000


def test_later_figures_never_go_back_and_unknown_ones_change_nothing() -> None:
    assert later(FIGURES_V1, Reading()) == FIGURES_V1
    grown = later(FIGURES_V1, Reading(cpu_s=1.0, memory_bytes=7000, oom_kills=3))
    assert (grown.cpu_s, grown.memory_bytes, grown.peak_memory_bytes, grown.oom_kills) == (1.5, 7000, 7000, 3)
