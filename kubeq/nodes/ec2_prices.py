"""What EC2's machines cost on demand, asked of AWS's price list: Linux, shared hardware, nothing else installed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kubeq.aws import client, partition_of, plainly
from kubeq.errors import UsageError
from kubeq.metering import Meter

ENDPOINT_REGION = "us-east-1"
"""The price list is served from a few regions and knows all ("AWS Price List Query API endpoints")."""
CHINA = "aws-cn"
_WANTED = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}


def ec2_prices(region: str) -> dict[str, float]:
    """Dollars an hour by type. Raises BackendError, also for an identity that may not ask (`pricing:GetProducts`).

    Raises UsageError for a region whose price list is in yuan.
    """
    if partition_of(region) == CHINA:
        raise UsageError(
            f"the price list of {region} is in yuan, and kubeq counts in US dollars",
            hint="without prices machines are started all the same, in the order of their size",
        )
    found: dict[str, float] = {}
    for product in _products(region):
        price = _hourly(product)
        if price:
            found[product["product"]["attributes"]["instanceType"]] = price
    return dict(sorted(found.items()))


def _products(region: str) -> Iterator[Any]:
    pricing = client("pricing", ENDPOINT_REGION, Meter())
    wanted = _WANTED | {"regionCode": region}
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
    with plainly("pricing", f"the price list of {region}"):
        for page in pricing.get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=filters):
            yield from map(json.loads, page["PriceList"])


def _hourly(product: Any) -> float:
    """The price an hour of a product; 0 for one that has none."""
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            if dimension["unit"] == "Hrs":
                return float(dimension["pricePerUnit"].get("USD", 0))
    return 0.0
