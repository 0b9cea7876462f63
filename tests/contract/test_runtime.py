"""The Runtime contract, over the process runtime and the Docker runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from kubeq.core.model import Exit, JobId, TaskId
from kubeq.errors import BackendError
from kubeq.machine import own_mark
from kubeq_consumer.runtimes.process import ProcessRuntime
from tests.contract.conftest import PATIENCE_S, Rig, eventually, started

ROOT = Path(__file__).resolve().parents[2]


def python(code: str, *words: str) -> tuple[str, ...]:
    return ("python3", "-c", code, *words)


AWKWARD = ("two words", "", "'", '"', "$HOME", "*", "a\nb", "{x}", "\\", "-n", "naïve ☃", "`id`", "a;b", "!", "~")


def test_words_arrive_as_they_were_given(rig: Rig) -> None:
    output = rig.output_of(*python("import json, sys; print(json.dumps(sys.argv[1:]))", *AWKWARD))
    assert tuple(json.loads(output)) == AWKWARD


def test_stdout_and_stderr_keep_their_order(rig: Rig) -> None:
    loop = "i=0; while [ $i -lt 250 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done"
    expected = [f"{stream} {i}" for i in range(250) for stream in ("out", "err")]
    assert rig.output_of("sh", "-c", loop).decode().splitlines() == expected


def test_stdin_is_at_its_end(rig: Rig) -> None:
    assert rig.output_of("cat") == b""


def test_the_exit_code_is_the_commands_own(rig: Rig) -> None:
    for code in (1, 3, 125, 126, 127, 128, 255):
        assert rig.run(rig.execution("sh", "-c", f"exit {code}"))[0] == Exit(code=code)


def test_a_signal_is_told_from_a_code(rig: Rig) -> None:
    assert rig.run(rig.execution("sh", "-c", "kill -9 $$"))[0] == Exit(signal=9)
    assert rig.run(rig.execution("sh", "-c", "kill -TERM $$"))[0] == Exit(signal=15)


def test_a_program_that_does_not_exist_never_starts(rig: Rig) -> None:
    exit, _, _ = rig.run(rig.execution("no-such-program"))
    assert exit.code is None and exit.never_started is not None
    assert exit.never_started.startswith("cannot run 'no-such-program': not found in PATH")


def test_a_file_that_may_not_be_executed_never_starts(rig: Rig) -> None:
    execution = rig.execution("./plain")
    (execution.work / "plain").write_text("text")
    exit, _, _ = rig.run(execution)
    assert exit.never_started is not None and "./plain" in exit.never_started


def test_a_command_that_says_that_it_cannot_run_something_and_more_has_run(rig: Rig) -> None:
    say = "echo \"kubeq: cannot run 'x': not found in PATH\"; echo more; exit 127"
    assert rig.run(rig.execution("sh", "-c", say))[0] == Exit(code=127)


def test_a_directory_that_does_not_exist_is_not_made(rig: Rig) -> None:
    execution = rig.execution("true", directory="no/such")
    exit, _, _ = rig.run(execution)
    assert exit.never_started is not None and "no/such" in exit.never_started
    assert list(execution.work.iterdir()) == []


def test_a_command_starts_in_its_directory(rig: Rig) -> None:
    execution = rig.execution("sh", "-c", "cat here; echo made > new", directory="a/b")
    (execution.work / "a/b").mkdir(parents=True)
    (execution.work / "a/b/here").write_text("found\n")
    assert rig.run(execution)[:2] == (Exit(code=0), b"found\n")
    assert (execution.work / "a/b/new").read_text() == "made\n"


def test_the_jobs_environment_arrives_and_the_agents_does_not(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_SECRET", "hidden")
    given = (("PLAIN", "a b"), ("EMPTY", ""), ("LINES", "1\n2"), ("EQUALS", "a=b"))
    output = rig.output_of(*python("import json, os; print(json.dumps(dict(os.environ)))"), environment=given)
    seen = json.loads(output)
    assert {name: seen[name] for name, _ in given} == dict(given)
    assert "hidden" not in seen.values() and "PATH" in seen


def test_what_a_command_makes_belongs_to_the_submitting_user(rig: Rig) -> None:
    execution = rig.execution("sh", "-c", "mkdir d; echo x > d/f")
    rig.run(execution)
    made = (execution.work / "d/f").stat()
    assert (made.st_uid, made.st_gid) == (os.getuid(), os.getgid())


def test_binary_output_is_kept_byte_by_byte(rig: Rig) -> None:
    assert rig.output_of(*python("import sys; sys.stdout.buffer.write(bytes(range(256)) * 9)")) == bytes(range(256)) * 9


class Counting:
    def __init__(self) -> None:
        self.bytes = 0

    def write(self, chunk: bytes, /) -> int:
        self.bytes += len(chunk)
        return len(chunk)


def memory_now() -> dict[str, int]:
    pairs = (line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Vm"))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


@pytest.mark.parametrize("flood", ["yes 0123456789 | head -c 100000000", "head -c 100000000 /dev/zero"])
def test_a_flood_of_output_takes_no_memory(rig: Rig, flood: str) -> None:
    created = rig.runtime.create(rig.execution("sh", "-c", flood))
    sink = Counting()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory_now()["VmRSS"]
    running = created.start(sink)
    exit = running.wait(PATIENCE_S)
    running.remove()
    assert exit == Exit(code=0)
    assert sink.bytes == 100_000_000
    assert memory_now()["VmHWM"] - before < 20_000_000


class Full:
    def write(self, chunk: bytes, /) -> int:
        raise OSError(28, "No space left on device")


def test_output_that_cannot_be_stored_does_not_hold_the_command_up_and_is_said(rig: Rig) -> None:
    execution = rig.execution("sh", "-c", "head -c 1000000 /dev/zero; echo done > done")
    running = rig.runtime.create(execution).start(Full())
    with pytest.raises(BackendError, match="No space left"):
        running.wait(PATIENCE_S)
    running.remove()
    assert (execution.work / "done").exists()


LOCKING = """
import fcntl, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
held = open(sys.argv[1], "w"); fcntl.flock(held, fcntl.LOCK_EX)
print("ready", flush=True)
time.sleep(300)
"""


def is_locked(file: Path) -> bool:
    with file.open("w") as handle:
        return subprocess.run(["flock", "-n", str(handle.fileno())], pass_fds=[handle.fileno()]).returncode != 0


def test_a_command_that_ignores_term_is_killed_after_the_grace_with_its_children(rig: Rig) -> None:
    execution = rig.execution("sh", "-c", "trap '' TERM; python3 hold.py lock & wait")
    (execution.work / "hold.py").write_text(LOCKING)
    running, _ = started(rig, execution)
    assert is_locked(execution.work / "lock")
    began = time.monotonic()
    running.stop(0.5)
    running.stop(0.5)
    assert running.wait(PATIENCE_S) == Exit(signal=9)
    assert time.monotonic() - began >= 0.4
    running.remove()
    assert not is_locked(execution.work / "lock")


def test_term_reaches_the_children_too(rig: Rig) -> None:
    child = "import signal, sys, time; signal.signal(15, lambda *_: (print('child: TERM', flush=True), sys.exit())); "
    child += "print('ready', flush=True); time.sleep(300)"
    execution = rig.execution("sh", "-c", 'trap "echo parent: TERM" TERM; python3 -c "$0" & wait; wait; exit 5', child)
    running, output = started(rig, execution)
    running.stop(30)
    assert running.wait(PATIENCE_S) == Exit(code=5)
    running.remove()
    assert sorted(output.getvalue().decode().splitlines()) == ["child: TERM", "parent: TERM", "ready"]


def test_a_background_child_ends_with_the_command(rig: Rig) -> None:
    execution = rig.execution("sh", "-c", "python3 hold.py lock & while [ ! -s lock ] && sleep 0.05; do :; done")
    (execution.work / "hold.py").write_text(LOCKING.replace("print(", "print('x', file=held, flush=True); print("))
    exit, output, _ = rig.run(execution)
    assert exit == Exit(code=0) and output == b"ready\n"
    eventually(lambda: not is_locked(execution.work / "lock"), "the child's end")


def test_a_daemon_that_keeps_the_output_open_does_not_hold_the_attempt(rig: Rig) -> None:
    daemon = "import os; os.fork() and os._exit(0); os.setsid(); exec(open('hold.py').read())"
    execution = rig.execution(
        "sh", "-c", 'python3 -c "$0" lock; while [ ! -s lock ] && sleep 0.05; do :; done; exit 4', daemon
    )
    (execution.work / "hold.py").write_text(LOCKING.replace("print(", "print('x', file=held, flush=True); print("))
    began = time.monotonic()
    exit, output, _ = rig.run(execution)
    assert (exit, output) == (Exit(code=4), b"ready\n")
    assert time.monotonic() - began < PATIENCE_S / 2
    eventually(lambda: not is_locked(execution.work / "lock"), "the daemon's end")


def test_a_command_that_closes_its_output_still_runs_to_its_end(rig: Rig) -> None:
    execution = rig.execution("sh", "-c", "echo first; exec >&- 2>&-; sleep 0.3; exit 6")
    assert rig.run(execution)[:2] == (Exit(code=6), b"first\n")


def test_a_parked_command_runs_at_its_start_and_not_before(rig: Rig) -> None:
    execution = rig.execution("sh", "-c", "echo out; echo err >&2; touch ran; sleep 0.2; exit 3")
    created, output = rig.runtime.create(execution), BytesIO()
    created.park(output)
    threading.Event().wait(2.0)
    assert list(execution.work.iterdir()) == [] and output.getvalue() == b""
    running = created.start(output)
    assert running.wait(PATIENCE_S) == Exit(code=3)
    assert output.getvalue() == b"out\nerr\n"
    wall = running.usage().wall_s
    assert wall is not None and 0.1 < wall < 2.0, "the time it was parked does not count"
    running.remove()


def test_a_parked_command_that_is_discarded_never_runs(rig: Rig) -> None:
    execution = rig.execution("sh", "-c", "touch ran")
    created = rig.runtime.create(execution)
    created.park(BytesIO())
    created.discard()
    created.discard()
    assert list(execution.work.iterdir()) == []
    assert list(execution.work.parent.iterdir()) == [execution.work]


def test_a_parked_program_that_does_not_exist_is_told_at_its_start(rig: Rig) -> None:
    created, output = rig.runtime.create(rig.execution("no-such-program")), BytesIO()
    created.park(output)
    running = created.start(output)
    exit = running.wait(PATIENCE_S)
    assert exit is not None and exit.never_started is not None and "not found in PATH" in exit.never_started
    running.remove()


def test_discard_leaves_nothing_and_may_be_repeated(rig: Rig) -> None:
    execution = rig.execution("sh", "-c", "echo ran > ran")
    created = rig.runtime.create(execution)
    created.discard()
    created.discard()
    assert list(execution.work.iterdir()) == []


def test_remove_and_stop_after_the_end_are_harmless(rig: Rig) -> None:
    running = rig.runtime.create(rig.execution("true")).start(BytesIO())
    assert running.wait(PATIENCE_S) == Exit(code=0)
    for _ in range(2):
        running.stop(0)
        running.remove()
    assert running.wait(0) == Exit(code=0)


def test_a_command_is_quiet_when_nothing_of_it_runs_and_not_before(rig: Rig) -> None:
    execution = rig.execution("sh", "-c", "trap '' TERM; python3 hold.py lock & wait")
    (execution.work / "hold.py").write_text(LOCKING)
    running, _ = started(rig, execution)
    assert not running.quiet(0.1) and is_locked(execution.work / "lock")
    running.stop(0)
    assert running.quiet(PATIENCE_S)
    assert not is_locked(execution.work / "lock")
    assert running.wait(PATIENCE_S) == Exit(signal=9) and running.quiet(0)
    running.remove()


def test_a_command_that_closed_its_output_is_not_quiet(rig: Rig) -> None:
    running, _ = started(rig, rig.execution("sh", "-c", "echo ready; exec >&- 2>&-; exec sleep 300"))
    assert not running.quiet(1.0)
    running.stop(0)
    assert running.quiet(PATIENCE_S)
    running.wait(PATIENCE_S)
    running.remove()


def test_what_never_started_is_quiet(rig: Rig) -> None:
    running = rig.runtime.create(rig.execution("no-such-program")).start(BytesIO())
    assert running.wait(PATIENCE_S) is not None and running.quiet(0)
    running.remove()


def test_cpu_and_wall_time_are_counted(rig: Rig) -> None:
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    _, _, usage = rig.run(rig.execution(*python(busy)))
    assert usage.cpu_s is not None and 0.3 <= usage.cpu_s <= 2
    assert usage.wall_s is not None and 0.4 <= usage.wall_s <= 60


def test_the_peak_of_memory_is_seen(rig: Rig) -> None:
    allocate = "import time; x = bytearray(50_000_000); x[::4096] = x[::4096]; time.sleep(0.5)"
    _, _, usage = rig.run(rig.execution(*python(allocate)))
    assert usage.peak_memory_bytes is not None and 45_000_000 <= usage.peak_memory_bytes <= 150_000_000


def test_usage_can_be_asked_while_the_command_runs(rig: Rig) -> None:
    running, _ = started(rig, rig.execution("sh", "-c", "echo ready; while :; do :; done"))
    eventually(lambda: (running.usage().cpu_s or 0) > 0.1, "cpu time")
    running.stop(0)
    running.wait(PATIENCE_S)
    running.remove()
    assert (running.usage().cpu_s or 0) > 0.1


DYING_AGENT = """
import sys, time
from pathlib import Path
from kubeq.core.model import JobId, NodeName, TaskId
from kubeq.core.resources import Resources
from kubeq.core.spec import Network
from kubeq_consumer.runtimes.base import Execution
from kubeq_consumer.runtimes.docker import DockerRuntime
from kubeq_consumer.runtimes.process import ProcessRuntime
from tests.contract.conftest import PATIENCE_S, Rig, eventually, started
runtime = {make}
execution = Execution(task=TaskId(JobId("job"), 7), attempt=3, node=NodeName("node-9"), slot=0, image={image!r},
    entrypoint=None, command=("sh", "-c", "python3 hold.py lock & wait"), work=Path({work!r}), directory=".",
    environment=(), user=None, network=Network.SLOT, resources=Resources(), shm_size=None, mounts=())
