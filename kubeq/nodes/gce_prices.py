"""What Compute Engine's machines cost, asked of Google's billing catalogue: a core and a GiB of each family, gpus.

The catalogue names its entries in words only; those of ordinary families are told apart by them. What they come to for
a type is in `prices`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from os import environ
from typing import Any

from kubeq.errors import BackendError
from kubeq.extras import extra
from kubeq.gcp import find_account, google_errors

with extra("gcp"):
    import requests
    from google.auth.transport.requests import AuthorizedSession

COMPUTE_ENGINE = "6F81-5844-456A"
"""The service's id in the catalogue, which Google publishes in the list of services."""
EMULATOR = "CLOUDBILLING_EMULATOR_HOST"
"""The URL of a stand-in, named as Google names those of its other services."""
GOOGLE = "https://cloudbilling.googleapis.com"
TIMEOUT_S = 60.0
_ENTRY = re.compile(
    r"(?P<spot>Spot Preemptible )?(?P<family>N1 Predefined|Compute optimized|[A-Z][0-9][A-Z]?)( AMD| Arm)?"
    r"( Instance)? (?P<part>Core|Ram) running in .+"
)
_GPU = re.compile(r"Nvidia (?P<kind>L4) GPU (?P<spot>attached to Spot Preemptible VMs )?running in .+")
_FAMILIES = {"N1 Predefined": "n1", "Compute optimized": "c2"}
_GPU_FAMILIES = {"L4": "g2"}
_PARTS = {"Core": "cores", "Ram": "gibibytes"}


def gce_prices(region: str) -> dict[str, Any]:
    """What parts of machines cost an hour in the region, as `prices` has it. Raises BackendError."""
    plain, spot = _empty(), _empty()
    for entry in _entries():
        if region not in entry.get("serviceRegions", ()):
            continue
        match, gpu = _ENTRY.fullmatch(entry["description"]), _GPU.fullmatch(entry["description"])
        if match is not None:
            table = spot if match["spot"] else plain
            family = _FAMILIES.get(match["family"], match["family"].lower())
            table[_PARTS[match["part"]]][family] = _hourly(entry)
        elif gpu is not None:
            (spot if gpu["spot"] else plain)["gpus"][_GPU_FAMILIES[gpu["kind"]]] = _hourly(entry)
    return {**plain, "spot": spot} if plain["cores"] else {}


def _empty() -> dict[str, dict[str, float]]:
    return {"cores": {}, "gibibytes": {}, "gpus": {}}


def _entries() -> Iterator[Any]:
    doing = "read Google's price list"
    account = find_account(EMULATOR)
    session = requests.Session() if account.credentials is None else AuthorizedSession(account.credentials)  # type: ignore[no-untyped-call]
    url = f"{environ.get(EMULATOR, GOOGLE).rstrip('/')}/v1/services/{COMPUTE_ENGINE}/skus"
    token = ""
    while True:
        with google_errors(doing, missing="the price list"):
            answer = session.get(url, params={"pageSize": "5000", "pageToken": token}, timeout=TIMEOUT_S)
        if answer.status_code != requests.codes.ok:
            raise BackendError(
                f"could not {doing}: Google answers {answer.status_code}",
                hint="gcloud services enable cloudbilling.googleapis.com",
            )
        page = answer.json()
        yield from page.get("skus", ())
        token = page.get("nextPageToken", "")
        if not token:
            return


def _hourly(entry: Any) -> float:
    """Its price beyond any free amount."""
    price = entry["pricingInfo"][0]["pricingExpression"]["tieredRates"][-1]["unitPrice"]
    return int(price.get("units", 0)) + int(price.get("nanos", 0)) / 1e9
