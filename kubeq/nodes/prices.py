"""What machines cost an hour: a table that comes with kubeq, and the newer one that the clouds were asked for.

On EC2 a type has a price in a region; on Compute Engine a family has one for each core and each GiB, which its types
are made of. Prices of spot machines move all day: those of EC2 its provider asks for, those of Compute Engine are at
most what is said here. Where nothing is known the answer is None, never a guess. How prices are asked for is in
`price_lists`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from kubeq.errors import BackendError

Price = Callable[[str, str, str, bool], float | None]
"""The price of a type (or None) by provider, type, region, and whether it is a spot machine."""
MOST_OF_SPOT = 0.4
"""Of the ordinary price: a Spot VM costs at least 60 % less (Compute Engine documentation, "Spot VMs": pricing)."""
GIBIBYTES: Mapping[str, Mapping[str, float]] = {
    "n1": {"standard": 3.75, "highmem": 6.5, "highcpu": 0.9},
    "c3": {"standard": 4, "highmem": 8, "highcpu": 2},
    "": {"standard": 4, "highmem": 8, "highcpu": 1},
}
"""Memory for each core by family and kind of type (Compute Engine documentation, "Machine families resource")."""
_SHARED: Mapping[str, tuple[float, float]] = {"e2-micro": (0.25, 1), "e2-small": (0.5, 2), "e2-medium": (1, 4)}
"""Cores and GiB that are charged for."""
_TYPE = re.compile(r"(?P<family>[a-z][a-z0-9]+)-(?P<kind>standard|highmem|highcpu)-(?P<cores>[0-9]+)")
_GPUS: Mapping[str, Mapping[int, int]] = {"g2": {4: 1, 8: 1, 12: 1, 16: 1, 24: 2, 32: 1, 48: 4, 96: 8}}
"""How many gpus a type of a family with gpus has, by its cores."""
FILE = "prices.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Prices of one day, and who says so. `tables` are by provider and region."""

    date: str
    source: str
    tables: Mapping[str, Mapping[str, Any]]

    def price(self, provider: str, kind: str, region: str, spot: bool = False) -> float | None:
        """US dollars an hour; None where nothing is known."""
        table = self.tables.get(provider, {}).get(region)
        if table is None:
            return None
        if provider != "gce":
            found: float | None = None if spot else table.get(kind)
            return found
        plain = _of_parts(table, kind)
        if not spot or plain is None:
            return plain
        return _of_parts(table["spot"], kind) if "spot" in table else plain * MOST_OF_SPOT

    def types(self, provider: str, region: str) -> list[str]:
        """Types of which the price is known: all on EC2; on Compute Engine ordinary ones of each family."""
        table = self.tables.get(provider, {}).get(region, {})
        if provider != "gce":
            return sorted(table, key=lambda kind: float(table[kind]))
        names = [f"{family}-standard-4" for family in sorted(table.get("cores", ()))]
        return [*sorted(table.get("types", ())), *(name for name in names if _of_parts(table, name) is not None)]


def prices_of(cache_dir: Path) -> Prices:
    """The newest there are: those that were asked for, region by region, over those that come with kubeq."""
    shipped, asked = _shipped(), _read(cache_dir / FILE)
    if asked is None:
        return shipped
    tables = {
        provider: {**shipped.tables.get(provider, {}), **asked.tables.get(provider, {})}
        for provider in {*shipped.tables, *asked.tables}
    }
    return Prices(date=asked.date, source=asked.source, tables=tables)


def keep_prices(cache_dir: Path, asked: Prices) -> Path:
    """Have them remembered, beside those of other regions; where. Raises BackendError."""
    path, before = cache_dir / FILE, _read(cache_dir / FILE)
    tables = {provider: dict(table) for provider, table in (before.tables if before else {}).items()}
    for provider, table in asked.tables.items():
        tables.setdefault(provider, {}).update(table)
    document = {"schema": 1, "date": asked.date, "source": asked.source, **tables}
    try:
        cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with NamedTemporaryFile("w", encoding="utf-8", dir=cache_dir, prefix=".prices-", delete=False) as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    except OSError as error:
        raise BackendError(f"the prices cannot be kept in {path}: {error.strerror}") from error
    return path


def _of_parts(table: Mapping[str, Any], kind: str) -> float | None:
    """The price of a type of Compute Engine by what it is made of."""
    if kind in table.get("types", {}):
        return float(table["types"][kind])
    parts = _parts(kind)
    if parts is None:
        return None
    family, cores, gibibytes, gpus = parts
    if family not in table["cores"] or family not in table["gibibytes"] or (gpus and family not in table["gpus"]):
        return None
    gpu = table["gpus"][family] if gpus else 0.0
    price: float = cores * table["cores"][family] + gibibytes * table["gibibytes"][family] + gpus * gpu
    return round(price, 6)


def _parts(kind: str) -> tuple[str, float, float, int] | None:
    """Family, cores, GiB and gpus that a type is charged as."""
    if kind in _SHARED:
        return "e2", *_SHARED[kind], 0
    if match := _TYPE.fullmatch(kind):
        family, cores = match["family"], int(match["cores"])
        each = GIBIBYTES.get(family, GIBIBYTES[""])[match["kind"]]
        gpus = _GPUS[family].get(cores) if family in _GPUS else 0
        return None if gpus is None else (family, cores, cores * each, gpus)
    return None


@cache
def _shipped() -> Prices:
    found = _read(Path(__file__).with_name(FILE))
    assert found is not None, "the prices that come with kubeq are missing"
    return found


def _read(path: Path) -> Prices | None:
    """The prices of a file; None if there is none, or one that nobody can use."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        tables = {name: document[name] for name in ("ec2", "gce") if name in document}
        return Prices(date=document["date"], source=document["source"], tables=tables)
    except (OSError, ValueError, KeyError, TypeError):
        return None