runtime.create(execution).start(open(1, "wb", buffering=0, closefd=False))
time.sleep(600)
"""


def test_what_a_dead_agent_left_is_found_and_removed(rig: Rig) -> None:
    work = rig.folder / "left"
    work.mkdir()
    (work / "hold.py").write_text(LOCKING)
    script = DYING_AGENT.format(make=rig.make, image=rig.image, work=str(work))
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'consumer'}"}
    agent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment)
    assert agent.stdout is not None and agent.stdout.readline() == b"ready\n"
    assert list(rig.runtime.leftovers()) == [], "its agent lives"
    agent.kill()
    agent.wait()
    left = [leftover for leftover in rig.runtime.leftovers() if leftover.task is not None]
    assert [(leftover.task, leftover.attempt, leftover.node) for leftover in left] == [
        (TaskId(JobId("job"), 7), 3, "node-9")
    ]
    assert is_locked(work / "lock")
    for leftover in rig.runtime.leftovers():
        leftover.remove()
        leftover.remove()
    eventually(lambda: not is_locked(work / "lock"), "the end of what was left")
    assert list(rig.runtime.leftovers()) == []


def test_the_process_runtime_has_no_images(tmp_path: Path) -> None:
    runtime = ProcessRuntime(uid=os.getuid(), gid=os.getgid(), state=tmp_path)
    for ask in (runtime.resolve, runtime.prepare):
        with pytest.raises(BackendError, match="no images"):
            ask("python:3")


def test_a_recycled_number_is_never_killed(tmp_path: Path) -> None:
    runtime = ProcessRuntime(uid=os.getuid(), gid=os.getgid(), state=tmp_path)
    stranger = subprocess.Popen(["sleep", "300"], start_new_session=True)
    dead = "1.1.another-boot.1"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = "".join(filter(str.isdigit, str(Path("/proc/self/ns/pid").readlink())))
    note = {"job": "j", "index": 1, "attempt": 1, "node": "n", "agent": dead}
    note["leader"] = f"{stranger.pid}.1.{boot}.{namespace}"  # that number, but begun at another time
    (tmp_path / "j.1.1.process.json").write_text(json.dumps(note))
    left = list(runtime.leftovers())
    assert len(left) == 1
    left[0].remove()
    assert stranger.poll() is None
    assert list(runtime.leftovers()) == []
    stranger.kill()
    stranger.wait()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start processes of another user")
def test_an_agent_of_root_runs_processes_as_the_submitting_user(tmp_path: Path) -> None:
    rig = Rig(ProcessRuntime(uid=12345, gid=12346, state=tmp_path / "state"), None, tmp_path, "")
    assert rig.output_of("sh", "-c", "id -u; id -g; id -G") == b"12345\n12346\n12346\n"


def test_only_the_first_stop_sends_term_and_a_later_one_can_bring_the_kill_forward(rig: Rig) -> None:
    code = "import signal, time; signal.signal(15, lambda *_: print('TERM', flush=True)); print('ready', flush=True)"
    running, output = started(rig, rig.execution(*python(code + "\nwhile True: time.sleep(0.05)")))
    before = threading.active_count()
    running.stop(600)
    eventually(lambda: b"TERM\n" in output.getvalue(), "the signal")
    for _ in range(5):
        running.stop(600)
        running.stop(900)
    assert threading.active_count() <= before + 1
    assert running.wait(0) is None
    running.stop(0.3)
    running.stop(600)
    assert running.wait(PATIENCE_S) == Exit(signal=9)
    running.remove()
    assert output.getvalue() == b"ready\nTERM\n"


def plain_processes(folder: Path, state: Path) -> Rig:
    return Rig(ProcessRuntime(uid=os.getuid(), gid=os.getgid(), state=state), None, folder, "")


def children() -> set[str]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {pid for task in tasks for pid in task.read_text().split()}


def descriptors() -> set[str]:
    """Which are open. Those of other tests may be closed at any time, by the collector of garbage."""
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def test_a_command_of_which_no_note_can_be_kept_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder belongs")
    rig = plain_processes(tmp_path, tmp_path / "state")
    execution = rig.execution("sh", "-c", "echo ran > ran")
    before = descriptors()
    with pytest.raises(BackendError, match="no note on it could be written") as raised:
        rig.runtime.create(execution).start(BytesIO())
    assert raised.value.transient
    assert list(execution.work.iterdir()) == []
    assert descriptors() <= before


@pytest.fixture
def one_more_file(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one file."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "nr_inodes=2", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_command_is_ended_when_the_disk_fills_up_while_it_starts(tmp_path: Path, one_more_file: Path) -> None:
    rig = plain_processes(tmp_path, one_more_file)
    before = descriptors(), children()
    with pytest.raises(BackendError, match="No space left") as raised:
        rig.runtime.create(rig.execution("sleep", "300")).start(BytesIO())
    assert raised.value.transient
    assert descriptors() <= before[0] and children() == before[1]
    assert list(one_more_file.iterdir()) == []


DYING_WHILE_IT_STARTS = """
import os, subprocess, sys, time
from pathlib import Path
from kubeq.core.model import JobId, NodeName, TaskId
from kubeq.core.resources import Resources
from kubeq.core.spec import Network
from kubeq_consumer.runtimes.base import Execution
from kubeq_consumer.runtimes.process_notes import note_on
work = Path(sys.argv[1])
execution = Execution(task=TaskId(JobId("job"), 7), attempt=3, node=NodeName("node-9"), slot=0, image=None,
    entrypoint=None, command=("true",), work=work, directory=".",
    environment=(), user=None, network=Network.SLOT, resources=Resources(), shm_size=None, mounts=())
