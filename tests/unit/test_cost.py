"""docs/cost.md says what the budgets and the prices come to."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.budget import Ask
from bench.cost import CLOUDS, steps, table

PAGE = Path(__file__).parents[2] / "docs/cost.md"


def test_the_page_has_the_table_that_is_reckoned() -> None:
    assert table() in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("cloud", CLOUDS, ids=lambda cloud: cloud.name)
def test_every_price_is_on_the_page(cloud: object) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for price in cloud.prices.values():  # type: ignore[attr-defined]
        assert any(f"{price * scale:.6g}" in text for scale in (1e3, 1e5, 1e6)), price


@pytest.mark.parametrize("cloud", CLOUDS, ids=lambda cloud: cloud.name)
def test_each_step_costs_something(cloud: object) -> None:
    assert all(dollars > 0 for _, dollars in steps(cloud))  # type: ignore[arg-type]


def test_what_has_no_price_is_an_error() -> None:
    with pytest.raises(KeyError):
        CLOUDS[0].dollars(Ask(billed={"gold": 1}))
