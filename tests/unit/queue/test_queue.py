"""The rules above the tables: what is claimed, what is refused, what is recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from kubeq.core.digest import Digest
from kubeq.core.model import (
    Ending,
    Exit,
    Job,
    JobId,
    Node,
    NodeName,
    NodeOrder,
    NodeState,
    Policy,
    Pool,
    PoolId,
    Reason,
    TaskId,
    TaskState,
)
from kubeq.core.resources import Resources
from kubeq.core.transitions import Report
from kubeq.errors import Conflict, NotFound, VersionMismatch
from kubeq.queue.base import Change, Key
from kubeq.queue.claiming import JOB_PAGES_PER_CLAIM, OPEN_JOBS_PAGE
from kubeq.queue.claims import Final, Grant, Room
from kubeq.queue.pools import KEPT_ARCHIVES
from kubeq.queue.queue import Queue
from kubeq.queue.rows import Outcome, entry_row, job_row, jobs_of, node_row, task_key
from kubeq.queue.sweeping import sweep

POOL, NODE = PoolId("p"), NodeName("n1")
BIG = Resources(cpu=64.0, memory=10**12)
Submit = Callable[..., Job]


def room(starts: int, ahead: int = 0, *, free: Resources = BIG, total: Resources = BIG, slots: int = 1) -> Room:
    return Room(free=free, total=total, starts=starts, ahead=ahead, pool_slots=slots)


def claim(queue: Queue, starts: int = 1, node: NodeName = NODE) -> list[Grant]:
    return list(queue.claim(POOL, node, room(starts)).grants)


def succeeded(grant: Grant, at: float) -> Final:
    return Final(grant=grant, ending=Ending.SUCCEEDED, report=Report(ended_at=at, exit=Exit(code=0), outputs=1))


def failed(grant: Grant, at: float, code: int = 3) -> Final:
    report = Report(ended_at=at, exit=Exit(code=code))
    return Final(grant=grant, ending=Ending.FAILED, reason=Reason.EXIT, report=report)


def states(queue: Queue, job: Job) -> dict[TaskState, int]:
    counts: dict[TaskState, int] = {}
    for outcome, tasks in queue.outcomes(job.id, consistent=True).items():
        counts[outcome.state] = counts.get(outcome.state, 0) + tasks
    return counts


def test_nothing_of_an_unsealed_job_is_claimed(queue: Queue, submit: Submit) -> None:
    job = submit(2, seal=False)
    assert claim(queue) == []
    queue.seal(job)
    assert len(claim(queue, 5)) == 2


def test_a_lone_agent_takes_tasks_in_order(queue: Queue, submit: Submit) -> None:
    submit(9)
    assert [grant.task.id.index for grant in claim(queue, 4)] == [1, 2, 3, 4]
    assert [grant.task.id.index for grant in claim(queue, 4)] == [5, 6, 7, 8]


def test_the_same_id_with_the_same_spec_is_the_same_job(queue: Queue, submit: Submit) -> None:
    job = submit(2, seal=False)
    assert queue.begin(job) == job
    with pytest.raises(Conflict):
        queue.begin(replace(job, total=3))


def test_rows_that_stand_are_left_alone_when_a_submission_is_repeated(queue: Queue, submit: Submit) -> None:
    job = submit(2)
    (grant,) = claim(queue)
    queue.add_tasks(job, ['{"schema":1,"state":"pending","values":["9"]}'] * 3)
    assert queue.tasks_at(job.id, [1])[0].attempt == 1
    assert queue.tasks_at(job.id, [1])[0].values == ("1",)
    assert queue.finish([succeeded(grant, 1.0)])[0] is not None


def test_tasks_too_big_for_the_free_room_are_passed_over_and_too_big_for_the_node_reported(
    queue: Queue, submit: Submit
) -> None:
    job = submit(3)
    queue.reset(job, [1], resources=Resources(cpu=100.0))
    queue.reset(job, [2], resources=Resources(cpu=4.0))
    answer = queue.claim(POOL, NODE, room(5, free=Resources(cpu=2.0), total=Resources(cpu=8.0)))
    assert [grant.task.id.index for grant in answer.grants] == [3]
    assert answer.too_big == (TaskId(job.id, 1),)


def test_nothing_is_claimed_ahead_when_the_pool_has_slots_for_all_that_is_due(queue: Queue, submit: Submit) -> None:
    submit(4)
    nothing_free = Resources(cpu=0.0)
    assert queue.claim(POOL, NODE, room(0, 1, free=nothing_free, slots=4)).grants == ()
    assert len(queue.claim(POOL, NODE, room(0, 1, free=nothing_free, slots=3)).grants) == 1


def test_a_finished_task_is_recorded_once(queue: Queue, submit: Submit) -> None:
    job = submit(1)
    (grant,) = claim(queue)
    first = queue.finish([succeeded(grant, 5.0)])[0]
    again = queue.finish([succeeded(grant, 5.0)])[0]
    assert first is not None
    assert first == again
    assert queue.outcomes(job.id) == {Outcome(TaskState.SUCCEEDED, None, 0): 1}


def test_a_former_holder_can_finish_nothing(queue: Queue, submit: Submit, clock: Any) -> None:
    job = submit(1, policy=Policy(lease_s=60.0))
    (old,) = claim(queue)
    clock.advance(61.0)
    (new,) = claim(Queue(queue._table, clock), node=NodeName("n2"))
    assert new.attempt == 2
    assert queue.renew([old], [None]) == [None]
    assert queue.finish([succeeded(old, 1.0)]) == [None]
    assert queue.tasks_at(job.id, [1])[0].state is TaskState.CLAIMED
    assert queue.finish([succeeded(new, 1.0)])[0] is not None


def test_after_a_sleep_of_the_machine_no_lease_is_taken_over_for_one_term(
    queue: Queue, submit: Submit, clock: Any
) -> None:
    submit(1, policy=Policy(lease_s=60.0))
    other = Queue(queue._table, clock)
    claim(queue)
    assert claim(other) == []
    clock.wall += 3600.0  # the lid was closed: wall time jumped, monotonic time did not
    assert claim(other) == []
    clock.advance(59.0)
    assert claim(other) == []
    clock.advance(2.0)
    assert [grant.attempt for grant in claim(other)] == [2]


def test_an_agent_never_takes_over_what_it_holds_itself(queue: Queue, submit: Submit, clock: Any) -> None:
    submit(1, policy=Policy(lease_s=60.0))
    (grant,) = claim(queue)
    clock.advance(61.0)
    assert claim(queue) == [], "its own lease ran out while the queue was away; its outcome is on its way"
    recorded = queue.finish([failed(grant, clock.now())])[0]
    assert recorded is not None
    assert recorded.state is TaskState.FAILED


def test_a_late_outcome_is_accepted_while_nobody_took_over(queue: Queue, submit: Submit, clock: Any) -> None:
    submit(1, policy=Policy(lease_s=60.0))
    (grant,) = claim(queue)
    clock.advance(1000.0)
    recorded = queue.finish([succeeded(grant, clock.now())])[0]
    assert recorded is not None
    assert recorded.state is TaskState.SUCCEEDED


def test_a_failure_with_retries_left_waits_for_its_back_off(queue: Queue, submit: Submit, clock: Any) -> None:
    job = submit(1, policy=Policy(retries=1))
    (grant,) = claim(queue)
    queue.finish([failed(grant, clock.now())])
    assert claim(queue) == []
    clock.advance(1.1)
    (again,) = claim(queue)
    queue.finish([failed(again, clock.now(), code=4)])
    assert queue.outcomes(job.id) == {Outcome(TaskState.FAILED, Reason.EXIT, 4): 1}


def test_a_job_closes_when_nothing_is_left(queue: Queue, submit: Submit) -> None:
    job = submit(1)
    (grant,) = claim(queue)
    queue.finish([succeeded(grant, 1.0)])
    assert queue.claim(POOL, NODE, room(1)).open_jobs == 1
    assert queue.claim(POOL, NODE, room(1)).open_jobs == 0
    assert not queue.refresh(job).open


def test_a_stale_close_fails_after_a_retry(queue: Queue, submit: Submit) -> None:
    from kubeq.queue.sweeping import close_if_done

    job = submit(1)
    (grant,) = claim(queue)
    queue.finish([failed(grant, 1.0)])
    row = queue._table.get([job_row(job).key])[0]
    assert row is not None
    queue.retry(job, [1])
    (again,) = claim(queue)
    queue.finish([succeeded(again, 2.0)])
    assert not close_if_done(queue._table, job, row.version, 3.0)


def test_kill_is_final(queue: Queue, submit: Submit) -> None:
    job = submit(3)
    (grant,) = claim(queue)
    done = queue.cancel_job(job)
    assert done.changed == (1, 2, 3)
    assert claim(queue, 5) == []
    renewed = queue.renew([grant], [None])[0]
    assert renewed is not None
    assert renewed.task.cancel_asked
    stopped = Final(grant=renewed, ending=Ending.CANCELLED, reason=Reason.CANCELLED, report=Report(ended_at=1.0))
    queue.finish([stopped])
    assert states(queue, job) == {TaskState.CANCELLED: 3}
    assert queue.cancel_job(job).changed == ()


class Swept:
    """A table on which an agent sweeps the killed job as soon as the job's row is marked."""

    def __init__(self, table: Any, job: Job) -> None:
        self._table, self._job = table, job

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    def swap(self, changes: Sequence[Change]) -> Any:
        answers = self._table.swap(changes)
        if changes[0].key.partition == jobs_of(self._job.pool):
            sweep(self._table, self._job, 1e9)
        return answers


