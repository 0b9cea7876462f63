"""What every RecordTable promises. A backend joins by one entry in BACKENDS: how to open the table of a test's own.

Services are stood in for by emulators; with `-m live` the real ones are asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count as counter
from pathlib import Path

import pytest

from kubeq.queue.base import LARGE, Change, Cursor, Key, Page, Partition, RecordTable, Row, Standing, Swapped, Tally
from kubeq.queue.dynamodb import DynamoDbTable
from kubeq.queue.dynamodb_items import SHARDS
from kubeq.queue.memory import MemoryTable
from kubeq.queue.sqlite import SqliteTable
from tests.stand_ins.dynamodb import live_table, made_table
from tests.stand_ins.ministack import REGION

Open = Callable[[], RecordTable]
"""Opens a client of the test's table; every call gives one that sees the same rows."""


def _memory(request: pytest.FixtureRequest, folder: Path) -> Open:
    table = MemoryTable()
    return lambda: table


def _sqlite(request: pytest.FixtureRequest, folder: Path) -> Open:
    return lambda: SqliteTable(folder / "queue.sqlite")


def _fixture(name: str) -> Callable[[pytest.FixtureRequest, Path], Open]:
    return lambda request, folder: request.getfixturevalue(name)


def _dynamodb(request: pytest.FixtureRequest, folder: Path, shards: int = SHARDS) -> Open:
    name = made_table(request.getfixturevalue("emulated_aws"))
    return lambda: DynamoDbTable(REGION, name, shards=shards)


BACKENDS: dict[str, Callable[[pytest.FixtureRequest, Path], Open]] = {
    "datastore": _fixture("open_datastore"),
    "datastore-live": _fixture("open_live_datastore"),
    "dynamodb": _dynamodb,
    "dynamodb-live": lambda request, folder: live_table(),
    "dynamodb-one-shard": partial(_dynamodb, shards=1),
    "memory": _memory,
    "sqlite": _sqlite,
}
NAMES = [pytest.param(name, marks=[pytest.mark.live] * name.endswith("-live")) for name in sorted(BACKENDS)]
NOTICING = ("memory", "sqlite")
"""Those that learn of a change without asking; to the others `wait` is a sleep, as the protocol allows."""
PARTITION = Partition(f"{LARGE}20260101-abc")
OTHER = Partition("pool/20260101-abd")
PENDING, CLAIMED = Tally("pending"), Tally("claimed")
MARKS = map("mark{}".format, counter())  # not a generator, which no two threads may ask at once