reading, writing = os.pipe()
note_on(work, execution, reading).write(None)
command = ["sh", "-c", "python3 hold.py lock & wait"]
subprocess.Popen(command, cwd=work, stdout=writing, stderr=writing, start_new_session=True)
os.close(writing)
assert open(reading, "rb").readline() == b"ready\\n"
os.write(1, b"ready\\n")
time.sleep(600)
"""


def dead(*program: str) -> None:
    """An agent that printed a line and was killed."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'consumer'}"}
    agent = subprocess.Popen([sys.executable, "-c", *program], stdout=subprocess.PIPE, env=environment)
    assert agent.stdout is not None and agent.stdout.readline() == b"ready\n"
    agent.kill()
    agent.communicate()


def test_a_group_whose_agent_died_before_it_knew_the_leader_is_found_and_ended(tmp_path: Path) -> None:
    (tmp_path / "hold.py").write_text(LOCKING)
    dead(DYING_WHILE_IT_STARTS, str(tmp_path))
    assert is_locked(tmp_path / "lock")
    left = list(plain_processes(tmp_path, tmp_path).runtime.leftovers())
    assert [(leftover.task, leftover.attempt) for leftover in left] == [(TaskId(JobId("job"), 7), 3)]
    left[0].remove()
    eventually(lambda: not is_locked(tmp_path / "lock"), "the end of what was left")
    assert list(tmp_path.glob("*.json")) == []


