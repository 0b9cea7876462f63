"""The Datastore that tests use, held to what Google documents of its own, through Google's client library."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api_core import exceptions as api
from google.cloud import datastore
from google.cloud.datastore.query import PropertyFilter
from google.cloud.datastore_v1.types import datastore as requests
from google.cloud.datastore_v1.types import query as queries

from tests.stand_ins.datastore_commits import Transactions
from tests.stand_ins.datastore_emulator import DatastoreEmulator
from tests.stand_ins.datastore_storage import KEPT_VERSIONS, Storage
from tests.stand_ins.datastore_values import Entity, Refused, size_of

FAIL = requests.Mutation.ConflictResolutionStrategy.FAIL
MODE = requests.CommitRequest.Mode
PROJECT = "project"


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[DatastoreEmulator]:
    emulator = DatastoreEmulator()
    emulator.start()
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    yield emulator
    emulator.stop()


@pytest.fixture
def client(emulator: DatastoreEmulator) -> datastore.Client:
    return datastore.Client(project=PROJECT)


def entity(client: datastore.Client, name: str, *, unindexed: Sequence[str] = (), **values: Any) -> datastore.Entity:
    made = datastore.Entity(client.key("task", name), exclude_from_indexes=tuple(unindexed))
    made.update(values)
    return made


def message(name: str, **values: int) -> Any:
    """An entity as it goes over the wire."""
    made = Entity()
    made.key.partition_id.project_id = PROJECT
    made.key.path.add(kind="task", name=name)
    for property_name, value in values.items():
        made.properties[property_name].integer_value = value
    return made


def commit(client: datastore.Client, *mutations: Any, mode: Any = MODE.NON_TRANSACTIONAL) -> Any:
    request = requests.CommitRequest(project_id=PROJECT, mode=mode, mutations=mutations)
    if mode == MODE.TRANSACTIONAL:
        request.single_use_transaction = requests.TransactionOptions(read_write={})
    return client._datastore_api.commit(request=request, retry=None)


def update(name: str, base_version: int, strategy: Any = 0, **values: int) -> Any:
    return requests.Mutation(
        update=message(name, **values), base_version=base_version, conflict_resolution_strategy=strategy
    )


def version_of(client: datastore.Client, name: str) -> int:
    request = requests.LookupRequest(project_id=PROJECT, keys=[message(name).key])
    return int(client._datastore_api.lookup(request=request, retry=None).found[0].version)


def value_of(client: datastore.Client, name: str) -> Any:
    found = client.get(client.key("task", name))
    return None if found is None else found["n"]


def names(results: Iterator[Any]) -> list[str]:
    return [each.key.name for each in results]


# storing


def test_what_is_put_is_got_back_with_its_types(client: datastore.Client) -> None:
    given = entity(client, "a", n=1, text="é\0", flag=True, part=0.5, nothing=None, blob=b"\xff", unindexed=["text"])
    client.put(given)
    assert client.get(given.key) == given
    assert client.get(given.key).exclude_from_indexes == {"text"}


def test_what_is_missing_is_none_and_what_is_deleted_is_missing(client: datastore.Client) -> None:
    given = entity(client, "a", n=1)
    assert client.get(given.key) is None
    client.put(given)
    client.delete(given.key)
    assert client.get(given.key) is None


def test_namespaces_and_databases_do_not_see_each_other(client: datastore.Client) -> None:
    client.put(entity(client, "a", n=1))
    for other in (datastore.Client(project=PROJECT, namespace="x"), datastore.Client(project=PROJECT, database="y")):
        assert other.get(other.key("task", "a")) is None
        assert list(other.query(kind="task").fetch()) == []


def test_a_key_without_a_name_gets_a_number_of_its_own(client: datastore.Client) -> None:
    made = [datastore.Entity(client.key("task")) for _ in range(20)]
    client.put_multi(made)
    assert len({each.key.id for each in made}) == 20
    allocated = client.allocate_ids(client.key("task"), 3)
    assert not {each.id for each in made} & {each.id for each in allocated}
    client.reserve_ids_multi(allocated)


def test_a_size_is_what_googles_page_about_sizes_says() -> None:
    """Its own example: 139 bytes."""
    example = Entity()
    example.key.path.add(kind="Task", id=5730082031140864)
    example.properties["type"].string_value = "Personal"
    example.properties["done"].boolean_value = False
    example.properties["priority"].integer_value = 1
    example.properties["description"].string_value = "Learn Google Cloud Datastore"
    assert size_of(example) == 139


@pytest.mark.parametrize(
    ("values", "unindexed", "words"),
    [
        ({"text": "x" * 1501}, [], "longer than 1500 bytes"),
        ({"text": "x" * 1_048_488}, ["text"], "longer than 1048487 bytes"),
        ({"one": "x" * 600_000, "two": "x" * 600_000}, ["one", "two"], "too big"),
        ({"__x__": 1}, [], "reserved"),
    ],
)
def test_what_is_too_big_is_refused(
    client: datastore.Client, values: dict[str, Any], unindexed: list[str], words: str
) -> None:
    with pytest.raises(api.InvalidArgument, match=words):
        client.put(entity(client, "a", unindexed=unindexed, **values))
    assert client.get(client.key("task", "a")) is None


def test_the_largest_value_is_stored(client: datastore.Client) -> None:
    client.put(entity(client, "a", text="x" * 1_048_000, unindexed=["text"]))
    assert len(client.get(client.key("task", "a"))["text"]) == 1_048_000


@pytest.mark.parametrize(
    ("name", "words"), [("x" * 1501, "longer than 1500"), ("__x__", "reserved"), ("", "empty|incomplete")]
)
def test_names_that_cannot_be_keys_are_refused(client: datastore.Client, name: str, words: str) -> None:
    upsert = requests.Mutation(upsert=message(name))
    with pytest.raises(api.InvalidArgument, match=words):
        commit(client, upsert)


def test_limits_of_one_request_hold(client: datastore.Client) -> None:
    with pytest.raises(api.InvalidArgument, match="more than 500"):
        commit(client, *(requests.Mutation(upsert=message(str(n))) for n in range(501)))
    with pytest.raises(api.InvalidArgument, match="more than 1000"):
        keys = [message(str(n)).key for n in range(1001)]
        client._datastore_api.lookup(request=requests.LookupRequest(project_id=PROJECT, keys=keys), retry=None)
    with pytest.raises(api.InvalidArgument, match="payload size"):
        client.put_multi([entity(client, str(n), text="x" * 1_000_000, unindexed=["text"]) for n in range(11)])


def test_a_lookup_defers_what_its_answer_has_no_room_for(emulator: DatastoreEmulator, client: datastore.Client) -> None:
    made = [entity(client, f"{n:02d}", n=n) for n in range(20)]
    client.put_multi(made)
    emulator.reads.lookup_bytes = 200
    assert sorted(each["n"] for each in client.get_multi([each.key for each in made])) == list(range(20))
    assert emulator.counts["Lookup"] > 1


# commits without a transaction


def test_inserts_create_only_and_updates_need_something_to_update(client: datastore.Client) -> None:
    commit(client, requests.Mutation(insert=message("a", n=1)))
    with pytest.raises(api.AlreadyExists):
        commit(client, requests.Mutation(insert=message("a", n=2)))
    with pytest.raises(api.NotFound):
        commit(client, requests.Mutation(update=message("b", n=2)))
    assert (value_of(client, "a"), value_of(client, "b")) == (1, None)


def test_a_conflict_is_marked_and_spares_the_others(client: datastore.Client) -> None:
    commit(client, *(requests.Mutation(insert=message(name, n=1)) for name in "ab"))
    versions = [version_of(client, name) for name in "ab"]
    commit(client, update("a", versions[0], n=2))
    results = commit(client, update("a", versions[0], n=3), update("b", versions[1], n=3)).mutation_results
    assert [each.conflict_detected for each in results] == [True, False]
    assert [value_of(client, name) for name in "ab"] == [2, 3]


def test_a_conflict_that_is_to_fail_fails_the_commit(client: datastore.Client) -> None:
    commit(client, requests.Mutation(insert=message("a", n=1)))
    stale = version_of(client, "a")
    commit(client, update("a", stale, n=2))
    with pytest.raises(api.FailedPrecondition, match="does not match the required base version"):
        commit(client, update("a", stale, FAIL, n=3))
    assert value_of(client, "a") == 2


def test_a_failed_commit_may_leave_some_of_its_mutations_applied_and_some_not(client: datastore.Client) -> None:
    commit(client, requests.Mutation(insert=message("50", n=0)))
    with pytest.raises(api.AlreadyExists):
        commit(client, *(requests.Mutation(insert=message(f"{n:02d}", n=1)) for n in range(100)))
    applied = [name for name in (f"{n:02d}" for n in range(100)) if value_of(client, name) == 1]
    assert 0 < len(applied) < 99
    assert applied != [f"{n:02d}" for n in range(len(applied))]


def test_one_entity_cannot_be_changed_twice_in_one_commit(client: datastore.Client) -> None:
    twice = [requests.Mutation(upsert=message("a", n=n)) for n in range(2)]
    with pytest.raises(api.InvalidArgument, match="multiple mutations"):
        commit(client, *twice)
    commit(client, *twice, mode=MODE.TRANSACTIONAL)
    assert value_of(client, "a") == 1


def test_sixteen_threads_inserting_one_name_have_one_winner(client: datastore.Client) -> None:
    def insert(number: int) -> bool:
        try:
            commit(client, requests.Mutation(insert=message("a", n=number)))
        except api.AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(insert, range(16)))
    assert won.count(True) == 1
    assert value_of(client, "a") == won.index(True)


@pytest.mark.parametrize("strategy", [0, FAIL])
def test_eight_threads_counting_by_base_versions_lose_no_count(client: datastore.Client, strategy: Any) -> None:
    commit(client, requests.Mutation(insert=message("a", n=0)))

    def count_up(_: int) -> None:
        for _ in range(10):
            while True:
                version, value = version_of(client, "a"), value_of(client, "a")
                try:
                    answer = commit(client, update("a", version, strategy, n=value + 1))
                except api.FailedPrecondition:
                    continue
                if not answer.mutation_results[0].conflict_detected:
                    break

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_up, range(8)))
    assert value_of(client, "a") == 80


# transactions


def test_of_two_transactions_that_read_the_same_the_second_to_commit_is_aborted(client: datastore.Client) -> None:
    client.put(entity(client, "a", n=0))
    first, second = client.transaction(), client.transaction()
    for transaction in (first, second):
        transaction.begin()
        read = client.get(client.key("task", "a"), transaction=transaction)
        read["n"] += 1
        transaction.put(read)
    first.commit()
    with pytest.raises(api.Aborted):
        second.commit()
    assert value_of(client, "a") == 1


def test_write_skew_is_prevented(client: datastore.Client) -> None:
    client.put_multi([entity(client, name, n=1) for name in "ab"])
    first, second = client.transaction(), client.transaction()
    for transaction, mine, other in ((first, "a", "b"), (second, "b", "a")):
        transaction.begin()
        client.get(client.key("task", other), transaction=transaction)
        transaction.put(entity(client, mine, n=0))
    first.commit()
    with pytest.raises(api.Aborted):
        second.commit()


@pytest.mark.parametrize("limit", [None, 2])
def test_an_entity_that_appears_in_what_a_transaction_has_queried_aborts_it(
    client: datastore.Client, limit: int | None
) -> None:
    client.put(entity(client, "b", n=1))
    with pytest.raises(api.Aborted), client.transaction():
        assert names(client.query(kind="task").fetch(limit=limit)) == ["b"]
        outside = datastore.Client(project=PROJECT)
        outside.put(entity(outside, "c", n=1))
        client.put(entity(client, "z", n=1))
    assert client.get(client.key("task", "z")) is None


def test_a_count_that_has_changed_aborts_its_transaction(client: datastore.Client) -> None:
    with pytest.raises(api.Aborted), client.transaction():
        list(client.aggregation_query(client.query(kind="task")).count().fetch())
        outside = datastore.Client(project=PROJECT)
        outside.put(entity(outside, "c", n=1))
        client.put(entity(client, "z", n=1))


def test_a_transaction_reads_one_snapshot_and_not_its_own_writes(client: datastore.Client) -> None:
    client.put_multi([entity(client, "a", n=1), entity(client, "b", n=1)])
    outside = datastore.Client(project=PROJECT)
    with client.transaction(read_only=True):
        assert value_of(client, "a") == 1
        outside.put(entity(outside, "b", n=2))
        outside.put(entity(outside, "c", n=2))
        outside.delete(outside.key("task", "a"))
        assert names(client.query(kind="task").fetch()) == ["a", "b"]
        assert [each["n"] for each in client.query(kind="task", order=["-n"]).fetch()] == [1, 1]
        assert value_of(client, "b") == 1
    assert names(client.query(kind="task").fetch()) == ["b", "c"]


def test_a_transactions_mutations_are_all_applied_or_none(client: datastore.Client) -> None:
    commit(client, requests.Mutation(insert=message("c", n=0)))
    inserts = [requests.Mutation(insert=message(name, n=1)) for name in "abc"]
    with pytest.raises(api.AlreadyExists):
        commit(client, *inserts, mode=MODE.TRANSACTIONAL)
    assert [value_of(client, name) for name in "abc"] == [None, None, 0]


def test_mutations_that_contradict_each_other_are_refused(client: datastore.Client) -> None:
    commit(client, requests.Mutation(insert=message("a", n=0)))
    pairs = [
        [requests.Mutation(insert=message("b")), requests.Mutation(insert=message("b"))],
        [requests.Mutation(delete=message("a").key), requests.Mutation(update=message("a"))],
    ]
    for pair in pairs:
        with pytest.raises(api.InvalidArgument, match="followed by"):
            commit(client, *pair, mode=MODE.TRANSACTIONAL)
    again = [requests.Mutation(delete=message("a").key), requests.Mutation(insert=message("a", n=5))]
    commit(client, *again, mode=MODE.TRANSACTIONAL)
    assert value_of(client, "a") == 5


def test_a_transaction_that_is_done_or_idle_or_old_is_refused(client: datastore.Client) -> None:
    transaction = client.transaction()
    transaction.begin()
    transaction.rollback()
    with pytest.raises(api.InvalidArgument, match="no longer valid"):
        request = requests.LookupRequest(project_id=PROJECT, keys=[message("a").key])
        request.read_options.transaction = transaction._id or b"gone"
        client._datastore_api.lookup(request=request, retry=None)
    times = iter([0.0, 61.0, 100.0, 150.0, 200.0, 250.0, 300.0, 350.0, 371.0])
    open_ones = Transactions(Storage(), now=lambda: next(times))
    options = requests.TransactionOptions.pb()()
    with pytest.raises(Refused, match="expired"):
        open_ones.find(open_ones.begin(options))
    name = open_ones.begin(options)
    for _ in range(5):
        open_ones.find(name)
    with pytest.raises(Refused, match="expired"):
        open_ones.find(name)


def test_a_read_only_transaction_changes_nothing(client: datastore.Client) -> None:
    begun = client._datastore_api.begin_transaction(
        request=requests.BeginTransactionRequest(
            project_id=PROJECT, transaction_options=requests.TransactionOptions(read_only={})
        )
    )
    with pytest.raises(api.InvalidArgument, match="read-only"):
        client._datastore_api.commit(
            request=requests.CommitRequest(
                project_id=PROJECT,
                mode=MODE.TRANSACTIONAL,
                transaction=begun.transaction,
                mutations=[requests.Mutation(upsert=message("a"))],
            ),
            retry=None,
        )


def test_eight_threads_counting_by_transactions_lose_no_count(client: datastore.Client) -> None:
    client.put(entity(client, "a", n=0))
    own = threading.local()

    def count_up(_: int) -> None:
        own.client = datastore.Client(project=PROJECT)
        done = 0
        while done < 10:
            try:
                with own.client.transaction():
                    read = own.client.get(own.client.key("task", "a"))
                    read["n"] += 1
                    own.client.put(read)
                done += 1
            except api.Aborted:
                continue

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_up, range(8)))
    assert value_of(client, "a") == 80


# queries


def test_a_range_is_walked_in_the_order_of_its_values_and_then_of_the_keys(client: datastore.Client) -> None:
    client.put_multi([entity(client, name, at=at) for name, at in (("d", 1), ("a", 2), ("c", 1), ("b", 3))])
    client.put(entity(client, "without"))
    query = client.query(kind="task", order=["at"])
    assert names(query.fetch()) == ["c", "d", "a", "b"]
    query.add_filter(filter=PropertyFilter("at", ">", 1))
    assert names(query.fetch()) == ["a", "b"]
    query.add_filter(filter=PropertyFilter("at", "<=", 2))
    assert names(query.fetch()) == ["a"]
    assert names(client.query(kind="task", order=["-at"]).fetch()) == ["b", "a", "d", "c"]


def test_values_of_other_types_are_not_in_a_range(client: datastore.Client) -> None:
    client.put_multi([entity(client, "number", at=5), entity(client, "text", at="5"), entity(client, "none", at=None)])
    query = client.query(kind="task")
    query.add_filter(filter=PropertyFilter("at", ">=", 0))
    assert names(query.fetch()) == ["number"]
    assert names(client.query(kind="task", order=["at"]).fetch()) == ["none", "number", "text"]


def test_keys_are_ranged_over_in_byte_order(client: datastore.Client) -> None:
    given = ["a", "B", "é", "￿", "\U0001f600", "a\0", "a.b", "-"]
    client.put_multi([entity(client, name) for name in given])
    query = client.query(kind="task", order=["__key__"])
    assert names(query.fetch()) == sorted(given, key=str.encode)
    query.add_filter(filter=PropertyFilter("__key__", ">", client.key("task", "a")))
    query.add_filter(filter=PropertyFilter("__key__", "<", client.key("task", "￿")))
    query.keys_only()
    assert names(query.fetch()) == ["a\0", "a.b", "é"]


def test_equal_values_are_found_together_and_unindexed_ones_not_at_all(client: datastore.Client) -> None:
    client.put_multi([entity(client, name, n=n, m=1) for name, n in (("a", 1), ("b", 2), ("c", 1))])
    client.put(entity(client, "d", n=1, m=1, unindexed=["n"]))
    query = client.query(kind="task")
    query.add_filter(filter=PropertyFilter("n", "=", 1))
    query.add_filter(filter=PropertyFilter("m", "=", 1))
    assert names(query.fetch()) == ["a", "c"]
    query.add_filter(filter=PropertyFilter("__key__", ">", client.key("task", "a")))
    assert names(query.fetch()) == ["c"]


def test_a_projection_gives_the_indexed_values_alone(emulator: DatastoreEmulator, client: datastore.Client) -> None:
    client.put_multi([entity(client, str(n), n=n, text="x") for n in range(5)])
    emulator.billed.clear()
    query = client.query(kind="task", projection=["n"], order=["n"])
    assert [dict(each) for each in query.fetch()] == [{"n": n} for n in range(5)]
    assert emulator.billed == {"reads": 1, "small": 5}


def test_long_answers_come_in_batches_that_lose_and_double_nothing(
    emulator: DatastoreEmulator, client: datastore.Client
) -> None:
    client.put_multi([entity(client, f"{n:03d}", n=n // 10) for n in range(100)])
    emulator.reads.batch = 7
    before = emulator.counts["RunQuery"]
    assert names(client.query(kind="task", order=["n"]).fetch()) == [f"{n:03d}" for n in range(100)]
    assert emulator.counts["RunQuery"] - before == 15
    assert len(list(client.query(kind="task", order=["-n"]).fetch(limit=30, offset=5))) == 30
    iterator = client.query(kind="task").fetch(limit=40)
    assert len(list(iterator)) == 40
    rest = client.query(kind="task").fetch(start_cursor=iterator.next_page_token)
    assert names(rest) == [f"{n:03d}" for n in range(40, 100)]


def test_counts_cost_one_read_a_thousand(emulator: DatastoreEmulator, client: datastore.Client) -> None:
    for start in range(0, 2000, 500):
        client.put_multi([entity(client, f"{start + n:04d}", n=n % 2) for n in range(500)])
    query = client.query(kind="task")
    query.add_filter(filter=PropertyFilter("n", "=", 1))
    emulator.billed.clear()
    counted = client.aggregation_query(query).count(alias="total")
    assert [each.value for result in counted.fetch() for each in result] == [1000]
    assert [each.value for result in counted.fetch(limit=10) for each in result] == [10]
    assert emulator.billed == {"reads": 2}


@pytest.mark.parametrize(
    "build",
    [
        lambda client: client.query(kind="task", order=["a", "b"]),
        lambda client: client.query(kind="task", projection=["a", "b"]),
        lambda client: client.query(kind="task", filters=[PropertyFilter("a", "=", 1)], order=["b"]),
        lambda client: client.query(
            kind="task", filters=[PropertyFilter("a", ">", 1), PropertyFilter("__key__", ">", client.key("task", "x"))]
        ),
    ],
)
def test_a_query_that_needs_an_index_nobody_has_made_is_refused(client: datastore.Client, build: Any) -> None:
    with pytest.raises(api.FailedPrecondition, match="no matching index"):
        list(build(client).fetch())


def test_what_the_stand_in_does_not_know_it_says(client: datastore.Client) -> None:
    unknown = [client.query(kind="task", distinct_on=["a"]), client.query(), client.query(kind="task")]
    unknown[2].add_filter(filter=PropertyFilter("a", "IN", [1, 2]))
    for query in unknown:
        with pytest.raises(api.MethodNotImplemented):
            list(query.fetch())
    with pytest.raises(api.MethodNotImplemented):
        client.put(entity(client, "a", many=[1, 2]))


def test_a_query_of_the_past_sees_the_past(client: datastore.Client) -> None:
    def ask(**options: Any) -> Any:
        query = queries.Query(kind=[queries.KindExpression(name="task")])
        request = requests.RunQueryRequest(project_id=PROJECT, query=query, read_options=options)
        return client._datastore_api.run_query(request=request, retry=None).batch

    client.put(entity(client, "a", n=1))
    then = ask()
    client.put_multi([entity(client, "a", n=2), entity(client, "b", n=2)])
    past = ask(read_time=then.read_time)
    assert [(each.entity.key.path[0].name, each.version) for each in past.entity_results] == [
        ("a", then.entity_results[0].version)
    ]
    assert len(ask().entity_results) == 2
    for _ in range(KEPT_VERSIONS + 1):
        client.put(entity(client, "a", n=3))
    with pytest.raises(api.InvalidArgument, match="too old"):
        ask(read_time=then.read_time)


# looking on, and faults


def test_requests_and_what_they_cost_are_counted(emulator: DatastoreEmulator, client: datastore.Client) -> None:
    made = [entity(client, name, n=1) for name in "abc"]
    with emulator.recorded() as seen:
        client.put_multi(made)
        client.get_multi([each.key for each in made])
        list(client.query(kind="task").fetch())
        with client.transaction():
            client.put(made[0])
        client.delete(made[0].key)
    assert emulator.counts == {"Commit": 3, "Lookup": 1, "RunQuery": 1, "BeginTransaction": 1}
    assert emulator.billed == {"writes": 4, "reads": 6, "deletes": 1}
    assert [kind for kind, _ in seen] == ["Commit", "Lookup", "RunQuery", "BeginTransaction", "Commit", "Commit"]
    assert len(seen[0][1].mutations) == 3


def test_an_error_comes_before_or_after_the_request_is_applied(
    emulator: DatastoreEmulator, client: datastore.Client
) -> None:
    emulator.fail("Commit", grpc.StatusCode.UNAVAILABLE, skip=1)
    client.put(entity(client, "a", n=1))
    with pytest.raises(api.ServiceUnavailable):
        client.put(entity(client, "b", n=1))
    emulator.fail("Commit", grpc.StatusCode.DEADLINE_EXCEEDED, applied=True, times=5, message="too late")
    with pytest.raises(api.DeadlineExceeded, match="too late"):
        client.put(entity(client, "c", n=1))
    emulator.mend()
    assert [value_of(client, name) for name in "abc"] == [1, None, 1]


def test_a_frozen_index_answers_of_the_past_and_others_do_not(
    emulator: DatastoreEmulator, client: datastore.Client
) -> None:
    client.put(entity(client, "a", n=1))
    with emulator.frozen("n"):
        client.put_multi([entity(client, "a", n=2), entity(client, "b", n=2)])
        assert [each["n"] for each in client.query(kind="task", order=["n"]).fetch()] == [1]
        assert names(client.query(kind="task").fetch()) == ["a", "b"]
        assert value_of(client, "a") == 2
    assert [each["n"] for each in client.query(kind="task", order=["n"]).fetch()] == [2, 2]


def test_it_runs_by_itself_and_says_where(emulator: DatastoreEmulator) -> None:
    command = [sys.executable, "-m", "tests.stand_ins.datastore_emulator"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        name, _, where = process.stdout.readline().strip().partition("=")
        assert name == "DATASTORE_EMULATOR_HOST"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(name, where)
            client = datastore.Client(project=PROJECT)
            client.put(entity(client, "a", n=1))
            assert value_of(client, "a") == 1
        process.kill()
