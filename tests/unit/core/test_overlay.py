"""An overlay holds only what can be laid without following a link, and is one blob however it was listed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeq.core.digest import Digest
from kubeq.core.overlay import Laid, Overlay, leaves
from kubeq.errors import IntegrityError, UsageError, VersionMismatch

FILE = Digest.of(b"x")


def test_equal_overlays_are_equal_blobs_and_a_directory_stands_before_its_content() -> None:
    entries = [Laid("etc/app.conf", 0o640, FILE), Laid("etc", 0o755), Laid("etc/link", 0o777, None, "app.conf")]
    one, other = Overlay.of(entries), Overlay.of(reversed(entries))
    assert one.encode() == other.encode()
    assert [entry.path for entry in one.entries] == ["etc", "etc/app.conf", "etc/link"]
    assert Overlay.decode(one.encode()) == one
    assert one.digests == {FILE}


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("a", "/etc"),
        ("a", ".."),
        ("a", "../etc/passwd"),
        ("d/a", "../../x"),
        ("d/a", "b/../../../x"),
        ("a", ""),
        ("a", "b/../.."),
    ],
)
def test_a_link_that_leads_out_is_none_of_an_overlay(path: str, target: str) -> None:
    assert leaves(path, target)
    with pytest.raises(UsageError, match="leads out"):
        Overlay.of([Laid(path, 0o777, None, target)])


def test_a_link_that_leads_out_by_way_of_another_one_is_none_of_an_overlay() -> None:
    # "x/up" is the root of the overlay, so that what reads as x is what is above it.
    up, out = Laid("x/up", 0o777, None, ".."), Laid("x/out", 0o777, None, "up/../../etc")
    assert not leaves(out.path, str(out.target))
    with pytest.raises(UsageError, match="leads out"):
        Overlay.of([up, out])
    assert len(Overlay.of([up, Laid("x/in", 0o777, None, "up/x"), Laid("x/self", 0o777, None, "self")]).entries) == 3


@pytest.mark.parametrize(("path", "target"), [("a", "b"), ("d/a", "../b"), ("d/e/a", "../../b"), ("a", "./d/../b")])
def test_a_link_inside_travels(path: str, target: str) -> None:
    assert not leaves(path, target)
    assert Overlay.of([Laid(path, 0o777, None, target)]).entries[0].target == target


@pytest.mark.parametrize(
    "entries",
    [
        [["/etc/passwd", 420, str(FILE), None]],
        [["../etc/passwd", 420, str(FILE), None]],
        [["a/../../b", 420, str(FILE), None]],
        [["a", 511, None, "/etc"]],
        [["a", 511, None, "b"], ["a/passwd", 420, str(FILE), None]],
        [["a", 420, str(FILE), None], ["a/b", 420, str(FILE), None]],
        [["a", 420, str(FILE), None], ["a", 420, str(FILE), None]],
        [["a", 0o4755, str(FILE), None]],
        [["a", 420, "no digest", None]],
        [["a", 420]],
        [[1, 420, None, None]],
    ],
)
def test_what_somebody_made_up_cannot_be_read(entries: list[object]) -> None:
    with pytest.raises(IntegrityError):
        Overlay.decode(json.dumps({"schema": 1, "entries": entries}).encode())


def test_one_of_a_newer_kubeq_is_refused_as_such() -> None:
    with pytest.raises(VersionMismatch):
        Overlay.decode(b'{"schema": 2, "entries": []}')


@given(st.binary(max_size=60))
def test_any_bytes_are_an_overlay_or_an_error_of_ours(content: bytes) -> None:
    with pytest.raises(IntegrityError):
        Overlay.decode(content)