def test_a_note_that_a_dead_agent_was_writing_is_cleared_away_and_a_living_ones_is_not(tmp_path: Path) -> None:
    ours, theirs = tmp_path / f"{own_mark()}-1.draft", tmp_path / "1.1.another-boot.1-1.draft"
    for draft in (ours, theirs):
        draft.write_text('{"job": "j')
    assert list(plain_processes(tmp_path, tmp_path).runtime.leftovers()) == []
    assert list(tmp_path.glob("*.draft")) == [ours]


WITH_FEW_DESCRIPTORS = """
import os, resource, sys
from io import BytesIO
from pathlib import Path
from kubeq.core.model import Exit
from kubeq.errors import BackendError
from tests.contract.test_runtime import children, descriptors, plain_processes
folder = Path(sys.argv[1])
rig = plain_processes(folder, folder / "state")
rig.run(rig.execution("true"))
standing, limits = descriptors(), resource.getrlimit(resource.RLIMIT_NOFILE)
first_free = os.dup(0)
os.close(first_free)
failures = 0
for more in range(16):
    execution = rig.execution("sh", "-c", "exit 3")
    created = rig.runtime.create(execution)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + more, limits[1]))
    try:
        running = created.start(BytesIO())
        exit = running.wait(60)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert exit == Exit(code=3), exit
        running.remove()
    except BackendError as error:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert error.transient, error
        failures += 1
        assert not children(), (more, children())
    assert rig.run(rig.execution("true"))[0] == Exit(code=0), "it serves again"
assert 2 < failures < 16, failures
assert list((folder / "state").iterdir()) == []
"""

