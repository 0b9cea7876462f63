"""Which objects a node behind a relay may read, write, list and delete; everything else is refused, there or not."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from kubeq.core import wire
from kubeq.core.digest import Digest
from kubeq.core.manifest import Remote
from kubeq.core.model import Ending, Exit, JobId, Pool, PoolId, TaskId
from kubeq.core.outfit import Outfit
from kubeq.core.overlay import Laid, Overlay
from kubeq.core.packages import Package
from kubeq.core.transitions import Report
from kubeq.core.wire import decode_spec
from kubeq.errors import AccessDenied, BackendError, IntegrityError, ObjectNotFound
from kubeq.queue.claims import Final, Grant
from kubeq.store.base import ObjectStore
from kubeq.store.blobs import Blobs
from kubeq.store.checkpoints import Checkpoints
from kubeq.store.logs import LogWriter
from kubeq.store.outputs import OutputFile, Outputs, ResultDocument, result_document
from kubeq.store.result_source import result_url
from tests.relays import POOL
from tests.unit.relay.conftest import House, Node


def put(store: ObjectStore, key: str, content: bytes = b"x") -> bool:
    return store.put(key, lambda: io.BytesIO(content), len(content), hashlib.sha256(content).hexdigest())


def read(store: ObjectStore, key: str) -> bytes:
    with store.get(key) as stream:
        return stream.read()


def blob(digest: Digest) -> str:
    return f"blobs/{digest.sha256[:2]}/{digest}"


def give_back(node: Node, grant: Grant) -> None:
    node.claims.finish([Final(grant=grant, ending=Ending.RELEASED, report=Report(ended_at=1.0))])


# -- inputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own_inputs", [False, True], ids=["of the job", "of the task"])
def test_a_node_reads_what_its_attempt_needs_and_only_while_it_holds_it(house: House, own_inputs: bool) -> None:
    job = house.submit(1, {"in/a": b"one", "b": b"two"}, own_inputs=own_inputs)
    node = house.node("n1")
    blobs = Blobs(node.store)
    with pytest.raises((AccessDenied, BackendError)):
        blobs.read(job.spec)
    (grant,) = node.claim()
    spec = decode_spec(blobs.read(job.spec))
    manifest = grant.task.inputs or spec.inputs
    assert manifest is not None
    entries = blobs.read_manifest(manifest).entries
    assert [blobs.read(entry.digest) for entry in entries] == [b"two", b"one"]
    give_back(node, grant)
    for digest in (job.spec, manifest, entries[0].digest):
        with pytest.raises(AccessDenied):
            blobs.read(digest)


def test_a_node_reads_no_blob_that_its_attempts_do_not_name_whether_it_exists_or_not(house: House) -> None:
    house.submit(1, {"a": b"mine"})
    other = house.submit(1, {"a": b"theirs", "b": b"mine"})
    node = house.node("n1")
    node.claim()
    there, absent = Digest.of(b"theirs"), Digest.of(b"nowhere")
    for digest in (other.spec, there, absent):
        with pytest.raises(AccessDenied, match="may not read"):
            node.store.stat([blob(digest)])
        with pytest.raises(AccessDenied, match="may not read"):
            read(node.store, blob(digest))
    assert node.store.stat([blob(Digest.of(b"mine"))]) == {blob(Digest.of(b"mine")): 4}


def test_an_input_that_is_gone_is_not_found_and_one_that_was_spoilt_is_noticed(house: House) -> None:
    house.submit(1, {"a": b"gone", "b": b"spoilt"})
    node = house.node("n1")
    node.claim()
    house.objects.delete([blob(Digest.of(b"gone")), blob(Digest.of(b"spoilt"))])
    put(house.objects, blob(Digest.of(b"spoilt")), b"SPOILT")
    with pytest.raises(ObjectNotFound):
        Blobs(node.store).read(Digest.of(b"gone"))
    with pytest.raises(IntegrityError):
        Blobs(node.store).read(Digest.of(b"spoilt"))


def test_a_relay_that_was_restarted_asks_for_patience_until_it_is_told_what_a_node_holds(house: House) -> None:
    job = house.submit(1)
    node = house.node("n1")
    (grant,) = node.claim()
    house.relay.stop()
    house.relay.start()
    with pytest.raises(BackendError) as early:
        Blobs(node.store).read(job.spec)
    assert early.value.transient
    with pytest.raises(AccessDenied):
        put(node.store, "results/job-1/2/1/x")
    assert put(node.store, "results/job-1/1/1/x"), "whose an attempt is, its own name says"
    node.claims.wait(0.01)
    node.claims.renew([grant], [None])
    assert Blobs(node.store).read(job.spec)


def test_a_node_reads_the_results_of_other_tasks_that_its_inputs_name_and_no_others(house: House) -> None:
    earlier = TaskId(JobId("earlier"), 7)
    for name in ("wanted", "other"):
        put(house.objects, f"results/earlier/7/2/{name}", name.encode())
    remote = Remote("in", result_url(earlier, 2, "wanted"), f"sha256:{Digest.of(b'wanted')}", 6)
    elsewhere = Remote("far", "http://127.0.0.1:1/x", "etag:x", 1)
    house.submit(1, remotes=[remote, elsewhere])
    node = house.node("n1")
    with pytest.raises((AccessDenied, BackendError)):
        read(node.store, "results/earlier/7/2/wanted")
    node.claim()
    assert read(node.store, "results/earlier/7/2/wanted") == b"wanted"
    for key in ("results/earlier/7/2/other", "results/earlier/7/1/wanted", "results/earlier/7/2.result.json"):
        with pytest.raises(AccessDenied, match="may not read"):
            read(node.store, key)
    with pytest.raises(AccessDenied, match="may not write"):
        put(node.store, "results/earlier/7/2/wanted")


def test_a_node_reads_what_its_pool_needs_before_it_holds_anything_and_nothing_of_other_pools(house: House) -> None:
    archive, file = house.blobs.put_bytes(b"the agent"), house.blobs.put_bytes(b"laid")
    overlay = house.blobs.put_bytes(Overlay.of([Laid("etc"), Laid("etc/file", 0o644, file)]).encode())
    outfit = house.blobs.put_bytes(wire.encode_outfit(Outfit(pre="true", overlay=overlay)))
    pool = Pool(id=POOL, provider="x", private=False, created_at=1.0, outfit=outfit)
    house.queue.number_nodes(pool, 1)
    house.queue.keep_archive(pool, archive)
    program = house.blobs.put_bytes(b"program")
    content = house.blobs.put_bytes(Overlay.of([Laid("kubeq-launch", 0o755, program)]).encode())
    house.queue.add_package(pool, Package(number=0, name="p", content=content, entry="kubeq-launch"), again=False)
    mine, other = house.node("n1"), house.node("n2", PoolId("other"))
    for digest in (archive, outfit, overlay, file, content, program):
        assert Blobs(mine.store).read(digest)
        with pytest.raises((AccessDenied, BackendError)):
            Blobs(other.store).read(digest)
    other.claim()
    with pytest.raises(AccessDenied):
        Blobs(other.store).read(outfit)


# -- results and logs -------------------------------------------------------------------------------------------------


def test_a_node_publishes_its_attempt_and_ships_its_log(house: House, tmp_path: Path) -> None:
    house.submit(1)
    node = house.node("n1")
    (grant,) = node.claim()
    writer = LogWriter(node.store, grant.task.id, 1)
    writer.append(b"said ")
    writer.append(b"more\n")
    stdout = tmp_path / "stdout"
    stdout.write_bytes(b"said more\n")
    file = OutputFile(path="a/b", open=lambda: io.BytesIO(b"made"), digest=Digest.of(b"made"))
    result = ResultDocument(
        task=grant.task.id,
        attempt=1,
        parameters={},
        command=["true"],
        state=Ending.SUCCEEDED,
        node=node.name,
        claimed_at=1.0,
        started_at=1.0,
        ended_at=2.0,
        files=[file.entry],
        stdout_size=10,
    )
    for _ in range(2):  # a second time, as after a lost answer
        Outputs(node.store).publish(grant.task.id, 1, [file], stdout, result_document(result))
    node.claims.finish([Final(grant=grant, ending=Ending.SUCCEEDED, report=Report(ended_at=1e9, exit=Exit(code=0)))])
    writer.delete()
    assert [stored.key for stored in house.objects.list("")] == sorted(
        [
            *(stored.key for stored in house.objects.list("blobs/")),
            "results/job-1/1/1.result.json",
            "results/job-1/1/1.stdout.txt",
            "results/job-1/1/1/a/b",
        ]
    )


def test_earlier_attempts_of_a_task_are_read_by_the_later_ones_only(house: House) -> None:
    house.submit(2)
    first, second = house.node("n1"), house.node("n2")
    (grant,) = first.claim()
    assert grant.task.id.index == 1
    put(first.store, "results/job-1/1/1/checkpoint", b"half")
    give_back(first, grant)
    (again,) = second.claim()
    assert (again.task.id.index, again.attempt) == (1, 2)
    put(second.store, "results/job-1/1/2/checkpoint", b"whole")
    assert read(second.store, "results/job-1/1/1/checkpoint") == b"half"
    with pytest.raises(AccessDenied):
        read(first.store, "results/job-1/1/2/checkpoint")
    with pytest.raises(AccessDenied):
        put(second.store, "results/job-1/1/1/more")
    with pytest.raises(AccessDenied):
        put(second.store, "logs/job-1/1/1/00000001")


def test_a_checkpoint_goes_to_the_later_attempts_of_its_task_and_to_nobody_else(house: House, tmp_path: Path) -> None:
    house.submit(2)
    first, second = house.node("n1"), house.node("n2")
    (grant,) = first.claim()
    archive = tmp_path / "archive"
    archive.write_bytes(b"half")
    task, other = grant.task.id, TaskId(grant.job.id, 2)
    kept = Checkpoints(first.store).save(task, 1, archive)
    for forbidden in (lambda: Checkpoints(second.store).of(task), lambda: read(second.store, kept.key)):
        with pytest.raises(AccessDenied):
            forbidden()
    give_back(first, grant)
    (again,) = second.claim()
    assert (again.task.id, again.attempt) == (task, 2)
    store = Checkpoints(second.store)
    assert store.of(task) == [kept]
    store.read(kept, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"half"
    newer = store.save(task, 2, archive)
    store.delete([kept])
    with pytest.raises(AccessDenied):
        read(first.store, newer.key)
    for place, number in ((other, 1), (task, 3)):
        with pytest.raises(AccessDenied):
            store.save(place, number, archive)
    assert [stored.key for stored in house.objects.list("checkpoints/")] == [newer.key]


def test_a_superseded_attempt_may_still_store_what_nobody_will_take_for_the_result(house: House) -> None:
    house.submit(1)
    node = house.node("n1")
    (grant,) = node.claim()
    house.queue.reset(grant.job, [1], force=True)
    assert put(node.store, "results/job-1/1/1/late")


FOREIGN = [
    "results/job-1/2/1/x",
    "results/job-1/1/2/x",
    "results/job-1/1/1",
    "results/job-1/1",
    "results/job-1/01/1/x",
    "results/job-2/1/1/x",
    "results/job-1/1/1.other",
    "results/job-1/1/1.result.json.x",
    "logs/job-1/2/1/00000001",
    "logs/job-1/1/1",
    "blobs/aa/x",
    blob(Digest.of(b"new")),
    "nodes/n2/x",
    "nodes/n1",
    "nodes/n",
    "drafts/x",
    "x",
    "tmpx",
]


@pytest.mark.parametrize("key", FOREIGN)
def test_a_node_writes_and_deletes_nothing_but_its_own(house: House, key: str) -> None:
    house.submit(2)
    node = house.node("n1")
    (grant,) = node.claim()
    assert (grant.task.id.index, grant.attempt) == (1, 1)
    with pytest.raises(AccessDenied, match="may not write"):
        put(node.store, key)
    with pytest.raises(AccessDenied, match="may not delete"):
        node.store.delete([key])
    with pytest.raises(AccessDenied, match="may not delete"):
        node.store.delete(["nodes/n1/fine", key])
    with pytest.raises(AccessDenied, match="may not read"):
        node.store.stat(["nodes/n1/fine", key])


def test_a_result_is_never_deleted_or_overwritten_through_the_relay(house: House) -> None:
    house.submit(1)
    node = house.node("n1")
    node.claim()
    key = "results/job-1/1/1.result.json"
    assert put(node.store, key, b"first")
    assert not put(node.store, key, b"second")
    with pytest.raises(AccessDenied):
        node.store.delete([key])
    assert read(node.store, key) == b"first"


PREFIXES = ["", "n", "nodes/", "nodes/n", "nodes/n1", "nodes/n2/", "results/", "results/job-1/1/", "logs/", "blobs/"]
PREFIXES += ["logs/job-1/1/", "logs/job-1/1/1", "logs/job-1/2/1/", "logs/job-1/1/2/", "logs/job-2/1/1/", "/", "../"]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_node_lists_nothing_but_its_own(house: House, prefix: str) -> None:
    house.submit(2)
    node = house.node("n1")
    node.claim()
    with pytest.raises(AccessDenied, match="may not list"):
        list(node.store.list(prefix))
    for own in ("nodes/n1/", "nodes/n1/a", "logs/job-1/1/1/", "logs/job-1/1/1/0"):
        assert list(node.store.list(own)) == []


def test_a_task_of_another_pool_is_no_nodes_own_even_of_the_same_name(house: House) -> None:
    other = PoolId("other")
    house.submit(1, pool=other)
    house.node("n1", other).claim()
    same_name = house.node("n1")
    with pytest.raises(AccessDenied):
        put(same_name.store, "results/job-1/1/1/x")


# -- tricks with keys -------------------------------------------------------------------------------------------------

TRICKS = [
    "nodes/n1/../n2/x",
    "nodes/n1/..",
    "nodes/n1/./x",
    "nodes/n1//x",
    "/nodes/n1/x",
    "nodes/n1/x/",
    "nodes/n1/a\0b",
    "nodes/n1/a\nb",
    "tmp/nodes/n1/x",
    "",
    "nodes/n1/" + "x" * 2000,
]


@pytest.mark.parametrize("key", TRICKS)
def test_what_is_no_key_is_refused_by_the_relay_itself(house: House, key: str) -> None:
    node = house.node("n1")
    for call in ("stat", "delete"):
        with pytest.raises((AccessDenied, ValueError)):
            node.ask(call, keys=[key])
    assert node.ask("list", prefix="nodes/n1/../n2/", after="", limit=10)["objects"] == []


@pytest.mark.parametrize(
    "document",
    [
        {"keys": "nodes/n1/x"},
        {"keys": [7]},
        {"keys": ["nodes/n1/x"] * 1001},
        {"keys": None},
        {},
    ],
    ids=lambda document: str(document)[:40],
)
def test_a_request_about_keys_that_makes_no_sense_is_refused(house: House, document: dict[str, object]) -> None:
    node = house.node("n1")
    for call in ("stat", "delete"):
        with pytest.raises(ValueError, match="cannot be read"):
            node.ask(call, **document)
    with pytest.raises(ValueError, match="cannot be read"):
        node.ask("list", prefix="nodes/n1/", after="", limit=10**9)
