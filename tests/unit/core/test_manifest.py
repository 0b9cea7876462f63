"""Manifests: equal trees are equal bytes, and nothing stands outside the work directory."""

from __future__ import annotations

import contextlib
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeq.core.digest import Digest
from kubeq.core.manifest import Entry, Manifest, Remote, clean_destination
from kubeq.errors import IntegrityError, KubeqError, UsageError, VersionMismatch

ONE, TWO = Digest.of(b"1"), Digest.of(b"2")
NAMES = st.text("abé \\$'\"{}", min_size=1, max_size=4)


@given(st.dictionaries(NAMES, st.tuples(st.binary(max_size=3), st.booleans()), max_size=6), st.randoms())
def test_the_order_of_entries_does_not_matter_and_the_bytes_are_read_back(tree: dict, random) -> None:  # type: ignore[type-arg, no-untyped-def]
    entries = [Entry(name, Digest.of(content), executable) for name, (content, executable) in tree.items()]
    manifest = Manifest.of(entries)
    random.shuffle(entries)
    assert Manifest.of(entries).encode() == manifest.encode()
    assert Manifest.decode(manifest.encode()) == manifest


def test_two_entries_of_one_path_are_refused() -> None:
    with pytest.raises(UsageError, match="two inputs have the destination 'a'"):
        Manifest.of([Entry("a", ONE), Entry("a", TWO)])


def test_a_file_that_is_also_a_directory_is_refused() -> None:
    with pytest.raises(UsageError, match="both a file and a directory"):
        Manifest.of([Entry("a/b/c", ONE), Entry("a", TWO), Entry("a.x", TWO)])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a", "a"),
        ("./a", "a"),
        ("a//b/./c", "a/b/c"),
        ("a/", "a"),
        ("a b", "a b"),
        ("~x", "~x"),
        ("C:\\x", "C:\\x"),
        ("a. ", "a. "),
        ("..a", "..a"),
    ],
)
def test_a_destination_is_cleaned(path: str, expected: str) -> None:
    assert clean_destination(path) == expected


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "./",
        "/",
        "/a",
        "..",
        "../a",
        "a/..",
        "a/../../b",
        "a\nb",
        "a\0b",
        "\x7f",
        "\udcff",
        "x" * 256,
        "é" * 128,
        "a/" * 600 + "b",
    ],
)
def test_a_destination_that_cannot_be_used_everywhere_is_refused(path: str) -> None:
    with pytest.raises(UsageError):
        clean_destination(path)


def test_one_name_typed_in_two_unicode_forms_is_one_destination() -> None:
    assert clean_destination(unicodedata.normalize("NFD", "é")) == unicodedata.normalize("NFC", "é")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"schema":1,"files":[["../x","' + b"0" * 64 + b'",1,0]]}',
        b'{"schema":1,"files":[["a","zz",1,0]]}',
        b'{"schema":1,"files":[["a","' + b"0" * 64 + b'",1]]}',
        b'{"schema":1,"files":[["a","' + b"0" * 64 + b'",1,0],["a","' + b"1" * 64 + b'",1,0]]}',
        b'{"schema":1,"files":7}',
        b"[" * 100_000,
        b'{"schema":"1","files":[]}',
        b'{"schema":1,"files":[[7,"' + b"0" * 64 + b'",1,0]]}',
    ],
)
def test_bytes_that_no_manifest_has_are_refused(content: bytes) -> None:
    with pytest.raises(IntegrityError):
        Manifest.decode(content)


def test_a_manifest_of_a_newer_schema_is_refused_as_such() -> None:
    with pytest.raises(VersionMismatch):
        Manifest.decode(json.dumps({"schema": 3, "files": []}).encode())


REMOTE = Remote("data/x", "gs://b/o", "generation:17", 5)


def test_a_manifest_without_sources_by_url_is_written_as_ever() -> None:
    entry = Entry("a", Digest("0" * 64, 1), True)
    assert Manifest.of([entry]).encode() == b'{"schema":1,"files":[["a","' + b"0" * 64 + b'",1,1]]}'


def test_sources_by_url_are_written_and_read_and_older_readers_are_told() -> None:
    entry = Entry("a", Digest("0" * 64, 1))
    executable = Remote("run", "https://h/é?x=1", 'etag:"a b"', 0, True)
    manifest = Manifest.of([entry], [executable, REMOTE])
    assert manifest.remotes == (REMOTE, executable)
    assert json.loads(manifest.encode())["schema"] == 2
    assert Manifest.decode(manifest.encode()) == manifest


@pytest.mark.parametrize("path", ["data", "data/x", "data/x/y"])
def test_a_source_by_url_and_a_file_cannot_stand_in_each_others_way(path: str) -> None:
    with pytest.raises(UsageError, match="destination"):
        Manifest.of([Entry(path, Digest("0" * 64, 1))], [REMOTE])


@pytest.mark.parametrize(
    "row",
    [
        ["x", "gs://b/o", "generation:17", 5],
        ["../x", "gs://b/o", "generation:17", 5, 0],
        ["x", 7, "generation:17", 5, 0],
        ["x", "gs://b/o", "", 5, 0],
        ["x", "gs://b/o", "hope:17", 5, 0],
        ["x", "gs://b/o", "etag:\n", 5, 0],
        ["x", "gs://b/o", "generation:17", -1, 0],
        ["x", "gs://b/o", "generation:17", "5", 0],
        ["x", "gs://b/o", "generation:17", True, 0],
    ],
)
def test_a_source_by_url_that_nobody_wrote_is_refused(row: list[object]) -> None:
    with pytest.raises(IntegrityError):
        Manifest.decode(json.dumps({"schema": 2, "files": [], "remotes": [row]}).encode())


@given(
    st.binary(max_size=40)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(
        lambda v: json.dumps({"schema": 1, "files": v}).encode()
    )
)
def test_any_bytes_are_a_manifest_or_refused(content: bytes) -> None:
    with contextlib.suppress(KubeqError):
        assert Manifest.decode(Manifest.decode(content).encode())


@given(st.text(max_size=30) | st.text("ab./", max_size=12))
def test_any_destination_stays_inside_or_is_refused(path: str) -> None:
    try:
        clean = clean_destination(path)
    except UsageError:
        return
    assert clean_destination(clean) == clean
    assert not clean.startswith("/")
    assert not {"", ".", ".."} & set(clean.split("/"))
