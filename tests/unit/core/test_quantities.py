"""Sizes and durations, as typed and as shown."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubeq.core.quantities import (
    LARGEST_SIZE,
    LONGEST_DURATION_S,
    format_counts,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)
from kubeq.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("500M", 500_000_000),
        ("512Mi", 512 * 2**20),
        ("2G", 2_000_000_000),
        ("2GB", 2_000_000_000),
        ("2GiB", 2**31),
        ("1.5k", 1500),
        ("4 G", 4_000_000_000),
        (" 7K ", 7000),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_a_size_is_read_in_decimal_or_binary_units(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1g",
        "1e3G",
        "4G4",
        "4 g",
        "i",
        "1i",
        "x",
        "1,5G",
        "99999999T",
        "9" * 400,
        "٣M",
        "nan",
        "inf",
        "G",
        "0.4",
    ],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10", 10.0),
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("2d", 172800.0),
        ("250ms", 0.25),
        ("1.5h", 5400.0),
    ],
)
def test_a_duration_is_seconds_when_bare(text: str, expected: float) -> None:
    assert parse_duration(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "10 m", "1h30", "-5s", "∞", "1e400h", "9" * 400, "h", "5w", "1h 30m", "٣s", "nan", "11000d"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_duration(text)
    assert caught.value.hint


@given(st.text(max_size=12) | st.text("0123456789.kKMGTPiBsmhd ", max_size=40))
@example("9" * 30 + "." + "9" * 30 + "P")
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    for parse, most in ((parse_size, LARGEST_SIZE), (parse_duration, LONGEST_DURATION_S)):
        try:
            value = parse(text)
        except UsageError:
            continue
        assert 0 < value <= most


@given(st.integers(1, LARGEST_SIZE))
def test_a_size_in_bytes_is_read_exactly(size: int) -> None:
    assert parse_size(str(size)) == size


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(1, 59))
def test_a_duration_in_parts_is_their_sum(days: int, hours: int, minutes: int, seconds: int) -> None:
    expected = days * 86400 + hours * 3600 + minutes * 60 + seconds
    assert parse_duration(f"{days}d{hours}h{minutes}m{seconds}s") == expected


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_500_000, "1.5 MB"),
        (123_456_789, "123 MB"),
        (10**18, "1000.0 PB"),
    ],
)
def test_a_size_is_shown_in_three_digits(size: int, shown: str) -> None:
    assert format_size(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0.0s"), (0.42, "0.4s"), (12.4, "12s"), (59.6, "1m00s"), (185, "3m05s"), (7800, "2h10m"), (273600, "3d4h")],
)
def test_a_duration_is_shown_in_two_units(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


def test_counts_are_shown_with_the_most_first() -> None:
    assert format_counts({"Query": 4, "PutItem": 1200, "GetItem": 4}) == "1,200 PutItem, 4 GetItem, 4 Query"
    assert format_counts({}) == "none"