def test_a_kill_tells_of_what_agents_cancelled_for_it_and_of_nothing_older(
    table: Any, queue: Queue, submit: Submit, clock: Any
) -> None:
    job = submit(4)
    claim(queue)
    queue.cancel_tasks(job, [2])
    assert Queue(Swept(table, job), clock).cancel_job(job).changed == (1, 3, 4)  # type: ignore[arg-type]


def test_a_killed_attempt_that_finished_first_keeps_its_outcome(queue: Queue, submit: Submit) -> None:
    job = submit(1)
    (grant,) = claim(queue)
    queue.cancel_job(job)
    assert queue.finish([succeeded(grant, 1.0)])[0] is not None
    assert states(queue, job) == {TaskState.SUCCEEDED: 1}


def test_a_dead_agent_can_never_keep_a_killed_job_from_ending(
    queue: Queue,
    submit: Submit,
    clock: Any,
) -> None:
    job = submit(1)
    claim(queue)
    job = replace(job, cancelled=True)
    queue.cancel_job(job)
    clock.advance(121.0)
    assert queue.sweep(job) == 1
    assert states(queue, job) == {TaskState.CANCELLED: 1}
    assert queue.close_if_done(job)


def test_a_paused_job_is_not_claimed_and_its_dead_leases_return_to_pending(
    queue: Queue,
    submit: Submit,
    clock: Any,
) -> None:
    job = submit(2)
    claim(queue)
    paused = queue.pause(job)
    clock.advance(121.0)
    assert claim(queue, 5) == []
    queue.sweep(paused)
    first = queue.tasks_at(job.id, [1])[0]
    assert (first.state, first.losses, first.attempt) == (TaskState.PENDING, 1, 1)
    queue.resume(job)
    assert len(claim(queue, 5)) == 2


