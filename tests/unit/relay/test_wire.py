"""What goes over the wire comes back as it was: addresses, tokens, errors, and what agents hold and tell."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeq.core import wire
from kubeq.core.model import Ending, Exit, JobId, NodeName, Reason, TaskId, Usage
from kubeq.core.resources import Resources
from kubeq.core.transitions import Report
from kubeq.core.wire.tasks import LONGEST_MESSAGE
from kubeq.errors import (
    AccessDenied,
    BackendError,
    Conflict,
    IntegrityError,
    KubeqError,
    ObjectNotFound,
    UsageError,
    VersionMismatch,
)
from kubeq.queue.claims import Claimed, Room
from kubeq.queue.granting import Granting
from kubeq.queue.open import open_claims
from kubeq.queue.relay import RelayClaims
from kubeq.queue.wire import (
    End,
    Hold,
    decode_claimed,
    decode_end,
    decode_hold,
    decode_room,
    encode_claimed,
    encode_end,
    encode_hold,
    encode_room,
)
from kubeq.relay_wire import Address, Token, decode_error, encode_error, parse_token, parse_url
from kubeq.store.local import LocalStore
from kubeq.store.open import open_store_of_node
from kubeq.store.relay import RelayStore
from tests.jobs import FakeClock

SECRET = "ab" * 32
TOKEN = f"n1:{SECRET}"


@pytest.mark.parametrize(
    "address",
    [
        Address(host="127.0.0.1", port=7011),
        Address(host="localhost", port=1),
        Address(path=Path("/home/ada/.local/state/kubeq/relay/socket")),
        Address(path=Path("/a b/%41/é#?/socket")),
    ],
)
def test_an_address_is_what_its_url_says(address: Address) -> None:
    assert parse_url(address.url) == address


@pytest.mark.parametrize(
    "url",
    [
        "relay:",
        "relay://",
        "relay:///",
        "relay:socket",
        "relay://host",
        "relay://host:0",
        "relay://host:99999",
        "relay://host:7/x",
        "relay://host:x",
        "relay:///a?b",
        "relay:///a#b",
        "http://host:1",
        "relay:///a%00b",
        "relay://n1:secret@host:7",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_url(url)
    assert refused.value.hint


def test_a_token_is_written_and_read_and_never_shown() -> None:
    token = parse_token(f"{TOKEN}\n")
    assert token == Token(NodeName("n1"), SECRET)
    assert token.text == TOKEN
    assert SECRET not in repr(token)


@pytest.mark.parametrize(
    "text", ["", "n1", ":" + SECRET, "n1:" + SECRET[1:], "n1:" + SECRET.upper(), f"../n1:{SECRET}"]
)
def test_what_is_no_token_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_token(text)
    assert SECRET[1:] not in f"{refused.value.message}{refused.value.hint}"


@pytest.mark.parametrize(
    "error",
    [
        ObjectNotFound("no such object"),
        IntegrityError("wrong bytes", hint="look"),
        AccessDenied("not yours", hint="ask"),
        VersionMismatch("too new"),
        Conflict("taken"),
        BackendError("away", transient=True, hint="wait"),
        BackendError("broken"),
        ValueError("not a key"),
        BackendError("said \udcff"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_as_what_it_was(error: KubeqError | ValueError) -> None:
    status, body = encode_error(error)
    assert status >= 400
    arrived = decode_error(status, body)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert getattr(arrived, "hint", None) == getattr(error, "hint", None)
    assert getattr(arrived, "transient", None) == getattr(error, "transient", None)


@given(st.binary(max_size=200), st.integers(100, 599))
def test_whatever_answers_is_an_error_and_never_a_traceback(body: bytes, status: int) -> None:
    assert isinstance(decode_error(status, body), Exception)


def test_which_end_of_a_queue_or_a_store_an_agent_gets_follows_from_the_url(tmp_path: Path) -> None:
    clock = FakeClock()
    assert isinstance(open_claims("relay:///socket", clock, TOKEN), RelayClaims)
    assert isinstance(open_claims(f"sqlite:{tmp_path}/q.db", clock), Granting)
    assert isinstance(open_store_of_node("relay://127.0.0.1:7", TOKEN), RelayStore)
    assert isinstance(open_store_of_node(f"file://{tmp_path}"), LocalStore)
    for token in (None, "nonsense"):
        with pytest.raises(UsageError, match="token"):
            open_claims("relay:///socket", clock, token)
        with pytest.raises(UsageError, match="token"):
            open_store_of_node("relay:///socket", token)


def test_a_relay_is_no_queue_and_no_store_of_a_submitter() -> None:
    from kubeq.queue.open import open_table
    from kubeq.store.open import open_store

    with pytest.raises(UsageError):
        open_table("relay:///socket")
    with pytest.raises(UsageError):
        open_store("relay:///socket")


# -- what agents hold and tell ----------------------------------------------------------------------------------------

texts = st.text(max_size=20)
holds = st.builds(
    Hold,
    task=st.builds(TaskId, st.text(max_size=20).map(JobId), st.integers(1, 10**10 - 1)),
    attempt=st.integers(1, 10**6),
    nonce=texts,
    cancel_asked=st.booleans(),
)
numbers = st.floats(0, 1e12)
counts = st.integers(0, 2**53)
reports = st.builds(
    Report,
    ended_at=numbers,
    started_at=st.none() | numbers,
    exit=st.none()
    | st.builds(Exit, code=st.none() | counts, signal=st.none() | counts, never_started=st.none() | texts),
    usage=st.none() | st.builds(Usage, wall_s=st.none() | numbers, peak_memory_bytes=st.none() | counts),
    outputs=counts,
    message=st.none() | texts,
)
failures = st.sampled_from([reason for reason in Reason if reason not in (Reason.LOST, Reason.CANCELLED)])
ends = st.one_of(
    st.builds(End, hold=holds, ending=st.just(Ending.FAILED), reason=failures, report=reports),
    st.builds(End, hold=holds, ending=st.just(Ending.SUCCEEDED), reason=st.none(), report=reports),
    st.builds(End, hold=holds, ending=st.just(Ending.CANCELLED), reason=st.just(Reason.CANCELLED), report=reports),
)


def there_and_back(document: Any) -> Any:
    return json.loads(wire.dumps(document).encode(errors="backslashreplace"))


@given(holds)
def test_a_hold_comes_back(hold: Hold) -> None:
    assert decode_hold(there_and_back(encode_hold(hold))) == hold


@given(ends)
def test_an_end_comes_back(end: End) -> None:
    assert decode_end(there_and_back(encode_end(end))) == end


def test_what_was_claimed_and_asked_for_comes_back() -> None:
    claimed = Claimed(too_big=(TaskId(JobId("j"), 3),), open_jobs=2)
    assert decode_claimed(there_and_back(encode_claimed(claimed))) == claimed
    room = Room(free=Resources(cpu=0.5), total=Resources(cpu=2.0, memory=7), starts=3, ahead=1, pool_slots=9)
    assert decode_room(there_and_back(encode_room(room))) == room


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)


@given(JSON, st.sampled_from(["hold", "ending", "reason", "report"]))
def test_an_end_with_anything_in_it_is_read_or_refused(value: Any, field: str) -> None:
    plain = encode_end(
        End(
            hold=Hold(task=TaskId(JobId("j"), 1), attempt=1, nonce="n"),
            ending=Ending.SUCCEEDED,
            reason=None,
            report=Report(ended_at=1.0),
        )
    )
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        decode_end({**plain, field: value})


def test_what_an_error_or_an_engine_says_is_cut_and_made_valid() -> None:
    long = "é" * (2 * LONGEST_MESSAGE)
    report = Report(ended_at=1.0, message=long, exit=Exit(never_started="bad name \udcff"))
    read = wire.decode_report(there_and_back(wire.encode_report(report)))
    assert read.message == long[:LONGEST_MESSAGE]
    assert read.exit is not None
    assert read.exit.never_started == "bad name \\udcff"
