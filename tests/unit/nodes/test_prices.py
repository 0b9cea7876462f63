"""What machines cost, by the table that comes with kubeq and by one that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeq.nodes.prices import FILE, Prices, keep_prices, prices_of


@pytest.mark.parametrize(
    ("provider", "kind", "region", "price"),
    [
        ("ec2", "t3.micro", "us-east-1", 0.0104),
        ("ec2", "m5.large", "us-east-1", 0.096),
        ("ec2", "m5.24xlarge", "us-west-2", 4.608),
        ("ec2", "c5.9xlarge", "us-east-2", 1.53),
        ("ec2", "m5.large", "eu-west-1", 0.107),
        ("gce", "e2-micro", "us-central1", 0.008376),
        ("gce", "e2-standard-2", "us-central1", 0.067012),
        ("gce", "n1-standard-1", "us-east1", 0.0475),
        ("gce", "n2-highmem-4", "us-west1", 0.262028),
        ("gce", "g2-standard-4", "us-central1", 0.706784),
        ("gce", "f1-micro", "us-central1", 0.0076),
    ],
)
def test_the_table_that_comes_with_kubeq(tmp_path: Path, provider: str, kind: str, region: str, price: float) -> None:
    assert prices_of(tmp_path).price(provider, kind, region) == pytest.approx(price, rel=1e-4)


@pytest.mark.parametrize(
    ("provider", "kind", "region", "spot"),
    [
        ("ec2", "m5.large", "mars-1", False),
        ("ec2", "m99.large", "us-east-1", False),
        ("ec2", "m5.large", "us-east-1", True),
        ("gce", "x9-standard-4", "us-central1", False),
        ("gce", "n2-custom-4-8192", "us-central1", False),
        ("gce", "g2-standard-5", "us-central1", False),
        ("gce", "n1-standard-1", "mars-central1", False),
        ("local", "x", "here", False),
    ],
)
def test_what_is_not_known_is_not_guessed(tmp_path: Path, provider: str, kind: str, region: str, spot: bool) -> None:
    assert prices_of(tmp_path).price(provider, kind, region, spot) is None


def test_a_spot_machine_of_google_costs_at_most_two_fifths(tmp_path: Path) -> None:
    plain = prices_of(tmp_path).price("gce", "n1-standard-1", "us-central1")
    assert plain is not None
    assert prices_of(tmp_path).price("gce", "n1-standard-1", "us-central1", True) == pytest.approx(plain * 0.4)


def test_prices_that_were_asked_for_go_over_the_others_region_by_region(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    rates = {
        "cores": {"n1": 1.0},
        "gibibytes": {"n1": 2.0},
        "gpus": {},
        "spot": {"cores": {"n1": 0.5}, "gibibytes": {"n1": 1.0}},
    }
    keep_prices(folder, Prices(date="2026-01-01", source="first", tables={"ec2": {"mars-1": {"m5.large": 7.0}}}))
    keep_prices(folder, Prices(date="2026-02-02", source="second", tables={"gce": {"us-east1": rates}}))
    found = prices_of(folder)
    assert (found.date, found.source) == ("2026-02-02", "second")
    assert found.price("ec2", "m5.large", "mars-1") == 7.0
    assert found.price("ec2", "m5.large", "us-east-1") == 0.096
    assert found.price("gce", "n1-standard-1", "us-east1") == 8.5
    assert found.price("gce", "n1-standard-1", "us-east1", True) == 4.25
    (folder / FILE).write_text("{")
    assert prices_of(folder).date == prices_of(tmp_path).date