WITHOUT_A_DESCRIPTOR_FOR_THE_LEADER = """
import os, resource, subprocess, sys
from io import BytesIO
from pathlib import Path
from kubeq.core.model import Exit
from kubeq_consumer.runtimes.cgroup import Reading
from kubeq_consumer.runtimes.process_notes import note_on
from kubeq_consumer.runtimes.process_run import ProcessRunning
from kubeq_consumer.runtimes.sampler import Sampler, Watch
from tests.contract.test_runtime import plain_processes
folder = Path(sys.argv[1])
execution = plain_processes(folder, folder).execution("x")
sampler, other = Sampler(), Watch(lambda: Reading(), lambda: None)
sampler.add(other)
reading, writing = os.pipe()
process = subprocess.Popen(["sh", "-c", "echo out; read line; exit 3"], stdin=subprocess.PIPE, stdout=writing,
    start_new_session=True)
os.close(writing)
output = BytesIO()
running = ProcessRunning(execution, note_on(folder, execution, reading), reading, output)
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
running.follow(process, sampler)
assert running.wait(0.2) is None
process.stdin.close()
assert running.wait(60) == Exit(code=3)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
assert output.getvalue() == b"out\\n"
other.end()
"""


@pytest.mark.parametrize("program", [WITH_FEW_DESCRIPTORS, WITHOUT_A_DESCRIPTOR_FOR_THE_LEADER])
def test_an_agent_without_descriptors_neither_hangs_nor_leaves_anything_running(tmp_path: Path, program: str) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'consumer'}"}
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S * 2)
    assert done.returncode == 0, done.stderr