@pytest.fixture(params=NAMES)
def open_client(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    return BACKENDS[request.param](request, tmp_path)


@pytest.fixture
def table(open_client: Open) -> RecordTable:
    return open_client()


@pytest.fixture(params=NOTICING)
def open_noticing(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    return BACKENDS[request.param](request, tmp_path)


def row(name: str, **columns: object) -> Row:
    key = Key(Partition(str(columns.pop("partition", PARTITION))), name)
    given = Row(key, 1, next(MARKS), PENDING, 10.0, "{}")
    return given._replace(**columns)  # type: ignore[arg-type]


def change(of: Row, **columns: object) -> Change:
    return Change(of.key, of.version, next(MARKS), of.tally, of.claimable_at, of.body)._replace(**columns)  # type: ignore[arg-type]


def made(change: Change) -> Row:
    """The row that a change makes."""
    return Row(change.key, change.version + 1, *change[2:])


def only(page: Sequence[Row | None]) -> Row:
    (standing,) = page
    assert standing is not None
    return standing


def pages(read: Callable[[Cursor | None], Page]) -> Iterator[Page]:
    """All pages to the last one; fails rather than going round in circles."""
    after: Cursor | None = None
    for _ in range(10_000):
        page = read(after)
        yield page
        after = page.after
        if after is None:
            return
    raise AssertionError("no page was the last")


# insert


def test_every_kind_of_request_is_counted(table: RecordTable) -> None:
    before = sum(table.requests.values())
    given = row("a")
    table.insert([given])
    table.swap([change(given)])
    table.get([given.key])
    table.due(PARTITION, 20.0, None, 5)
    table.list(PARTITION, None, 5)
    table.count(PARTITION, True)
    table.delete([given.key])
    assert sum(table.requests.values()) >= before + 7


def test_an_inserted_row_is_read_back_as_it_was_given(table: RecordTable) -> None:
    given = row("a", body='{"x":1}', claimable_at=1234567890.123456)
    assert list(table.insert([given])) == [None]
    assert list(table.get([given.key])) == [given]


def test_a_second_insert_of_a_name_gets_the_row_that_stands_and_changes_nothing(table: RecordTable) -> None:
    first, second = row("a", body="1"), row("a", body="2")
    table.insert([first])
    assert list(table.insert([second])) == [first]
    assert list(table.get([first.key])) == [first]


def test_an_insert_whose_answer_was_lost_is_done_when_repeated(table: RecordTable) -> None:
    rows = [row(f"{index:03d}") for index in range(100)]
    table.insert(rows)
    assert list(table.insert(rows)) == [None] * 100
    assert table.count(PARTITION, True) == {PENDING: 100}


def test_a_repeated_insert_does_not_undo_a_change_made_since(table: RecordTable) -> None:
    given = row("a")
    table.insert([given])
    claimed = change(given, tally=CLAIMED, claimable_at=99.0)
    table.swap([claimed])
    assert list(table.insert([given])) == [made(claimed)]
    assert only(table.get([given.key])).tally == CLAIMED


def test_a_batch_with_some_existing_rows_makes_the_others_and_says_which(table: RecordTable) -> None:
    old = [row(f"{index:03d}", body="old") for index in range(0, 100, 3)]
    table.insert(old)
    new = [row(f"{index:03d}", body="new") for index in range(100)]
    answers = table.insert(new)
    standing = {each.key: each for each in old}
    assert list(answers) == [standing.get(each.key) for each in new]
    assert [only([each]).body for each in table.get([each.key for each in new])] == [
        "old" if index % 3 == 0 else "new" for index in range(100)
    ]


def test_of_two_rows_of_one_name_in_a_batch_one_is_made(table: RecordTable) -> None:
    pair = [row("a", body="1"), row("a", body="2")]
    answers = table.insert(pair)
    standing = only(table.get([pair[0].key]))
    assert sorted(answers, key=lambda answer: answer is not None) == [None, standing]
    assert standing == pair[answers.index(None)]


def test_a_full_batch_goes_in_by_one_call(table: RecordTable) -> None:
    rows = [row(f"{index:06d}") for index in range(table.batch)]
    assert list(table.insert(rows)) == [None] * table.batch
    assert table.count(PARTITION, True) == {PENDING: table.batch}


def test_a_batch_may_span_partitions(table: RecordTable) -> None:
    here, there = row("a"), row("a", partition=OTHER)
    assert list(table.insert([here, there])) == [None, None]
    assert list(table.get([there.key, here.key])) == [there, here]
    assert table.count(OTHER, True) == {PENDING: 1}


def test_sixteen_threads_creating_the_same_names_have_one_winner_each(table: RecordTable) -> None:
    keys = [f"{index:02d}" for index in range(50)]

    def create(worker: int) -> list[bool]:
        return [table.insert([row(key, body=str(worker))])[0] is None for key in keys]

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(create, range(16)))
    assert [sum(column) for column in zip(*won, strict=True)] == [1] * 50
    winners = [only(table.get([Key(PARTITION, key)])).body for key in keys]
    assert all(won[int(winner)][index] for index, winner in enumerate(winners))


# get and delete


def test_what_does_not_exist_is_none_in_its_place(table: RecordTable) -> None:
    given = row("b")
    table.insert([given])
    keys = [Key(PARTITION, "a"), given.key, Key(Partition("nothing"), "b"), given.key]
    assert list(table.get(keys)) == [None, given, None, given]


def test_a_deleted_row_is_gone_from_everywhere_and_its_name_is_free(table: RecordTable) -> None:
    first = row("a")
    table.insert([first])
    table.delete([first.key])
    assert list(table.get([first.key])) == [None]
    assert table.count(PARTITION, True) == {}
    assert not table.due(PARTITION, 1e9, None, 10).rows
    assert not table.list(PARTITION, None, 10).rows
    again = row("a")
    assert list(table.insert([again])) == [None]
    assert list(table.get([again.key])) == [again]


def test_deleting_what_is_absent_is_no_error_and_spares_the_rest(table: RecordTable) -> None:
    kept, gone = row("kept"), row("gone")
    table.insert([kept, gone])
    table.delete([Key(PARTITION, "never"), gone.key, gone.key, Key(Partition("nothing"), "a")])
    assert list(table.list(PARTITION, None, 10).rows) == [kept]


def test_empty_batches_are_answered_with_nothing(table: RecordTable) -> None:
    assert [*table.insert([]), *table.get([]), *table.swap([])] == []
    table.delete([])


# swap


def test_a_swap_at_the_standing_version_wins_and_answers_the_new_row(table: RecordTable) -> None:
    given = row("a")
    table.insert([given])
    wanted = change(given, tally=CLAIMED, claimable_at=None, body='{"by":"x"}')
    assert list(table.swap([wanted])) == [Swapped(made(wanted))]
    assert list(table.get([given.key])) == [made(wanted)]


def test_a_swap_at_an_old_version_loses_and_gets_the_row_that_stands(table: RecordTable) -> None:
    given = row("a")
    table.insert([given])
    winner, loser = change(given, body="winner"), change(given, body="loser")
    table.swap([winner])
    assert list(table.swap([loser])) == [Standing(made(winner))]
    assert list(table.get([given.key])) == [made(winner)]


def test_a_swap_ahead_of_the_standing_version_loses(table: RecordTable) -> None:
    given = row("a")
    table.insert([given])
    assert list(table.swap([change(given, version=2)])) == [Standing(given)]


def test_a_swap_of_an_absent_row_gets_nothing_and_makes_nothing(table: RecordTable) -> None:
    absent = row("a")
    assert list(table.swap([change(absent)])) == [Standing(None)]
    table.insert([row("b")])
    assert list(table.swap([change(absent)])) == [Standing(None)]
    assert list(table.get([absent.key])) == [None]


def test_a_swap_whose_answer_was_lost_is_swapped_again_while_it_stands(table: RecordTable) -> None:
    given = row("a")
    table.insert([given])
    sent = change(given, body="sent")
    assert table.swap([sent]) == table.swap([sent]) == [Swapped(made(sent))]
    assert only(table.get([given.key])).version == 2


def test_a_repeated_swap_that_stands_no_more_gets_its_successor(table: RecordTable) -> None:
    given = row("a")
    table.insert([given])
    sent = change(given, body="sent")
    table.swap([sent])
    later = change(made(sent), body="later")
    table.swap([later])
    assert list(table.swap([sent])) == [Standing(made(later))]


def test_each_change_of_a_batch_wins_or_loses_by_itself(table: RecordTable) -> None:
    rows = [row(f"{index:02d}") for index in range(20)]
    table.insert(rows)
    taken = [change(each, body="taken") for each in rows[::2]]
    table.swap(taken)
    answers = table.swap([change(each, body="mine") for each in rows])
    assert [type(answer) for answer in answers] == [Standing, Swapped] * 10
    assert [only([answer.row]).body for answer in answers] == ["taken", "mine"] * 10


def test_of_two_changes_of_one_version_in_a_batch_one_wins(table: RecordTable) -> None:
    given = row("a")
    table.insert([given])
    pair = [change(given, body="1"), change(given, body="2")]
    answers = table.swap(pair)
    assert sorted(type(answer).__name__ for answer in answers) == ["Standing", "Swapped"]
    standing = only(table.get([given.key]))
    assert standing.version == 2
    assert [answer.row for answer in answers] == [standing, standing]


def test_eight_threads_counting_by_swap_lose_no_count(table: RecordTable) -> None:
    first = row("counter", body="0")
    table.insert([first])

    def count_up(_: int) -> None:
        for _ in range(10):
            standing = only(table.get([first.key]))
            while True:
                answer = table.swap([change(standing, body=str(int(standing.body) + 1))])[0]
                if isinstance(answer, Swapped):
                    break
                standing = only([answer.row])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_up, range(8)))
    last = only(table.get([first.key]))
    assert (last.body, last.version) == ("80", 81)