def test_a_command_leaves_the_leases_of_a_paused_job_alone_for_a_term_after_their_end(
    queue: Queue, submit: Submit, clock: Any
) -> None:
    job = submit(1)
    (grant,) = claim(queue)
    paused = queue.pause(job)
    clock.wall += 3 * 3600.0  # the lid was closed, and a watcher wakes up before the agent does
    assert states(queue, job) == {TaskState.CLAIMED: 1}
    renewed = queue.renew([grant], [None])[0]
    assert renewed is not None
    clock.advance(121.0)
    assert queue.sweep(paused) == 0
    clock.advance(120.0)
    assert queue.sweep(paused) == 1
    assert states(queue, job) == {TaskState.PENDING: 1}


def test_jobs_behind_a_thousand_that_are_paused_are_claimed(table: Any, queue: Queue, submit: Submit) -> None:
    many_paused(table, submit, OPEN_JOBS_PAGE)
    job = submit(1, id="z")
    assert [grant.task.id.job for grant in claim(queue)] == [job.id]


def test_a_claim_asks_a_bounded_number_of_jobs_and_the_next_one_goes_on(
    table: Any, queue: Queue, submit: Submit
) -> None:
    many_paused(table, submit, OPEN_JOBS_PAGE * JOB_PAGES_PER_CLAIM)
    job = submit(1, id="z")
    first = queue.claim(POOL, NODE, room(1))
    assert (first.grants, first.open_jobs) == ((), 1), "there may be work in what was not looked at"
    assert [grant.task.id.job for grant in claim(queue)] == [job.id]


