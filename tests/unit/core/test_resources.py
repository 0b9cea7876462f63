"""What a task asks for: parsing, printing, fitting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeq.core.resources import Resources, fits, minus, parse_cpu, parse_memory, parse_resources
from kubeq.errors import UsageError

DEFAULT = Resources(cpu=2.0, memory=10**9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu=0.5", Resources(cpu=0.5, memory=10**9)),
        ("memory=2G", Resources(cpu=2.0, memory=2 * 10**9)),
        (" cpu = 1 , memory = 512Mi ", Resources(cpu=1.0, memory=512 * 2**20)),
        ("gpu=2", Resources(cpu=2.0, memory=10**9, gpus=2)),
    ],
)
def test_what_is_not_named_comes_from_the_default(text: str, expected: Resources) -> None:
    assert parse_resources(text, DEFAULT) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("memory=4", "too little"),
        ("memory=4 g", "not a size"),
        ("memory=0", "out of range"),
        ("memory=-1g", "not a size"),
        ("memory=1e3G", "not a size"),
        ("memory=99999999T", "out of range"),
        ("memory=4G4", "not a size"),
        ("cpu=1/3", "not a number"),
        ("cpu=nan", "not a number"),
        ("cpu=inf", "not a number"),
        ("cpu=0", "not a number"),
        ("cpu=0.001", "not a number"),
        ("cpu=-1", "not a number"),
        ("cpu=" + "9" * 400, "not a number"),
        ("cpu=٣", "not a number"),
        ("gpus=half", "unknown resource 'gpus'"),
        ("gpu=half", "not a number of GPUs"),
        ("gpu=0.5", "not a number of GPUs"),
        ("gpu=65", "not a number of GPUs"),
        ("gpu=-1", "not a number of GPUs"),
        ("cpu=1,cpu=2", "given twice"),
        ("disk=", "no value"),
        ("cpu", "no value"),
        ("", "no value"),
        ("cpu=1,", "no value"),
    ],
)
def test_a_bad_request_is_refused_naming_the_part(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_resources(text, DEFAULT)


@given(st.text(max_size=20) | st.text("cpumemory=,0123456789.GMi ", max_size=20))
def test_any_request_is_read_or_refused(text: str) -> None:
    for parse in (parse_cpu, parse_memory, lambda word: parse_resources(word, DEFAULT).cpu):
        try:
            assert parse(text) > 0
        except UsageError:
            continue


def test_a_request_is_shown_as_it_would_be_typed() -> None:
    assert str(Resources(cpu=0.5)) == "cpu=0.5"
    assert str(Resources(cpu=1, gpus=1)) == "cpu=1,gpu=1"
    assert str(Resources(cpu=2, memory=1_500_000_000)) == "cpu=2,memory=1.5GB"


def test_fitting_looks_at_cpu_and_at_memory_where_both_count_it() -> None:
    free = Resources(cpu=1.0, memory=100 * 2**20)
    assert fits(Resources(cpu=1.0, memory=100 * 2**20), free)
    assert not fits(Resources(cpu=1.01), free)
    assert not fits(Resources(cpu=0.1, memory=101 * 2**20), free)
    assert fits(Resources(cpu=1.0), free)
    assert fits(Resources(cpu=1.0, memory=2**40), Resources(cpu=1.0))


def test_tenths_of_a_cpu_fill_a_cpu() -> None:
    free = Resources(cpu=1.0)
    for _ in range(10):
        assert fits(Resources(cpu=0.1), free)
        free = minus(free, Resources(cpu=0.1))
    assert not fits(Resources(cpu=0.1), free)


@given(st.floats(0, 64), st.floats(0.01, 64), st.none() | st.integers(0, 2**40), st.none() | st.integers(0, 2**40))
def test_what_is_left_is_never_below_zero(have: float, need: float, memory: int | None, wanted: int | None) -> None:
    left = minus(Resources(cpu=have, memory=memory), Resources(cpu=need, memory=wanted))
    assert left.cpu >= 0
    assert (left.memory is None) == (memory is None)
    assert left.memory is None or left.memory >= 0


def test_gpus_are_counted_whole() -> None:
    free = Resources(cpu=8.0, gpus=2)
    assert fits(Resources(gpus=2), free) and not fits(Resources(gpus=3), free)
    assert minus(free, Resources(cpu=1.0, gpus=1)) == Resources(cpu=7.0, gpus=1)
    assert not fits(Resources(gpus=1), Resources(cpu=8.0)), "a machine without one"
