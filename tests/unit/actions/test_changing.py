"""Kill, reset and clean touch exactly what they say."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from dataclasses import replace

import pytest

from kubeq.actions.changing import ResetRequest, kill, pause, reset
from kubeq.actions.cleaning import GONE_S, clean_jobs, forget_gone_nodes, plan_clean
from kubeq.actions.finding import Choice
from kubeq.actions.launching import ensure_nodes, pool_of_request
from kubeq.actions.session import Session
from kubeq.actions.unused_blobs import GRACE_S, find_unused, remove_unused
from kubeq.core.digest import Digest
from kubeq.core.model import Exit, GoneReason, Job, JobId, NodeName, NodeState, Pool, PoolId, TaskState
from kubeq.core.resources import Resources
from kubeq.core.selectors import Filters
from kubeq.errors import Conflict, IllegalTransition, NotFound, UsageError
from kubeq.store.memory import MemoryStore
from tests.jobs import POOL, Work
from tests.providers import FakeCloud, FakeProvider
from tests.unit.actions.test_machines import configured


def rows(count: int) -> list[tuple[str]]:
    return [(str(n),) for n in range(count)]


def states(session: Session, job: Job) -> str:
    """A letter a task: p(ending), c(laimed), s(ucceeded), f(ailed), x (cancelled)."""
    letters = dict(zip(TaskState, "pcsfx", strict=True))
    return "".join(letters[task.state] for task in session.queue.tasks(job.id))


def mixed(work: Work, **more: object) -> Job:
    """Succeeded, failed, cancelled, claimed with an expired lease, claimed and healthy, pending."""
    job = work.submit(rows(6), ["n"], **more)  # type: ignore[arg-type]
    work.run(1), work.run(1, Exit(code=1))
    kill(work.session, [f"{job.id}/3"])
    work.claim(1)
    work.clock.advance(job.policy.lease_s + 1)
    work.claim(1)
    assert states(work.session, job) == "sfxccp"
    return job


def test_kill_ends_what_is_pending_and_tells_what_runs_to_stop(work: Work, session: Session) -> None:
    job = work.submit(rows(4), ["n"])
    work.run(1)
    (grant,) = work.claim(1)
    done = kill(session, ["demo"])
    assert set(done.changed) == {f"{job.id}/2", f"{job.id}/3", f"{job.id}/4"}
    assert states(session, job) == "scxx"
    assert not work.claim(5)
    (renewed,) = session.queue.renew([grant], [None])
    assert renewed is not None and renewed.task.cancel_asked


def test_kill_twice_changes_nothing_and_says_so(work: Work, session: Session) -> None:
    job = work.submit(rows(2), ["n"])
    kill(session, ["demo"])
    again = kill(session, ["demo"])
    assert again.changed == ()
    assert again.unchanged == ((job.id, f"job {job.id} (demo) has ended"),)


def test_kill_of_a_finished_job_leaves_its_outcomes(work: Work, session: Session) -> None:
    job = work.submit()
    work.run(1)
    assert kill(session, ["demo"]).changed == ()
    assert states(session, job) == "s"
    assert not session.queue.refresh(job).cancelled


def test_kill_ends_claims_of_dead_nodes_at_once(work: Work, session: Session) -> None:
    job = work.submit()
    work.claim(1)
    work.clock.advance(job.policy.lease_s + 1)
    kill(session, ["demo"])
    assert states(session, job) == "x"
    assert not session.queue.refresh(job).open


def test_kill_of_tasks_leaves_the_others(work: Work, session: Session) -> None:
    job = work.submit(rows(5), ["n"])
    done = kill(session, ["demo/2-3"])
    assert done.changed == (f"{job.id}/2", f"{job.id}/3")
    assert states(session, job) == "pxxpp"


def test_kill_of_a_glob_kills_every_job_it_matches(work: Work, session: Session) -> None:
    jobs = [work.submit(name=name) for name in ("a-1", "a-2", "b")]
    kill(session, ["a-*"])
    assert [states(session, job) for job in jobs] == ["x", "x", "p"]


def test_a_paused_job_is_claimed_no_more_until_it_is_resumed_and_what_runs_ends(work: Work, session: Session) -> None:
    job = work.submit(rows(3), ["n"])
    (grant,) = work.claim(1)
    assert pause(session, ["demo"]).changed == (job.id,)
    assert work.claim(3) == []
    work.end(grant)
    assert states(session, job) == "spp"
    session.queue.resume(session.queue.refresh(job))
    assert len(work.claim(3)) == 2


def test_a_pause_of_what_is_paused_ended_or_a_task_changes_nothing_and_says_so(work: Work, session: Session) -> None:
    ended = work.submit(rows(1), ["n"], name="ended")
    work.run(1)
    again = work.submit(rows(1), ["n"], name="again")
    pause(session, ["again"])
    done = pause(session, ["ended", "again"])
    assert done.changed == ()
    whys = dict(done.unchanged)
    assert whys[ended.id].endswith("has ended") and whys[again.id].endswith("is paused already")
    with pytest.raises(UsageError):
        pause(session, ["again/1"])


def test_reset_takes_failed_cancelled_and_expired_and_nothing_else(work: Work, session: Session) -> None:
    job = mixed(work)
    done = reset(session, ["demo"], ResetRequest())
    assert states(session, job) == "spppcp"
    assert set(done.changed) == {f"{job.id}/{index}" for index in (2, 3, 4)}


def test_reset_leaves_a_healthy_claim_without_force_and_says_why(work: Work, session: Session) -> None:
    job = work.submit()
    (grant,) = work.claim(1)
    done = reset(session, ["demo"], ResetRequest())
    assert done.changed == () and "--force" in done.unchanged[0][1]
    forced = reset(session, ["demo"], ResetRequest(force=True))
    assert forced.changed == (f"{job.id}/1",)
    assert session.queue.renew([grant], [None]) == [None]


def test_reset_of_a_named_task_takes_a_succeeded_one(work: Work, session: Session) -> None:
    job = work.submit(rows(2), ["n"])
    work.run(2)
    assert reset(session, ["demo"], ResetRequest()).changed == ()
    assert reset(session, ["demo/2"], ResetRequest()).changed == (f"{job.id}/2",)
    assert states(session, job) == "sp"


def test_reset_all_takes_succeeded_tasks_too(work: Work, session: Session) -> None:
    job = work.submit(rows(3), ["n"])
    work.run(2)
    assert len(reset(session, ["demo"], ResetRequest(all=True)).changed) == 2
    assert states(session, job) == "ppp"


def test_reset_with_filters_takes_exactly_the_matching_tasks(work: Work, session: Session) -> None:
    job = work.submit(rows(4), ["n"])
    work.run(2, Exit(code=1)), work.run(2, Exit(code=2))
    reset(session, ["demo"], ResetRequest(choice=Choice(filters=Filters(exit_codes=frozenset({2})))))
    assert states(session, job) == "ffpp"
    reset(session, ["demo"], ResetRequest(choice=Choice(where="n == 0")))
    assert states(session, job) == "pfpp"


def test_reset_of_a_glob_of_several_jobs_takes_expired_claims_only(work: Work, session: Session) -> None:
    first = work.submit(rows(2), ["n"], name="a")
    work.run(1, Exit(code=1)), work.claim(1)
    second = work.submit(rows(1), ["n"], name="b")
    work.run(1, Exit(code=1))
    work.clock.advance(200)
    reset(session, ["*"], ResetRequest())
    assert (states(session, first), states(session, second)) == ("fp", "f")
    reset(session, ["*"], ResetRequest(choice=Choice(filters=Filters(states=frozenset({TaskState.FAILED})))))
    assert (states(session, first), states(session, second)) == ("pp", "p")


def test_reset_orphaned_takes_expired_claims_only(work: Work, session: Session) -> None:
    job = mixed(work)
    reset(session, ["demo"], ResetRequest(orphaned=True))
    assert states(session, job) == "sfxpcp"


def test_reset_of_a_node_takes_its_claims_only(work: Work, session: Session) -> None:
    job = work.submit(rows(3), ["n"])
    other = NodeName("0123456789ab-2")
    work.report_node(), work.report_node(name=other)
    work.run(1, Exit(code=1)), work.claim(1), work.claim(1, node=other)
    reset(session, ["demo"], ResetRequest(node=other, force=True))
    assert states(session, job) == "fcp"


def test_reset_of_an_unknown_node_is_not_found(work: Work, session: Session) -> None:
    work.submit()
    with pytest.raises(NotFound, match="nobody"):
        reset(session, ["demo"], ResetRequest(node=NodeName("nobody")))


def test_resources_that_no_node_has_are_refused_before_anything_is_reset(work: Work, session: Session) -> None:
    session.provider = FakeProvider()  # type: ignore[misc]
    job = work.submit([("1",)], ["n"])
    work.run(1, Exit(code=1))
    with pytest.raises(UsageError, match=r"a task asks for cpu=5.*, and the largest node has cpu=4"):
        reset(session, [job.id], ResetRequest(resources=Resources(cpu=5.0)))
    assert [task.state for task in session.queue.tasks(job.id)] == [TaskState.FAILED]


def test_reset_gives_failed_tasks_other_resources_and_leaves_the_rest(work: Work, session: Session) -> None:
    session.provider = FakeProvider()  # type: ignore[misc]
    job = work.submit(rows(2), ["n"])
    work.run(1), work.run(1, Exit(code=1))
    more = Resources(cpu=2, memory=10**9)
    reset(session, ["demo"], ResetRequest(resources=more))
    assert [task.resources for task in session.queue.tasks(job.id)] == [None, more]


def test_reset_opens_a_killed_job_again(work: Work, session: Session) -> None:
    job = work.submit()
    kill(session, ["demo"])
    reset(session, ["demo"], ResetRequest())
    assert work.claim(1)[0].job.id == job.id


def test_clean_forgets_a_finished_job_and_keeps_its_results(work: Work, session: Session) -> None:
    job = work.submit()
    work.run(1, files={"a.txt": b"a"})
    clean_jobs(session, plan_clean(session, ["demo"]))
    assert session.queue.entries() == []
    assert list(session.store.list(f"results/{job.id}/1/1.result.json"))


def test_clean_with_results_removes_them_too(work: Work, session: Session) -> None:
    job = work.submit()
    work.run(1, files={"a.txt": b"a"})
    clean_jobs(session, plan_clean(session, ["demo"]), results=True)
    assert not list(session.store.list(f"results/{job.id}"))


def test_clean_refuses_a_named_job_that_is_not_done(work: Work, session: Session) -> None:
    work.submit(name="queued")
    running = work.submit(name="running")
    work.claim(2)
    with pytest.raises(Conflict, match="it is running"):
        plan_clean(session, ["running"])
    assert session.queue.job(running.id) is not None


def test_clean_of_everything_keeps_what_is_not_done_and_says_so(work: Work, session: Session) -> None:
    done, waiting = work.submit(name="done"), work.submit(name="waiting")
    work.run(1)
    plan = plan_clean(session, [])
    assert [summary.job.id for summary in plan.jobs] == [done.id]
    assert [(job.id, why) for job, why in plan.kept] == [(waiting.id, "it is queued")]


def test_clean_forced_stops_a_running_job_first(work: Work, session: Session) -> None:
    job = work.submit(rows(3), ["n"])
    (grant,) = work.claim(1)
    work.clock.advance(job.policy.lease_s + 1)
    clean_jobs(session, plan_clean(session, ["demo"], force=True))
    assert session.queue.entries() == []
    assert session.queue.renew([grant], [None]) == [None]


def test_clean_leaves_a_submission_alone_that_may_be_under_way(work: Work, session: Session) -> None:
    work.submit(rows(3), ["n"], written=1)
    with pytest.raises(Conflict, match="under way"):
        plan_clean(session, ["demo"])
    work.clock.advance(3601)
    clean_jobs(session, plan_clean(session, ["demo"]))
    assert session.queue.entries() == []


def test_clean_older_keeps_younger_jobs(work: Work, session: Session) -> None:
    old = work.submit(name="old")
    work.run(1)
    work.clock.advance(100)
    work.submit(name="young")
    work.run(1)
    assert [summary.job.id for summary in plan_clean(session, [], older_s=50).jobs] == [old.id]


def test_clean_forgets_the_private_pool_of_a_forgotten_job(work: Work, session: Session) -> None:
    private = PoolId("feedfeedfeed")
    session.queue.number_nodes(Pool(id=private, provider="local", private=True, created_at=0.0), 1)
    session.queue.number_nodes(Pool(id=POOL, provider="local", private=False, created_at=0.0), 1)
    work.submit(name="own", pool=private), work.submit(name="shared")
    work.report_node(pool=private)
    kill(session, ["*"])
    clean_jobs(session, plan_clean(session, []))
    assert [pool.id for pool in session.queue.pools()] == [POOL]
    assert session.queue.peers(private) == []


def test_an_interrupted_clean_can_be_repeated(work: Work, session: Session) -> None:
    job = work.submit(rows(3), ["n"])
    kill(session, ["demo"])
    plan = plan_clean(session, ["demo"])
    session.queue._table.delete([row.key for row in session.queue._table.list(f"job/{job.id}", None, 2).rows])  # type: ignore[arg-type]
    clean_jobs(session, plan)
    assert session.queue.entries() == []


def stored(session: Session) -> set[Digest]:
    return set(session.blobs.stored())


def test_only_blobs_that_no_job_refers_to_are_removed_and_only_after_the_grace(work: Work, session: Session) -> None:
    kept, gone = work.submit(name="kept", inputs={"a": b"a"}), work.submit(name="gone", inputs={"a": b"a", "b": b"b"})
    own = session.blobs.put_bytes(b"nobody's")
    before = stored(session)
    kill(session, ["*"])
    clean_jobs(session, plan_clean(session, ["gone"]))
    found = find_unused(session)
    assert found.ripe == () and own in found.young and Digest.of(b"b") in found.young
    assert Digest.of(b"a") not in found.young and kept.spec not in found.young
    work.clock.advance(GRACE_S + 1)
    found = find_unused(session)
    remove_unused(session, found)
    assert stored(session) == before - {own, Digest.of(b"b"), gone.spec} - set(found.ripe)
    assert {Digest.of(b"a"), kept.spec} <= stored(session)


def test_a_blob_that_was_used_again_waits_anew(work: Work, session: Session) -> None:
    work.submit(name="first", inputs={"b": b"b"})
    kill(session, ["*"]), clean_jobs(session, plan_clean(session, []))
    find_unused(session)
    work.clock.advance(GRACE_S + 1)
    work.submit(name="second", inputs={"b": b"b"})
    assert Digest.of(b"b") not in find_unused(session).ripe
    kill(session, ["*"]), clean_jobs(session, plan_clean(session, []))
    found = find_unused(session)
    assert Digest.of(b"b") in found.young and Digest.of(b"b") not in found.ripe


def test_no_blob_is_removed_while_a_submission_may_be_under_way(work: Work, session: Session) -> None:
    work.submit(rows(2), ["n"], written=0)
    with pytest.raises(Conflict, match="incomplete"):
        find_unused(session, grace_s=0)


def test_a_job_of_another_store_uses_nothing_of_this_one(work: Work, session: Session) -> None:
    elsewhere = work.submit(name="elsewhere")
    session.blobs.delete([elsewhere.spec])
    with pytest.raises(NotFound):
        find_unused(session)  # its results are here, so its spec was here too and is lost
    session.queue.forget(elsewhere)
    session.queue.begin(replace(elsewhere, results_url="s3://other/results/x/", sealed_at=1.0))
    own = session.blobs.put_bytes(b"nobody's")
    assert find_unused(session, grace_s=0).ripe == (own,)


def test_removing_stops_as_soon_as_a_submission_begins(work: Work, session: Session) -> None:
    own = session.blobs.put_bytes(b"nobody's")
    found = find_unused(session, grace_s=0)
    work.submit(written=0)
    with pytest.raises(Conflict, match="submitted meanwhile"):
        remove_unused(session, found)
    assert own in stored(session)


def test_blobs_are_removed_while_submissions_of_this_machine_wait(work: Work, session: Session) -> None:
    held: list[bool] = []

    class Watched(MemoryStore):
        def delete(self, keys: Sequence[str]) -> None:
            with (session.config.state_dir / "submit.lock").open("rb") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    held.append(True)
            super().delete(keys)

    session.store = Watched()  # type: ignore[misc]
    session.blobs.put_bytes(b"nobody's")
    assert remove_unused(session, find_unused(session, grace_s=0)) == len(b"nobody's")
    assert held == [True]


def test_clean_forgets_nodes_that_have_been_gone_for_a_day_and_no_others(work: Work, session: Session) -> None:
    provider = FakeProvider()
    session.provider = provider  # type: ignore[misc]
    pool = Pool(id=POOL, provider="local", private=False, created_at=0.0)
    session.queue.number_nodes(pool, 4)

    def gone(name: str) -> None:
        work.report_node(name=NodeName(name), state=NodeState.GONE, gone=GoneReason.IDLE, ended_at=work.clock.now())

    gone(f"{POOL}-1")
    work.report_node(name=NodeName(f"{POOL}-2"))  # it dies without a word
    work.clock.advance(GONE_S + 1)
    gone(f"{POOL}-3")
    work.report_node(name=NodeName(f"{POOL}-4"))
    forget_gone_nodes(session)
    assert [node.name for node in session.queue.peers(POOL)] == [f"{POOL}-3", f"{POOL}-4"]
    assert provider.forgotten == [(None, GONE_S)]
    assert session.queue.number_nodes(pool, 1) == [5]


def test_clean_leaves_nothing_in_a_cloud_for_a_pool_whose_machines_have_been_gone_for_a_day(
    work: Work, session: Session
) -> None:
    cloud = FakeCloud()
    far = configured(session, cloud)
    pool = pool_of_request(far, private=False)
    (name,) = ensure_nodes(far, pool, 1)
    work.clock.advance(GONE_S + 1)
    work.report_node(name=name, pool=pool.id)
    forget_gone_nodes(far)
    assert cloud.forgotten == [], "it works"
    cloud.nodes.clear()
    work.report_node(name=name, pool=pool.id, state=NodeState.GONE, ended_at=work.clock.now())
    forget_gone_nodes(far)
    assert cloud.forgotten == [], "its console may still tell something"
    work.clock.advance(GONE_S + 1)
    forget_gone_nodes(far)
    assert cloud.forgotten == [(pool.id, GONE_S)]
    assert ensure_nodes(far, pool, 1) == (f"{pool.id}-2",)
    forget_gone_nodes(far)
    assert len(cloud.forgotten) == 1, "a machine is on its way"


def test_clean_forgets_the_node_folders_of_a_private_pool_with_its_job(work: Work, session: Session) -> None:
    provider = FakeProvider()
    session.provider = provider  # type: ignore[misc]
    private = PoolId("feedfeedfeed")
    session.queue.number_nodes(Pool(id=private, provider="local", private=True, created_at=0.0), 1)
    session.queue.number_nodes(Pool(id=POOL, provider="local", private=False, created_at=0.0), 1)
    work.submit(name="own", pool=private), work.submit(name="shared")
    kill(session, ["*"])
    clean_jobs(session, plan_clean(session, []))
    assert provider.forgotten == [(private, 0.0)]


def test_a_job_that_does_not_exist_is_not_found_by_any_change(session: Session) -> None:
    for change in (lambda: kill(session, ["nope"]), lambda: plan_clean(session, ["nope"])):
        with pytest.raises(NotFound, match="nope"):
            change()
    assert JobId("nope") not in [entry.id for entry in session.queue.entries()]
    assert issubclass(IllegalTransition, Conflict)