def many_paused(table: Any, submit: Submit, count: int) -> None:
    """So many sealed jobs that are paused, before those that are submitted from now on."""
    job = replace(submit(0, id="a", pool="other"), pool=POOL, sealed_at=1.0, paused=True)
    table.insert([job_row(replace(job, id=JobId(f"paused-{number:05}"))) for number in range(count)])


def test_a_healthy_claim_is_never_reset_without_force(queue: Queue, submit: Submit) -> None:
    job = submit(2)
    (grant,) = claim(queue)
    assert queue.reset(job, [1, 2]).changed == ()
    assert queue.reset(job, [1], force=True).changed == (1,)
    assert queue.finish([succeeded(grant, 1.0)]) == [None]
    (again,) = [one for one in claim(queue, 5) if one.task.id.index == 1]
    assert again.attempt == 2


def test_retry_opens_a_closed_job_again(queue: Queue, submit: Submit) -> None:
    job = submit(2)
    one, two = claim(queue, 2)
    queue.finish([failed(one, 1.0), succeeded(two, 1.0)])
    assert queue.close_if_done(job)
    assert queue.retry(job, [1, 2]).changed == (1,)
    assert queue.refresh(job).open
    assert [grant.task.id.index for grant in claim(queue, 5)] == [1]


def test_a_look_tells_of_orders_cancels_and_takeovers(queue: Queue, submit: Submit, clock: Any) -> None:
    job = submit(3)
    grants = claim(queue, 3)
    node = Node(
        name=NODE, pool=POOL, number=1, provider="local", state=NodeState.ACTIVE, host="h", requested_at=clock.now()
    )
    queue.report(node)
    assert queue.look(node, grants).urgent == ()
    queue.cancel_tasks(job, [1])
    queue.reset(job, [2], force=True)
    queue.order(node, NodeOrder.FINISH)
    seen = queue.look(node, grants)
    assert seen.order is NodeOrder.FINISH
    assert seen.urgent == tuple(grants[:2])
    assert queue.report(node).order is NodeOrder.FINISH, "a report never overwrites an order"


def test_that_a_node_has_begun_stays_in_its_row_whatever_it_and_others_say_later(queue: Queue, clock: Any) -> None:
    node = Node(
        name=NODE, pool=POOL, number=1, provider="local", state=NodeState.STARTING, host="h", requested_at=clock.now()
    )
    assert not queue.report(node).begun
    assert queue.report(replace(node, state=NodeState.ACTIVE)).begun
    assert queue.report(node).begun, "its agent was started again"
    assert queue.record_end(replace(node, state=NodeState.GONE)).begun
    assert queue.report(node).begun
    assert not queue.withdraw(replace(node, state=NodeState.GONE, order=NodeOrder.SHRINK))


def test_an_order_never_takes_the_place_of_a_stronger_one(queue: Queue, clock: Any) -> None:
    node = Node(
        name=NODE, pool=POOL, number=1, provider="local", state=NodeState.ACTIVE, host="h", requested_at=clock.now()
    )
    assert queue.order(node, NodeOrder.FINISH) is None, "it has no row"
    queue.report(node)
    given = [NodeOrder.SHRINK, NodeOrder.FINISH, NodeOrder.SHRINK, NodeOrder.RELEASE, NodeOrder.FINISH]
    stands = [standing.order for order in given if (standing := queue.order(node, order)) is not None]
    assert stands == [NodeOrder.SHRINK, NodeOrder.FINISH, NodeOrder.FINISH, NodeOrder.RELEASE, NodeOrder.RELEASE]


def test_node_numbers_are_never_given_out_twice(queue: Queue) -> None:
    pool = Pool(id=POOL, provider="local", private=False, created_at=1.0)
    assert queue.number_nodes(pool, 2) == [1, 2]
    assert queue.number_nodes(pool, 3) == [3, 4, 5]