# due


def test_due_rows_come_by_time_then_name_and_none_after_the_limit_of_time(table: RecordTable) -> None:
    times = {"a": 30.0, "b": 10.0, "c": 20.0, "d": 10.0, "e": 40.0, "f": None, "g": 10.0}
    table.insert([row(name, claimable_at=at) for name, at in times.items()])
    page = table.due(PARTITION, 30.0, None, 10)
    assert [each.key.name for each in page.rows] == ["b", "d", "g", "c", "a"]
    assert page.after is None


def test_due_pages_are_cut_between_rows_of_the_same_time(table: RecordTable) -> None:
    table.insert([row(f"{index:02d}", claimable_at=float(index // 10)) for index in range(35)])
    names = [each.key.name for page in pages(lambda after: table.due(PARTITION, 2.0, after, 4)) for each in page.rows]
    assert names == [f"{index:02d}" for index in range(30)]


def test_due_pages_hold_no_more_than_was_asked_for(table: RecordTable) -> None:
    table.insert([row(f"{index:02d}") for index in range(10)])
    assert [len(page.rows) for page in pages(lambda after: table.due(PARTITION, 10.0, after, 3))][:3] == [3, 3, 3]


def test_paging_through_due_rows_that_are_taken_meanwhile_meets_each_row_at_most_once(table: RecordTable) -> None:
    table.insert([row(f"{index:03d}", claimable_at=float(index % 7)) for index in range(100)])
    met: list[str] = []
    for page in pages(lambda after: table.due(PARTITION, 50.0, after, 9)):
        met += [each.key.name for each in page.rows]
        table.swap([change(each, claimable_at=1000.0) for each in page.rows[::2]])
        table.swap([change(each, claimable_at=None) for each in page.rows[1::4]])
    assert sorted(met) == [f"{index:03d}" for index in range(100)]
    assert len(set(met)) == 100


def test_a_swapped_row_is_due_at_its_new_time_only(table: RecordTable) -> None:
    given = row("a", claimable_at=5.0)
    table.insert([given])
    table.swap([change(given, claimable_at=50.0)])
    assert not table.due(PARTITION, 49.0, None, 10).rows
    assert [each.key.name for each in table.due(PARTITION, 50.0, None, 10).rows] == ["a"]


def test_without_a_limit_of_time_all_rows_that_have_one_are_due(table: RecordTable) -> None:
    table.insert([row("a", claimable_at=1e12), row("b", claimable_at=0.0), row("c", claimable_at=None)])
    first = table.due(PARTITION, float("inf"), None, 1)
    assert [each.key.name for each in first.rows] == ["b"]
    assert [each.key.name for each in table.due(PARTITION, float("inf"), first.after, 1).rows] == ["a"]


def test_due_of_one_partition_shows_no_row_of_another(table: RecordTable) -> None:
    table.insert([row("a"), row("b", partition=OTHER)])
    assert [each.key.name for each in table.due(PARTITION, 50.0, None, 10).rows] == ["a"]
    assert table.due(Partition("nothing"), 50.0, None, 10) == Page([], None)


# list


def test_rows_are_listed_in_byte_order_of_their_names(table: RecordTable) -> None:
    names = ["a", "B", "b", "a/1", "a-1", "é", "z", "\U0001f600", "￿", "10", "9", "a\x00b", "a b", "%", "_", "'"]
    table.insert([row(name) for name in names])
    listed = [each.key.name for each in table.list(PARTITION, None, 100).rows]
    assert listed == sorted(names, key=str.encode)


def test_a_listing_of_2500_rows_pages_without_loss_or_doubling(table: RecordTable) -> None:
    table.insert([row(f"{index:06d}") for index in range(2500)])
    table.insert([row("x", partition=OTHER)])
    found = list(pages(lambda after: table.list(PARTITION, after, 1000)))
    assert [each.key.name for page in found for each in page.rows] == [f"{index:06d}" for index in range(2500)]
    assert max(len(page.rows) for page in found) <= 1000


def test_a_listing_shows_what_was_written_by_another_client_just_before(open_client: Open) -> None:
    writer, reader = open_client(), open_client()
    reader.list(PARTITION, None, 10)
    for index in range(20):
        given = row(f"{index:02d}")
        writer.insert([given])
        assert reader.list(PARTITION, None, 100).rows[-1] == given
        assert reader.count(PARTITION, True) == {PENDING: index + 1}
        assert list(reader.get([given.key])) == [given]


def test_rows_made_and_deleted_between_pages_do_not_disturb_the_others(table: RecordTable) -> None:
    table.insert([row(f"{index:03d}") for index in range(0, 100, 2)])
    met: list[str] = []
    for page in pages(lambda after: table.list(PARTITION, after, 10)):
        met += [each.key.name for each in page.rows]
        table.delete([page.rows[0].key])
        table.insert([row(f"{int(page.rows[-1].key.name) - 1:03d}")])
    assert met == [f"{index:03d}" for index in range(0, 100, 2)]


# count


def test_rows_are_counted_by_tally_and_those_without_are_not(table: RecordTable) -> None:
    assert table.count(PARTITION, True) == {}
    table.insert([row("a"), row("b"), row("c", tally=CLAIMED), row("d", tally=None), row("e", partition=OTHER)])
    assert table.count(PARTITION, True) == {PENDING: 2, CLAIMED: 1}
    assert table.count(PARTITION, False).keys() <= {PENDING, CLAIMED}


def test_a_row_that_leaves_a_tally_is_no_longer_counted_in_it(table: RecordTable) -> None:
    rows = [row("a"), row("b")]
    table.insert(rows)
    first = change(rows[0], tally=CLAIMED)
    table.swap([first])
    assert table.count(PARTITION, True) == {PENDING: 1, CLAIMED: 1}
    table.swap([change(made(first), tally=None)])
    assert table.count(PARTITION, True) == {PENDING: 1}
    table.delete([rows[1].key])
    assert table.count(PARTITION, True) == {}


# contents


@pytest.mark.parametrize(
    "text",
    ["", "naïve ünïcode", "日本語", "\U0001f469‍\U0001f4bb", "a\x00b", "\r\n\t", "'; DROP TABLE rows; --", "\x7f￿"],
)
def test_any_unicode_survives_in_body_name_tally_and_partition(table: RecordTable, text: str) -> None:
    given = row(f"n{text}", partition=f"p{text}", tally=f"t{text}", body=text, change_id=f"c{text}")
    table.insert([given])
    assert list(table.get([given.key])) == [given]
    assert table.count(given.key.partition, True) == {given.tally: 1}
    assert list(table.list(given.key.partition, None, 10).rows) == [given]
    assert list(table.due(given.key.partition, 1e9, None, 10).rows) == [given]
    swapped = table.swap([change(given, body=text * 2)])[0]
    assert isinstance(swapped, Swapped)
    assert only(table.get([given.key])).body == text * 2


def test_names_that_differ_only_in_case_accent_or_trailing_space_are_different_rows(table: RecordTable) -> None:
    names = ["a", "A", "a ", "á", "á", "a\x00"]
    table.insert([row(name, body=name) for name in names])
    assert [only(table.get([Key(PARTITION, name)])).body for name in names] == names


def test_a_body_of_300_kilobytes_is_kept_whole(table: RecordTable) -> None:
    given = row("big", body="é" * 150_000)
    table.insert([given])
    assert list(table.get([given.key])) == [given]


def test_text_that_is_not_unicode_is_refused_and_nothing_of_the_batch_is_stored(table: RecordTable) -> None:
    with pytest.raises(UnicodeEncodeError):
        table.insert([row("a"), row("b", body="\ud800")])
    assert not table.list(PARTITION, None, 10).rows
    given = row("c")
    table.insert([given])
    with pytest.raises(UnicodeEncodeError):
        table.swap([change(given, body="\udcff")])
    assert list(table.get([given.key])) == [given]


# wait and clock

LONG_S = 30.0
"""Far beyond the time that anything here takes: a wait that lasts so long was not woken."""


def waited(table: RecordTable, seconds: float) -> float:
    start = time.monotonic()
    table.wait(seconds)
    return time.monotonic() - start


def test_a_wait_without_a_change_lasts_as_long_as_was_asked(table: RecordTable) -> None:
    table.insert([row("a")])
    table.list(PARTITION, None, 10)
    assert waited(table, 0.1) >= 0.1
    assert waited(table, 0.0) < LONG_S


def test_a_wait_ends_when_another_client_changes_something(open_noticing: Open) -> None:
    waiter, writer = open_noticing(), open_noticing()
    waiter.list(PARTITION, None, 10)
    asleep = threading.Event()

    def write() -> None:
        asleep.wait()
        writer.insert([row("a")])

    thread = threading.Thread(target=write)
    thread.start()
    asleep.set()
    assert waited(waiter, LONG_S) < LONG_S
    thread.join()
    assert len(waiter.list(PARTITION, None, 10).rows) == 1


def test_a_wait_ends_when_another_thread_changes_something_by_the_same_client(open_noticing: Open) -> None:
    table = open_noticing()
    table.list(PARTITION, None, 10)
    thread = threading.Thread(target=lambda: table.insert([row("a")]))
    thread.start()
    assert waited(table, LONG_S) < LONG_S
    thread.join()


def test_a_change_between_a_read_and_the_wait_is_not_missed(open_noticing: Open) -> None:
    waiter, writer = open_noticing(), open_noticing()
    for index in range(5):
        waiter.list(PARTITION, None, 10)
        thread = threading.Thread(target=lambda name: writer.insert([row(name)]), args=(f"{index}",))
        thread.start()
        thread.join()
        assert waited(waiter, LONG_S) < LONG_S
        assert waited(waiter, 0.02) >= 0.02


def test_ones_own_change_does_not_end_ones_own_wait(table: RecordTable) -> None:
    table.list(PARTITION, None, 10)
    table.insert([row("a")])
    assert waited(table, 0.05) >= 0.05


def test_the_clock_offset_is_a_number_of_seconds(table: RecordTable) -> None:
    assert abs(table.clock_offset()) < 60.0


def test_the_batch_is_at_least_one_row(table: RecordTable) -> None:
    assert table.batch >= 1
