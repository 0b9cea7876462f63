"""What is Datastore's own about its table: what is asked for, what a lost answer, a refusal or an old index comes to.

The rows are in our own stand-in, which does on order what the service does now and then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.cloud.datastore_v1.types import datastore as messages

from kubeq.core.clock import SystemClock
from kubeq.core.model import TaskId, TaskState
from kubeq.errors import AccessDenied, BackendError
from kubeq.metering import Meter
from kubeq.queue.base import Change, Key, Partition, Row, Standing, Swapped, Tally
from kubeq.queue.datastore import DatastoreTable
from kubeq.queue.datastore_entities import SHARDS, Place, entity_of, name_of
from kubeq.queue.datastore_requests import Requests
from kubeq.queue.datastore_writing import COMMIT_ROWS, Versions, Wish, Writer
from kubeq.queue.patience import Patience
from kubeq.queue.queue import Queue
from kubeq.queue.rows import tasks_of
from tests.queued import claim, finish, states, submitted
from tests.stand_ins.datastore import Open
from tests.stand_ins.datastore_emulator import DatastoreEmulator
from tests.stand_ins.datastore_storage import Storage

TASKS, SMALL = Partition("job/20260101-abc"), Partition("pool/p/jobs")
PENDING, CLAIMED = Tally("pending//"), Tally("claimed//")
CODE = grpc.StatusCode
MODE = messages.CommitRequest.Mode


@pytest.fixture
def emulator(emulated_datastore: DatastoreEmulator) -> DatastoreEmulator:
    emulated_datastore.counts.clear()
    return emulated_datastore


@pytest.fixture
def table(emulator: DatastoreEmulator, open_datastore: Open) -> DatastoreTable:
    return open_datastore()


@pytest.fixture
def impatient(table: DatastoreTable) -> DatastoreTable:
    """The same rows, for whom every failure is the last."""
    return DatastoreTable(table.place, patience=Patience(total_s=0.0))


def row(name: str, partition: Partition = TASKS, **columns: Any) -> Row:
    return Row(Key(partition, name), 1, f"mark of {name}", PENDING, 10.0, "{}")._replace(**columns)


def rows_of(count: int, partition: Partition = TASKS) -> list[Row]:
    return [row(f"{index:010d}", partition) for index in range(1, count + 1)]


def change(of: Row, mark: str = "a swap", **columns: Any) -> Change:
    return Change(of.key, of.version, mark, of.tally, of.claimable_at, of.body)._replace(**columns)


def made(change: Change) -> Row:
    return Row(change.key, change.version + 1, *change[2:])


def mutations(recorded: Iterable[tuple[str, Any]]) -> list[Any]:
    return [mutation for kind, request in recorded if kind == "Commit" for mutation in request.mutations]


# what is asked for


def test_in_a_jobs_whole_life_no_write_is_without_a_condition(
    emulator: DatastoreEmulator, table: DatastoreTable
) -> None:
    queue = Queue(table, SystemClock())
    with emulator.recorded() as seen:
        job = submitted(queue, 30)
        renewed = queue.renew(claim(queue, 10), [None] * 10)
        finish(queue, [grant for grant in renewed if grant is not None])
        queue.cancel_job(job)
        queue.reset(job, range(1, 31), succeeded=True)
        queue.forget(job)
    assert {kind for kind, _ in seen} == {"Commit", "Lookup", "RunQuery", "RunAggregationQuery"}
    assert {request.mode for kind, request in seen if kind == "Commit"} == {MODE.NON_TRANSACTIONAL}
    sent = mutations(seen)
    assert {mutation.WhichOneof("operation") for mutation in sent} == {"insert", "update", "delete"}
    updates = [mutation for mutation in sent if mutation.WhichOneof("operation") == "update"]
    fail = messages.Mutation.ConflictResolutionStrategy.FAIL
    assert all(mutation.base_version > 0 and mutation.conflict_resolution_strategy == fail for mutation in updates)
    inserted = [mutation.insert.key.path[0].name for mutation in sent if mutation.WhichOneof("operation") == "insert"]
    assert len(inserted) == len(set(inserted)) == 32


def test_tasks_of_one_job_are_spread_over_keys_and_indexes_and_only_what_is_searched_is_indexed(
    emulator: DatastoreEmulator, table: DatastoreTable
) -> None:
    with emulator.recorded() as seen:
        table.insert(rows_of(400))
        table.insert(rows_of(20, SMALL))
    entities = [mutation.insert for mutation in mutations(seen)]
    tasks = [entity for entity in entities if "job!2f" in entity.key.path[0].name]
    by_shard = Counter(entity.key.path[0].name[0] for entity in tasks)
    assert len(by_shard) == SHARDS
    assert min(by_shard.values()) > 400 / SHARDS / 2
    assert all(entity.properties["due"].string_value[0] == entity.key.path[0].name[0] for entity in entities)
    assert {entity.key.path[0].name[0] for entity in entities if entity not in tasks} == {"0"}
    indexed = {name for each in entities for name, value in each.properties.items() if not value.exclude_from_indexes}
    assert indexed == {"due", "tally"}


def test_rows_that_were_just_read_are_swapped_by_one_request(
    emulator: DatastoreEmulator, table: DatastoreTable, open_datastore: Open
) -> None:
    open_datastore().insert(rows_of(100))
    (page, emulator_before) = table.due(TASKS, 10.0, None, 100), emulator.counts.copy()
    answers = table.swap([change(each) for each in page.rows])
    assert emulator.counts - emulator_before == {"Commit": 1}
    assert all(isinstance(answer, Swapped) for answer in answers)
    table.swap([change(answer.row, "again") for answer in answers if isinstance(answer, Swapped)])
    assert emulator.counts - emulator_before == {"Commit": 2}


def test_rows_that_were_not_seen_before_are_read_first(
    emulator: DatastoreEmulator, table: DatastoreTable, open_datastore: Open
) -> None:
    given = rows_of(100)
    table.insert(given)
    before = emulator.counts.copy()
    open_datastore().swap([change(each) for each in given])
    assert emulator.counts - before == {"Lookup": 1, "Commit": 1}


def test_a_change_never_makes_a_row_anew_although_its_version_was_forgotten_meanwhile(table: DatastoreTable) -> None:
    class Forgetful(Versions):
        """Knows a version until it has been asked for it, as if other threads had read many rows since."""

        def find(self, name: str, version: int) -> int | None:
            found = super().find(name, version)
            self._known.pop(name, None)
            return found

    versions, requests = Forgetful(), Requests(table.place, Meter(), Patience())
    writer = Writer(requests, versions, time.sleep)
    standing = row("1")
    writer.write([Wish(name_of(standing.key), standing, entity_of(standing, table.place), None)])
    table.delete([standing.key])
    after = made(change(standing))
    wish = Wish(name_of(after.key), after, entity_of(after, table.place), standing.version)
    assert writer.write([wish]) == [Standing(None)]
    assert table.get([standing.key]) == [None]


def test_a_poll_costs_one_query_for_the_open_jobs_and_one_a_shard_of_each(
    emulator: DatastoreEmulator, table: DatastoreTable
) -> None:
    queue = Queue(table, SystemClock())
    emulator.counts.clear()
    assert claim(queue, 4) == []
    assert emulator.counts == {"RunQuery": 1}
    submitted(queue, 1)
    assert len(claim(queue, 1)) == 1
    emulator.counts.clear()
    emulator.billed.clear()
    assert claim(queue, 4) == []
    assert emulator.counts["RunQuery"] == 1 + SHARDS
    assert emulator.billed["reads"] <= 1 + SHARDS + 4, "one for the open job, and the count that may follow"


def test_a_page_of_a_large_partition_is_billed_by_its_rows_and_one_read_a_shard(
    emulator: DatastoreEmulator, table: DatastoreTable
) -> None:
    table.insert(rows_of(2000))
    emulator.billed.clear()
    assert len(table.list(TASKS, None, 1000).rows) == 1000
    assert emulator.billed["reads"] == 1000 + SHARDS
    emulator.billed.clear()
    assert len(table.due(TASKS, 10.0, None, 20).rows) == 20
    assert emulator.billed["reads"] == 20 + SHARDS


def test_a_count_is_billed_by_the_thousand(emulator: DatastoreEmulator, table: DatastoreTable) -> None:
    table.insert(rows_of(3000))
    emulator.billed.clear()
    emulator.counts.clear()
    assert table.count(TASKS, True) == {PENDING: 3000}
    assert emulator.counts == {"RunQuery": 2, "RunAggregationQuery": 1}
    assert emulator.billed["reads"] == 2 + 3


def test_a_batch_of_large_rows_goes_in_commits_that_the_service_takes(
    emulator: DatastoreEmulator, table: DatastoreTable
) -> None:
    given = [row(f"{index:02d}", body="x" * 900_000) for index in range(25)]
    with emulator.recorded() as seen:
        assert list(table.insert(given)) == [None] * 25
    assert [len(request.mutations) for kind, request in seen if kind == "Commit"].count(9) == 2
    assert list(table.get([each.key for each in given])) == given
    assert len(table.list(TASKS, None, 100).rows) == 25


def test_answers_that_come_in_parts_are_put_together(emulator: DatastoreEmulator, table: DatastoreTable) -> None:
    given = [*rows_of(60), *rows_of(60, SMALL)]
    table.insert(given)
    batch, room = emulator.reads.batch, emulator.reads.lookup_bytes
    emulator.reads.batch, emulator.reads.lookup_bytes = 7, 500
    try:
        assert list(table.get([each.key for each in given])) == given
        for partition in (TASKS, SMALL):
            expected = [each for each in given if each.key.partition == partition]
            assert list(table.list(partition, None, 100).rows) == expected
            assert list(table.due(partition, 10.0, None, 100).rows) == expected
    finally:
        emulator.reads.batch, emulator.reads.lookup_bytes = batch, room


def test_a_shard_with_more_than_its_part_ends_the_page_early_and_loses_nothing(table: DatastoreTable) -> None:
    crowded = [each for each in rows_of(4000) if _shard(each) == 3][:300]
    table.insert([*crowded, row("x")])
    listed, after = [], None
    while True:
        page = table.list(TASKS, after, 200)
        listed += [each.key.name for each in page.rows]
        after = page.after
        if after is None:
            break
    assert listed == [*(each.key.name for each in crowded), "x"]


def _shard(row: Row) -> int:
    from kubeq.queue.datastore_entities import shard_of

    return shard_of(row.key)


# lost answers


def test_an_insert_whose_answer_is_lost_is_made_once_and_by_us(
    emulator: DatastoreEmulator, table: DatastoreTable
) -> None:
    given = rows_of(COMMIT_ROWS)
    emulator.fail("Commit", CODE.UNAVAILABLE, applied=True)
    assert list(table.insert(given)) == [None] * COMMIT_ROWS
    assert emulator.counts == {"Commit": 2, "Lookup": 1}
    assert list(table.get([each.key for each in given])) == given


def test_a_swap_whose_answer_is_lost_is_won(emulator: DatastoreEmulator, table: DatastoreTable) -> None:
    given = rows_of(50)
    table.insert(given)
    wanted = [change(each, body="mine") for each in given]
    emulator.fail("Commit", CODE.DEADLINE_EXCEEDED, applied=True)
    assert list(table.swap(wanted)) == [Swapped(made(each)) for each in wanted]
    assert {each.version for each in table.list(TASKS, None, 100).rows} == {2}


def test_a_swap_that_was_won_and_then_overtaken_is_told_who_stands_there(
    emulator: DatastoreEmulator, table: DatastoreTable, impatient: DatastoreTable
) -> None:
    given = row("a")
    table.insert([given])
    mine = change(given, "mine", body="mine")
    emulator.fail("Commit", CODE.UNAVAILABLE, applied=True)
    with pytest.raises(BackendError):
        impatient.swap([mine])
    theirs = change(made(mine), "theirs", body="theirs")
    table.swap([theirs])
    assert list(impatient.swap([mine])) == [Standing(made(theirs))]


def test_a_commit_that_stops_half_way_is_found_out_and_finished(
    emulator: DatastoreEmulator, table: DatastoreTable, open_datastore: Open
) -> None:
    """The service names the one that lost; of the others each may have been made."""
    given = rows_of(COMMIT_ROWS)
    theirs = row(given[250].key.name, change_id="theirs", body="theirs")
    open_datastore().insert([theirs])
    answers = table.insert(given)
    assert [place for place, answer in enumerate(answers) if answer is not None] == [250]
    assert answers[250] == theirs
    assert emulator.counts["Commit"] <= 1 + 1 + 4


def test_a_claim_whose_answer_is_lost_is_granted_once(
    emulator: DatastoreEmulator, table: DatastoreTable, open_datastore: Open
) -> None:
    queue = Queue(table, SystemClock())
    submitted(queue, 1)
    emulator.fail("Commit", CODE.UNAVAILABLE, applied=True)
    (grant,) = claim(queue, 1)
    assert grant.attempt == 1
    assert claim(Queue(open_datastore(), SystemClock()), 1, "n2") == []


def test_a_request_that_never_arrived_is_made_again(emulator: DatastoreEmulator, table: DatastoreTable) -> None:
    for kind in ("Commit", "Lookup", "RunQuery", "RunAggregationQuery"):
        emulator.fail(kind, CODE.UNAVAILABLE)
    given = row("a")
    assert list(table.insert([given])) == [None]
    assert list(table.get([given.key])) == [given]
    assert list(table.list(TASKS, None, 9).rows) == [given]
    assert table.count(TASKS, True) == {PENDING: 1}
    emulator.fail("Commit", CODE.ABORTED)
    table.delete([given.key])
    assert list(table.get([given.key])) == [None]
    assert table.requests == emulator.counts


# contention


@pytest.mark.parametrize("code", [CODE.ABORTED, CODE.INTERNAL, CODE.UNKNOWN])
@pytest.mark.parametrize("applied", [False, True])
def test_a_conflict_or_a_fault_of_the_service_is_no_answer(
    emulator: DatastoreEmulator, table: DatastoreTable, code: grpc.StatusCode, applied: bool
) -> None:
    given = rows_of(20)
    emulator.fail("Commit", code, applied=applied, times=2)
    assert list(table.insert(given)) == [None] * 20
    emulator.fail("Commit", code, applied=applied, times=2)
    assert all(isinstance(answer, Swapped) for answer in table.swap([change(each) for each in given]))
    assert {each.version for each in table.list(TASKS, None, 100).rows} == {2}


def test_of_a_batch_in_which_half_have_lost_the_others_win(
    emulator: DatastoreEmulator, table: DatastoreTable, open_datastore: Open
) -> None:
    given = rows_of(400)
    table.insert(given)
    table.get([each.key for each in given])
    open_datastore().swap([change(each, "theirs") for each in given[::2]])
    before = emulator.counts.copy()
    answers = table.swap([change(each, "mine") for each in given])
    assert [type(answer) for answer in answers] == [Standing, Swapped] * 200
    assert {answer.row.change_id for answer in answers if answer.row} == {"theirs", "mine"}
    assert emulator.counts - before == {"Commit": 3, "Lookup": 1}, "one that fails, and the rest in runs of 125"


def test_sixteen_threads_swapping_overlapping_batches_have_one_winner_a_row(open_datastore: Open) -> None:
    given = rows_of(200)
    open_datastore().insert(given)

    def take(number: int) -> list[str]:
        table, mine = open_datastore(), f"worker {number}"
        table.get([each.key for each in given])
        wanted = given[number * 5 :] + given[: number * 5]
        answers = table.swap([change(each, mine, body=mine) for each in wanted])
        assert all(answer.row is not None and answer.row.version == 2 for answer in answers)
        return [answer.row.key.name for answer in answers if isinstance(answer, Swapped)]

    with ThreadPoolExecutor(16) as pool:
        won = [name for names in pool.map(take, range(16)) for name in names]
    assert sorted(won) == [each.key.name for each in given]


def test_who_never_gets_through_is_told_so_in_the_end(
    emulator: DatastoreEmulator, open_datastore: Open, table: DatastoreTable
) -> None:
    table.insert([row("a")])
    emulator.fail("Commit", CODE.ABORTED, times=1000)
    hurried = DatastoreTable(table.place, patience=Patience(sleep=lambda seconds: None))
    with pytest.raises(BackendError, match="changed faster than they could be written") as raised:
        hurried.swap([change(row("a"))])
    assert raised.value.transient


def test_sixteen_agents_with_fifty_tasks_each_do_every_task_once(open_datastore: Open) -> None:
    total = 16 * 50
    job = submitted(Queue(open_datastore(), SystemClock()), total)
    done: list[list[tuple[TaskId, int]]] = [[] for _ in range(16)]

    def work(number: int) -> None:
        queue = Queue(open_datastore(), SystemClock())
        idle = 0
        while idle < 3:
            grants = claim(queue, 10, f"n{number}")
            idle = 0 if grants else idle + 1
            renewed = queue.renew(grants, [None] * len(grants))
            held = [grant for grant in renewed if grant is not None]
            finish(queue, held)
            done[number] += [(grant.task.id, grant.attempt) for grant in held]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    attempts = [each for agent in done for each in agent]
    assert sorted(task.index for task, _ in attempts) == list(range(1, total + 1))
    assert {attempt for _, attempt in attempts} == {1}
    assert states(Queue(open_datastore(), SystemClock()), job) == {TaskState.SUCCEEDED: total}


# refusals that pass


def test_a_submission_that_is_slowed_down_all_the_time_completes_with_each_row_once(
    emulator: DatastoreEmulator, table: DatastoreTable
) -> None:
    for skip in range(0, 12, 2):
        emulator.fail("Commit", CODE.RESOURCE_EXHAUSTED, skip=skip, applied=skip % 4 == 0)
    queue = Queue(table, SystemClock())
    job = submitted(queue, 5000)
    assert states(queue, job) == {TaskState.PENDING: 5000}
    stored = [row for page in _pages(table, tasks_of(job.id)) for row in page]
    assert [int(each.key.name) for each in stored] == list(range(1, 5001))
    assert {each.version for each in stored} == {1}


def _pages(table: DatastoreTable, partition: Partition) -> Iterable[Sequence[Row]]:
    after = None
    while True:
        page = table.list(partition, after, 1000)
        yield page.rows
        after = page.after
        if after is None:
            return


def test_a_submission_that_was_given_up_in_the_middle_is_completed_by_doing_it_again(
    emulator: DatastoreEmulator, table: DatastoreTable, impatient: DatastoreTable
) -> None:
    emulator.fail("Commit", CODE.RESOURCE_EXHAUSTED, skip=4, times=10_000)
    with pytest.raises(BackendError, match="asked to slow down") as raised:
        submitted(Queue(impatient, SystemClock()), 9000)
    assert raised.value.transient and raised.value.waited
    emulator.mend()
    written = table.count(TASKS, True)[PENDING]
    assert 0 < written < 9000
    queue = Queue(table, SystemClock())
    assert claim(queue, 1) == [], "nothing of a job that is not sealed"
    assert states(queue, submitted(queue, 9000)) == {TaskState.PENDING: 9000}


def test_who_waits_long_is_told_once(
    emulator: DatastoreEmulator, table: DatastoreTable, caplog: pytest.LogCaptureFixture
) -> None:
    waited: list[float] = []
    quick = DatastoreTable(table.place, patience=Patience(sleep=waited.append))
    with caplog.at_level(logging.WARNING, logger="kubeq"):
        for _ in range(2):
            emulator.fail("Lookup", CODE.RESOURCE_EXHAUSTED, times=6, message="Quota exceeded.")
            assert list(quick.get([row("a").key])) == [None]
    assert len(waited) == 12
    assert len(caplog.records) == 1
    assert "asked to slow down (Quota exceeded.); trying again" in caplog.messages[0]


# refusals that stay


def test_a_row_over_the_size_is_refused_before_anything_of_its_batch_is_stored(
    emulator: DatastoreEmulator, table: DatastoreTable
) -> None:
    given = rows_of(20)
    large = row("big", body="x" * 1_048_000)
    with pytest.raises(
        BackendError, match=r"the row 'big' of 'job/20260101-abc' cannot be written: it takes 1,048,\d+"
    ):
        table.insert([*given, large])
    assert emulator.counts == {}
    table.insert([row("big", body="x" * 1_047_700)])
    with pytest.raises(BackendError, match="cannot be written"):
        table.swap([change(row("big"), body="x" * 1_048_000)])


def test_a_name_that_is_no_key_is_refused_with_its_length(table: DatastoreTable) -> None:
    with pytest.raises(BackendError, match=r"takes 20\d\d bytes of at most 1500"):
        table.insert([row("x" * 2000)])


REFUSALS = [
    (CODE.PERMISSION_DENIED, "Missing or insufficient permissions.", AccessDenied, "Missing or insufficient", "setup"),
    (CODE.UNAUTHENTICATED, "Request had invalid credentials.", AccessDenied, "have expired", "login"),
    (
        CODE.NOT_FOUND,
        "The database (default) does not exist.",
        BackendError,
        r"the Datastore database .* does not",
        "setup",
    ),
    (CODE.FAILED_PRECONDITION, "not available in Native Mode.", BackendError, "not available in Native Mode", None),
]


@pytest.mark.parametrize(("code", "said", "kind", "words", "hint"), REFUSALS)
def test_what_is_refused_for_good_is_told_at_once_with_its_cause(
    emulator: DatastoreEmulator,
    table: DatastoreTable,
    code: grpc.StatusCode,
    said: str,
    kind: type[BackendError],
    words: str,
    hint: str | None,
) -> None:
    for request in ("Commit", "Lookup", "RunQuery", "RunAggregationQuery"):
        emulator.fail(request, code, times=1000, message=said)
    uses = [
        lambda: table.insert([row("a")]),
        lambda: table.swap([change(row("a"))]),
        lambda: table.get([row("a").key]),
        lambda: table.due(TASKS, 10.0, None, 5),
        lambda: table.list(SMALL, None, 5),
        lambda: table.count(TASKS, True),
        lambda: table.delete([row("a").key]),
    ]
    for use in uses:
        with pytest.raises(kind, match=words) as raised:
            use()
        assert not raised.value.transient
        assert hint is None or hint in (raised.value.hint or "")
    assert sum(emulator.counts.values()) <= 2 * len(uses) + SHARDS


def test_a_batch_of_which_one_part_is_refused_for_good_is_given_up_at_once_and_leaves_nothing_under_way(
    emulator: DatastoreEmulator, table: DatastoreTable
) -> None:
    emulator.fail("Commit", CODE.PERMISSION_DENIED, skip=2)
    emulator.fail("Commit", CODE.UNAVAILABLE, times=10_000)
    start = time.monotonic()
    with pytest.raises(AccessDenied):
        table.insert(rows_of(table.batch))
    assert time.monotonic() - start < 15.0, "the others had patience for 20 s"
    asked = emulator.counts["Commit"]
    time.sleep(0.5)
    assert emulator.counts["Commit"] == asked


def test_permission_that_is_withdrawn_in_mid_job_costs_nothing_once_it_is_back(
    emulator: DatastoreEmulator, table: DatastoreTable
) -> None:
    queue = Queue(table, SystemClock())
    job = submitted(queue, 3)
    grants = claim(queue, 3)
    emulator.fail("Commit", CODE.PERMISSION_DENIED)
    with pytest.raises(AccessDenied):
        queue.renew(grants, [None] * 3)
    finish(queue, grants)
    assert states(queue, job) == {TaskState.SUCCEEDED: 3}


def test_where_nobody_answers_is_told_when_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", "127.0.0.1:9")
    table = DatastoreTable(Place("project", "", ""), patience=Patience(total_s=0.5))
    start = time.monotonic()
    with pytest.raises(BackendError, match="could not read rows of the Datastore database") as raised:
        table.get([row("a").key])
    assert raised.value.transient and raised.value.waited
    assert time.monotonic() - start < 15.0


# old answers of the index, and other times


def test_an_old_index_costs_a_look_and_never_a_double_claim(
    emulator: DatastoreEmulator, table: DatastoreTable, open_datastore: Open
) -> None:
    first, second = Queue(table, SystemClock()), Queue(open_datastore(), SystemClock())
    job = submitted(first, 40)
    with emulator.frozen("due"):
        taken = claim(first, 10, "n1")
        others = claim(second, 10, "n2")
        finish(first, taken)
        emulator.counts.clear()
        assert len(claim(first, 30, "n1")) == 20
        assert claim(first, 10, "n1") == []
        assert sum(emulator.counts.values()) < 100
        assert states(first, job) == {TaskState.SUCCEEDED: 10, TaskState.CLAIMED: 30}, "counts are never old"
    assert not {grant.task.id for grant in taken} & {grant.task.id for grant in others}
    assert len(others) == 10


def test_a_count_is_of_one_moment(emulator: DatastoreEmulator, open_datastore: Open) -> None:
    """A row that changes its tally during a count is in one of them, never in none or both."""
    given = rows_of(40)
    open_datastore().insert(given)
    stop = threading.Event()

    def toggle() -> None:
        table = open_datastore()
        standing = list(given)
        while not stop.is_set():
            wanted = [
                change(each, f"{each.version}", tally=CLAIMED if each.tally == PENDING else PENDING)
                for each in standing
            ]
            standing = [answer.row for answer in table.swap(wanted) if answer.row is not None]

    thread = threading.Thread(target=toggle)
    thread.start()
    try:
        reader = open_datastore()
        for _ in range(30):
            assert sum(reader.count(TASKS, True).values()) == 40
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("ahead_s", [120.0, -45.0])
def test_the_clocks_difference_is_learnt_from_answers(
    emulator: DatastoreEmulator, table: DatastoreTable, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    assert table.clock_offset() == 0.0
    served = DatastoreEmulator(Storage(now=lambda: time.time() + ahead_s))
    served.start()
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", f"127.0.0.1:{served.port}")
    reads = [lambda table: table.get([row("a").key]), lambda table: table.list(SMALL, None, 5)]
    for read in reads:
        other = DatastoreTable(table.place)
        read(other)
        assert other.clock_offset() == pytest.approx(ahead_s, abs=2.0)
    served.stop()


def test_what_was_read_of_the_past_says_nothing_of_the_clocks(
    emulator: DatastoreEmulator, table: DatastoreTable
) -> None:
    emulator.delay_s = 0.2
    try:
        table.insert(rows_of(3))
        table.count(TASKS, True)
    finally:
        emulator.delay_s = 0.0
    assert table.clock_offset() == 0.0


def test_a_wait_is_a_sleep(table: DatastoreTable) -> None:
    start = time.monotonic()
    table.wait(0.05)
    assert time.monotonic() - start >= 0.05
