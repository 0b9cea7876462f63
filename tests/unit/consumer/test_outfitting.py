"""What a pool asks for before and after its nodes' attempts is done once, on the node, and within bounds."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from kubeq.core.digest import Digest
from kubeq.core.model import NodeName, PoolId
from kubeq.core.outfit import Outfit
from kubeq.core.overlay import Laid, Overlay
from kubeq.core.wire import encode_outfit
from kubeq.machine import mark_of
from kubeq.store.blobs import Blobs
from kubeq.store.memory import MemoryStore
from kubeq_consumer.blobcache import BlobCache
from kubeq_consumer.outfitting import POST_LIMIT_S, Outfitter
from kubeq_consumer.settings import AgentConfig

Dress = Callable[..., Outfitter]


@pytest.fixture
def dress(tmp_path: Path) -> Dress:
    """An outfitter for such an outfit; each call is another life of the same node."""
    blobs = Blobs(MemoryStore())

    def make(overlay: Mapping[str, bytes] | None = None, post_limit_s: float = POST_LIMIT_S, **lines: str) -> Outfitter:
        laid = [Laid(path, 0o644, blobs.put_bytes(content)) for path, content in (overlay or {}).items()]
        outfit = Outfit(**lines, overlay=blobs.put_bytes(Overlay.of(laid).encode()) if laid else None)
        config = AgentConfig(
            pool=PoolId("p"),
            node=NodeName("p-1"),
            number=1,
            provider="local",
            queue_url="memory:",
            store_url="memory:",
            blobs_url="memory:",
            state_dir=tmp_path / "state",
            cache_dir=tmp_path / "cache",
            log_path=None,
            outfit=blobs.put_bytes(encode_outfit(outfit)) if outfit != Outfit() else None,
            grace_s=0.5,
        )
        cache = BlobCache(tmp_path / "cache", blobs)
        return Outfitter(config, blobs, cache, root=tmp_path / "home", post_limit_s=post_limit_s)

    return make


def never() -> bool:
    return False


def test_a_node_without_an_outfit_has_nothing_to_do(dress: Dress) -> None:
    one = dress()
    assert (one.put_on(never), one.take_off()) == (None, None)


def test_each_command_runs_once_by_the_shell_and_is_told_the_node(dress: Dress, tmp_path: Path) -> None:
    log = tmp_path / "log"
    one = dress(pre=f"echo pre $KUBEQ_NODE_NAME | cat >> {log}", post=f"echo post $KUBEQ_NODE_NAME >> {log}")
    assert one.put_on(never) is None
    assert log.read_text() == "pre p-1\n"
    assert one.take_off() is None
    assert log.read_text() == "pre p-1\npost p-1\n"


def test_an_agent_that_is_started_again_does_not_run_it_again_but_undoes_it(dress: Dress, tmp_path: Path) -> None:
    log = tmp_path / "log"
    outfit = {"pre": f"echo pre >> {log}", "post": f"echo post >> {log}"}
    assert dress(**outfit).put_on(never) is None
    again = dress(**outfit)
    assert again.put_on(never) is None
    assert again.take_off() is None
    assert log.read_text() == "pre\npost\n"


def test_a_command_that_fails_is_named_with_its_last_line_and_nothing_is_undone(dress: Dress, tmp_path: Path) -> None:
    undone = tmp_path / "undone"
    one = dress(pre="echo first; echo no such package >&2; echo; exit 3", post=f"touch {undone}")
    assert one.put_on(never) == "its --pre command failed: exit code 3: no such package"
    assert one.take_off() is None
    assert not undone.exists()


def test_what_it_prints_is_in_the_nodes_log_a_line_each(dress: Dress, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        dress(pre=r"printf '10%%\r100%%\nSetting up\n'").put_on(never)
    assert [record.getMessage() for record in caplog.records][1:3] == ["pre: 100%", "pre: Setting up"]


def test_a_command_has_a_bound_in_time_and_its_children_end_with_it(dress: Dress, tmp_path: Path) -> None:
    child = tmp_path / "child"
    one = dress(post=f"trap '' TERM; sh -c 'trap \"\" TERM; sleep 60' & echo $! > {child}; wait", post_limit_s=0.3)
    assert one.put_on(never) is None
    began = time.monotonic()
    assert one.take_off() == "its --post command failed: it was stopped after 0.3s"
    assert time.monotonic() - began < 10
    assert _ended(int(child.read_text()))


def test_a_node_that_is_told_to_leave_waits_for_no_command(dress: Dress, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    one = dress(pre=f"touch {begun}; sleep 60", post=f"rm {begun}")
    began = time.monotonic()
    assert one.put_on(begun.exists) == "its --pre command failed: the node was told to leave"
    assert time.monotonic() - began < 10
    assert one.take_off() is None and begun.exists()


def test_a_service_that_it_started_goes_on_and_is_not_waited_for(dress: Dress, tmp_path: Path) -> None:
    service = tmp_path / "service"
    began = time.monotonic()
    assert dress(pre=f"sleep 60 & echo $! > {service}").put_on(never) is None
    assert time.monotonic() - began < 10
    pid = int(service.read_text())
    assert not _ended(pid)
    os.kill(pid, signal.SIGKILL)


def test_what_a_dead_life_of_the_agent_was_in_the_middle_of_is_ended_before_it_is_begun_again(
    dress: Dress, tmp_path: Path
) -> None:
    half_done = subprocess.Popen(["sleep", "60"], start_new_session=True)
    note = tmp_path / "state/nodes/p-1/pre.process"
    note.parent.mkdir(parents=True)
    note.write_text(str(mark_of(half_done.pid)))
    assert dress(pre="true").put_on(never) is None
    assert half_done.wait(10) == -signal.SIGKILL
    assert not note.exists()


def test_an_outfit_that_is_not_in_the_store_is_a_reason_not_a_crash(dress: Dress) -> None:
    one = dress(pre="true")
    one._config = replace(one._config, outfit=Digest.of(b"never stored"))
    assert "holds no blobs/" in str(one.put_on(never))


def _ended(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while mark_of(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    return mark_of(pid) is None


def test_an_overlay_is_laid_before_the_first_command_runs_and_only_once(dress: Dress, tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    home.mkdir()
    outfit = {"pre": f"cat {home}/etc/app.conf >> {log}", "overlay": {"etc/app.conf": b"laid"}}
    assert dress(**outfit).put_on(never) is None
    assert log.read_text() == "laid"
    (home / "etc/app.conf").write_text("changed by a task")
    assert dress(**outfit).put_on(never) is None
    assert (home / "etc/app.conf").read_text() == "changed by a task"


def test_an_overlay_that_cannot_be_laid_is_a_reason_and_no_command_runs(dress: Dress, tmp_path: Path) -> None:
    home, ran = tmp_path / "home", tmp_path / "ran"
    (home / "etc/app.conf").mkdir(parents=True)
    why = dress(pre=f"touch {ran}", overlay={"etc/app.conf": b"laid"}).put_on(never)
    assert why == f"{home}/etc/app.conf cannot be laid: Is a directory"
    assert not ran.exists()
