"""Asking the clouds for prices: their own clients, against a server that answers as the services do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from kubeq import aws
from kubeq.actions.prices import known_prices, refresh_prices
from kubeq.actions.session import Session
from kubeq.cli.views_prices import PricesView
from kubeq.errors import BackendError, NotFound, UsageError


@dataclass
class PriceServer:
    """Answers every request with the next of its pages; remembers what it was asked."""

    pages: list[Any] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    status: int = 200
    url: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PriceServer]:
    state = PriceServer()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            state.asked.append(self.path + body)
            content = json.dumps(state.pages.pop(0)).encode()
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{listening.server_address[1]}"
    for name in ("AWS_ENDPOINT_URL_PRICING", "CLOUDBILLING_EMULATOR_HOST"):
        monkeypatch.setenv(name, state.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    monkeypatch.setattr(aws, "_session", None)  # which keeps the credentials it found first
    yield state
    listening.shutdown()
    listening.server_close()
    thread.join()


def configured(session: Session, provider: str, region: str) -> Session:
    return session.beside(replace(session.config, provider=provider, region=region))


def product(kind: str, dollars: str, unit: str = "Hrs") -> str:
    dimensions = {"d": {"unit": unit, "pricePerUnit": {"USD": dollars}}}
    terms = {"OnDemand": {"t": {"priceDimensions": dimensions}}}
    return json.dumps({"product": {"attributes": {"instanceType": kind}}, "terms": terms})


def sku(description: str, nanos: int, *regions: str) -> dict[str, Any]:
    tiers = [{"unitPrice": {"units": "0", "nanos": 0}}, {"unitPrice": {"units": "0", "nanos": nanos}}]
    pricing = [{"pricingExpression": {"tieredRates": tiers}}]
    return {"description": description, "serviceRegions": list(regions), "pricingInfo": pricing}


def test_the_price_list_of_aws_is_read_page_by_page_and_kept(session: Session, server: PriceServer) -> None:
    server.pages = [
        {"FormatVersion": "aws_v1", "PriceList": [product("m5.large", "0.111")], "NextToken": "more"},
        {
            "FormatVersion": "aws_v1",
            "PriceList": [product("c5.large", "0.09"), product("old.one", "0"), product("odd.one", "3", "Quantity")],
        },
    ]
    far = configured(session, "ec2", "mars-north-1")
    with pytest.raises(NotFound, match="no price of ec2 is known in the region 'mars-north-1'"):
        known_prices(far, ())
    refresh_prices(far)
    known = known_prices(far, ())
    assert known.types == [("c5.large", 0.09, None), ("m5.large", 0.111, None)]
    assert known.prices.date == "2026-01-02"
    assert "mars-north-1" in server.asked[0]
    assert "more" in server.asked[1]
    assert known_prices(configured(session, "ec2", "us-east-1"), ["m5.large"]).types == [("m5.large", 0.096, None)]


def test_googles_catalogue_is_read_for_what_machines_are_made_of(session: Session, server: PriceServer) -> None:
    here = "mars-west1"
    server.pages = [
        {
            "skus": [
                sku("N1 Predefined Instance Core running in Mars", 10_000_000, here),
                sku("N1 Predefined Instance Ram running in Mars", 1_000_000, here, "mars-east1"),
                sku("N1 Predefined Instance Core running in the Moon", 99_000_000, "moon-west1"),
                sku("Commitment v1: N1 Predefined Instance Core running in Mars", 5_000_000, here),
                sku("N2 Custom Instance Core running in Mars", 7_000_000, here),
            ],
            "nextPageToken": "two",
        },
        {
            "skus": [
                sku("Spot Preemptible N1 Predefined Instance Core running in Mars", 2_000_000, here),
                sku("Spot Preemptible N1 Predefined Instance Ram running in Mars", 200_000, here),
                sku("N2D AMD Instance Core running in Mars", 8_000_000, here),
                sku("N2D AMD Instance Ram running in Mars", 800_000, here),
                sku("Compute optimized Core running in Mars", 30_000_000, here),
                sku("Compute optimized Ram running in Mars", 3_000_000, here),
            ]
        },
    ]
    far = configured(session, "gce", here)
    refresh_prices(far)
    found = {kind: (plain, spot) for kind, plain, spot in known_prices(far, ["n1-standard-4", "n2d-highcpu-2"]).types}
    assert found["n1-standard-4"] == (pytest.approx(0.055), pytest.approx(0.011))
    assert found["n2d-highcpu-2"] == (pytest.approx(0.0176), None)
    assert [kind for kind, _, _ in known_prices(far, ()).types] == ["c2-standard-4", "n1-standard-4", "n2d-standard-4"]
    assert "pageToken=two" in server.asked[1]


def test_a_list_that_cannot_be_had_is_told(session: Session, server: PriceServer) -> None:
    server.pages = [{"PriceList": []}, {"error": {"code": 403}}]
    with pytest.raises(NotFound, match="the price list of ec2 has nothing for mars-north-1"):
        refresh_prices(configured(session, "ec2", "mars-north-1"))
    server.status = 403
    with pytest.raises(BackendError, match="could not read Google's price list: Google answers 403"):
        refresh_prices(configured(session, "gce", "mars-west1"))
    with pytest.raises(UsageError, match="the price list of cn-north-1 is in yuan"):
        refresh_prices(configured(session, "ec2", "cn-north-1"))
    with pytest.raises(UsageError, match="the configuration names none"):
        refresh_prices(configured(session, "local", "mars-west1"))


@pytest.mark.parametrize(
    ("region", "types", "message", "hint"),
    [
        ("eu-wst-1", (), "no price of ec2 is known in the region 'eu-wst-1'", "did you mean eu-west-1"),
        ("mars", (), "no price of ec2 is known in the region 'mars'", "kubeq prices --refresh asks"),
        ("eu-west-1", ("m5.lrge",), "no price of m5.lrge is known in eu-west-1", "did you mean m5.large"),
        (
            "eu-west-1",
            ("us-east-1",),
            "no price of us-east-1 is known",
            "is a region: kubeq prices -o region=us-east-1",
        ),
    ],
)
def test_what_nobody_knows_a_price_of_is_no_empty_table(
    session: Session, region: str, types: tuple[str, ...], message: str, hint: str
) -> None:
    with pytest.raises(NotFound) as unknown:
        known_prices(configured(session, "ec2", region), types)
    assert unknown.value.message.startswith(message)
    assert unknown.value.hint is not None and hint in unknown.value.hint


def test_of_several_types_one_that_is_unknown_has_no_price(session: Session) -> None:
    known = known_prices(configured(session, "ec2", "eu-west-1"), ("m5.large", "x9.huge"))
    first, header, *rows = PricesView(known).text()
    assert first.startswith("ec2 in eu-west-1, $/hour; ")
    assert [header.split()[0], *[row.split() for row in rows]] == [
        "type",
        ["m5.large", "0.107", "?"],
        ["x9.huge", "?", "?"],
    ]