def test_what_a_command_leaves_for_its_next_attempt_is_in_a_folder_of_its_own(rig: Rig) -> None:
    checkpoint = rig.folder / "checkpoint"
    checkpoint.mkdir(exist_ok=True)
    (checkpoint / "earlier").write_text("one")
    output = BytesIO()
    script = "cat $KUBEQ_CHECKPOINT/earlier; echo two > $KUBEQ_CHECKPOINT/later"
    running = rig.runtime.create(rig.execution("sh", "-c", script, checkpoint=checkpoint)).start(output)
    exit = running.wait(PATIENCE_S)
    running.remove()
    assert (exit and exit.code, output.getvalue()) == (0, b"one")
    assert (checkpoint / "later").read_text() == "two\n"


def test_the_list_of_nodes_is_there_and_each_new_one_takes_its_place_while_the_command_runs(rig: Rig) -> None:
    peers = rig.folder / "peers" / "nodes.jsonl"
    peers.parent.mkdir()
    peers.write_text("one")
    script = "cat $KUBEQ_PEERS; until [ $(cat $KUBEQ_PEERS) = two ]; do sleep 0.1; done; cat $KUBEQ_PEERS"
    output = BytesIO()
    running = rig.runtime.create(rig.execution("sh", "-c", script, peers=peers)).start(output)
    deadline = time.monotonic() + PATIENCE_S
    while b"one" not in output.getvalue() and time.monotonic() < deadline:
        time.sleep(0.05)
    (peers.parent / "new").write_text("two")
    (peers.parent / "new").replace(peers)
    exit = running.wait(PATIENCE_S)
    running.remove()
    assert (exit and exit.code, output.getvalue()) == (0, b"onetwo")