def test_a_pool_keeps_the_newest_of_its_agents_archives_beside_its_numbers(queue: Queue) -> None:
    pool = Pool(id=PoolId("numbered"), provider="ssh", private=False, created_at=0.0)
    archives = [Digest.of(bytes([number])) for number in range(KEPT_ARCHIVES + 2)]
    queue.keep_archive(pool, archives[0])
    assert queue.number_nodes(pool, 2) == [1, 2]
    for archive in (*archives[1:], archives[-1]):
        queue.keep_archive(pool, archive)
    standing = queue.pool(pool.id)
    assert standing is not None
    assert (standing.archives, standing.nodes) == (tuple(archives[2:]), 2)


def test_the_first_pin_holds_for_all(queue: Queue, submit: Submit) -> None:
    job = submit(1)
    assert queue.pinned_image(job.id) is None
    assert queue.pin(job.id, "image", "sha256:a") == "sha256:a"
    assert queue.pin(job.id, "image", "sha256:b") == "sha256:a"
    assert queue.pinned_image(job.id) == "sha256:a"


def test_a_forgotten_job_is_gone_with_its_tasks(queue: Queue, submit: Submit) -> None:
    job, other = submit(5), submit(1, id="j2")
    queue.forget(job)
    queue.forget(job)
    with pytest.raises(NotFound):
        queue.job(job.id)
    assert [entry.id for entry in queue.entries()] == [other.id]
    assert queue.outcomes(job.id) == {}


def test_a_submission_whose_job_is_removed_meanwhile_leaves_no_rows(queue: Queue, submit: Submit) -> None:
    job = submit(5, seal=False)
    queue.forget(job)
    queue.add_tasks(job, ['{"schema":1,"state":"pending","values":["6"]}'])
    with pytest.raises(NotFound, match="removed while it was being submitted"):
        queue.seal(job)
    assert queue.outcomes(job.id) == {}


def test_records_of_a_newer_kubeq_are_left_out_of_listings_and_told_of_once(
    queue: Queue, submit: Submit, caplog: pytest.LogCaptureFixture
) -> None:
    newer, job = submit(2), submit(2, id="j2")
    make_newer(queue, job_row(newer).key)
    make_newer(queue, task_key(TaskId(job.id, 1)))
    assert [each.id for each in queue.jobs(queue.entries())] == [job.id]
    make_newer(queue, entry_row(newer).key)
    assert [entry.id for entry in queue.entries()] == [job.id]
    assert [entry.id for entry in queue.entries()] == [job.id]
    assert [task.id.index for task in queue.tasks(job.id)] == [2]
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert all("schema 2" in message and "install a newer kubeq" in message for message in messages)
    for asked in (lambda: queue.job(newer.id), lambda: queue.refresh(newer), lambda: queue.tasks_at(job.id, [1])):
        with pytest.raises(VersionMismatch):
            asked()
    with pytest.raises(VersionMismatch):
        queue.entries(strict=True)


def test_a_node_of_a_newer_kubeq_does_not_hide_the_others(queue: Queue, clock: Any) -> None:
    node = Node(
        name=NODE, pool=POOL, number=1, provider="local", state=NodeState.ACTIVE, host="h", requested_at=clock.now()
    )
    queue.report(node)
    queue.report(replace(node, name=NodeName("n2")))
    make_newer(queue, node_row(node).key)
    assert [peer.name for peer in queue.peers(POOL)] == ["n2"]
    queue.forget_pool(POOL)
    assert queue._table.get([node_row(node).key]) == [None], "a pool goes with all its nodes"


def make_newer(queue: Queue, key: Key) -> None:
    """The record written again, as a kubeq with a newer schema would."""
    row = queue._table.get([key])[0]
    assert row is not None
    body = row.body.replace('"schema":1', '"schema":2')
    assert body != row.body
    queue._table.swap([Change(key, row.version, "newer", row.tally, row.claimable_at, body)])


def test_a_record_of_a_newer_kubeq_is_left_as_it_is(queue: Queue, submit: Submit) -> None:
    job = submit(2)
    key = task_key(TaskId(job.id, 1))
    make_newer(queue, key)
    before = queue._table.get([key])
    assert [grant.task.id.index for grant in claim(queue, 5)] == [2]
    assert queue._table.get([key]) == before
