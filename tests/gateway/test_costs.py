"""What a call costs: round trips, queries, memory."""

import hashlib
import http.client
import os
import re
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from core.redis import usage_redis
from tests.examples.processes import running
from tests.factories import create_product, create_route
from tests.gateway.cable import Cable
from tests.gateway.kit import SLUG, Customer, Process, Shop, wait_for
from tests.gateway.test_refusals import assert_refused

MEGABYTE = 1024 * 1024
BIG = 50 * MEGABYTE
CALLS = 60


def _commands() -> dict[str, int]:
    """How often each command ran since Redis started; scripts' own commands count too."""
    stats: Any = usage_redis().info("commandstats")
    return {name.removeprefix("cmdstat_"): int(facts["calls"]) for name, facts in stats.items()}


def test_call_takes_two_round_trips_to_redis(shop: Shop) -> None:
    customer = shop.customer()
    customer.call()
    before = _commands()

    for _ in range(CALLS):
        assert customer.call().status == 200

    after = _commands()
    made = {name: after[name] - before.get(name, 0) for name in after}
    assert made["evalsha"] == 2 * CALLS
    assert {name: made[name] for name in ("eval", "script|load", "get", "ping") if made.get(name)} == {}


def test_refused_call_takes_one(shop: Shop) -> None:
    customer = shop.customer(per_minute=1)
    customer.call()
    before = _commands()["evalsha"]

    assert_refused(customer.call(), 429, "rate_limited")

    assert _commands()["evalsha"] == before + 1


def test_known_key_costs_no_query(shop: Shop) -> None:
    customer, cable = shop.customer(), Cable(os.environ["DATABASE_URL"])
    process = Process(DATABASE_URL=cable.url)
    try:
        process.wait_until_ready()
        assert customer.call(via=process.api).status == 200
        assert b'FROM "keys_apikey"' in cable.sent
        cable.sent.clear()

        for _ in range(CALLS):
            assert customer.call(via=process.api).status == 200

        asked = set(re.findall(rb'FROM "(\w+)"', cable.sent))
        assert asked <= {b"plans_product", b"plans_route"}, "only the catalogue is read again, each second"
    finally:
        process.stop()
        cable.close()


def _pieces(size: int) -> Iterator[bytes]:
    piece = b"y" * 65_536
    for _ in range(size // len(piece)):
        yield piece


def test_large_bodies_pass_both_ways_without_being_held(shop: Shop) -> None:
    customer = shop.customer()
    customer.call()
    before = shop.gateway.rss_kb()
    peer = http.client.HTTPConnection(urlsplit(shop.gateway.url).netloc, timeout=60)
    key = {"X-API-Key": customer.issued.clear}

    peer.request("POST", f"/{SLUG}/echo", _pieces(BIG), key | {"Content-Length": str(BIG)})
    echoed = peer.getresponse().read()
    peer.request("PUT", f"/{SLUG}/echo", _pieces(BIG), key, encode_chunked=True)
    echoed_chunked = peer.getresponse().read()
    peer.request("GET", f"/{SLUG}/big/{BIG}", headers=key)
    response, size, peak = peer.getresponse(), 0, 0
    while piece := response.read(MEGABYTE):
        size += len(piece)
        peak = max(peak, shop.gateway.rss_kb())
    peer.close()

    digest = hashlib.sha256(b"y" * BIG).hexdigest().encode()
    assert digest in echoed
    assert digest in echoed_chunked
    assert size == BIG
    assert peak - before < 20 * 1024, "the gateway held a body in memory"
    assert [(event["in"], event["out"] >= BIG) for event in customer.events()[1:]] == [
        (BIG, False),
        (BIG, False),
        (0, True),
    ]


def test_slow_reader_does_not_fill_the_memory(shop: Shop) -> None:
    customer = shop.customer()
    customer.call()
    before = shop.gateway.rss_kb()
    peer = http.client.HTTPConnection(urlsplit(shop.gateway.url).netloc, timeout=60)

    peer.request("GET", f"/{SLUG}/big/{BIG}", headers={"X-API-Key": customer.issued.clear})
    response = peer.getresponse()
    response.read(10)
    time.sleep(1)

    assert shop.gateway.rss_kb() - before < 20 * 1024
    assert len(response.read()) == BIG - 10
    peer.close()


def test_any_api_can_stand_behind_as_the_guide_says(shop: Shop) -> None:
    """docs/your-api.md, with its sample that knows nothing of Farebox."""
    with running("examples.second", UNITS_TOKEN="only-farebox-knows") as units:
        assert units.get("/convert?value=26.2&from=mi&to=km").status == 401
        product = create_product(
            "units", upstream_url=units.url, credential_header="Authorization",
            credential="Bearer only-farebox-knows",
        )  # fmt: skip
        create_route(product, "/convert", methods=("GET",), position=1)
        create_route(product, "/units", methods=("GET",), position=2, units=Decimal(0))
        create_route(
            product,
            "/batch",
            methods=("POST",),
            position=3,
            units=Decimal(10),
            required_feature="all_endpoints",
        )
        create_route(product, "/caller", methods=("GET",), position=4)
        customer: Customer = shop.customer(features=("all_endpoints",))

        answer = wait_for(lambda: _found(customer, "/convert?value=26.2&from=mi&to=km"))

        assert answer.status == 200
        assert answer.json["result"] == "42.1648128"
        assert customer.call("/units", product="units").status == 200
        assert customer.organization.public_id in str(customer.call("/caller", product="units").json)
        assert customer.call("/nowhere", product="units").status == 404
        assert_refused(
            shop.customer().call("/batch", "POST", b"{}", product="units"), 403, "feature_not_in_plan"
        )
        assert [event["qty"] for event in customer.events()] == [1, 0, 1]


def _found(customer: Customer, path: str) -> Any:
    answer = customer.call(path, product="units")
    return answer if answer.status != 404 else None
