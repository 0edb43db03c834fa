"""Limits by route and key at the gateway, agreed ones on every worker, and what is told of them at the other doors."""

import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from core.clock import now
from plans.models import OverrideKind, Route
from plans.overrides import Grant, end_override, set_override
from tests.factories import create_key, create_organization
from tests.gateway.kit import SLUG, Customer, Process, Shop
from tests.plans.price_kit import component, put_on, version_of


def customer_with(shop: Shop, *limits: dict[str, Any]) -> Customer:
    organization = create_organization()
    meter = shop.routes["/*"].meter
    put_on(organization, version_of(component(meter, model="per_unit", unit_price=Decimal(0)), limits=limits))
    issued = create_key(organization=organization)
    organization.refresh_from_db()
    return Customer(organization, issued, shop.gateway.api)


def on(route: Route, calls: int, seconds: int = 60, **more: Any) -> dict[str, Any]:
    return {"scope": "route", "route": route, "calls": calls, "window_seconds": seconds} | more


@pytest.fixture
def other_worker(shop: Shop) -> Iterator[Process]:
    process = Process().wait_until_ready()
    yield process
    process.stop()


def statuses(customer: Customer, path: str, count: int) -> list[int]:
    return [customer.call(path).status for _ in range(count)]


def test_a_route_has_its_own_windows(shop: Shop) -> None:
    customer = customer_with(shop, on(shop.routes["/get"], 2), on(shop.routes["/get"], 3, 3_600))
    assert statuses(customer, "/get", 3) == [200, 200, 429]
    refused = customer.call("/get")
    assert refused.json["code"] == "route_rate_limited"
    assert refused.headers["ratelimit"].startswith('"route-minute";r=0;t=')
    assert statuses(customer, "/echo", 3) == [200] * 3
    assert len(customer.events()) == 5


def test_units_in_a_window_and_a_call_that_never_fits(shop: Shop) -> None:
    meter = shop.routes["/five"].meter
    customer = customer_with(shop, {"calls": 12, "measure": "units", "meter": meter})
    answers = [customer.call("/five") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].json["code"] == "unit_rate_limited"
    assert answers[0].headers["ratelimit"].startswith(f'"{meter.slug.replace("_", "-")}-minute";r=7;t=')
    assert f'qu="{meter.slug}"' in answers[0].headers["ratelimit-policy"]
    small = customer_with(shop, {"calls": 4, "measure": "units", "meter": meter})
    refused = small.call("/five")
    assert (refused.status, refused.json["code"]) == (429, "request_larger_than_limit")
    assert refused.headers["x-should-retry"] == "false"


def test_what_is_not_billed_gives_its_units_back(shop: Shop) -> None:
    customer = customer_with(shop, {"calls": 1, "measure": "units", "meter": shop.routes["/*"].meter})
    assert customer.call("/status/500").status == 500
    assert statuses(customer, "/echo", 2) == [200, 429]


def test_a_key_has_as_many_open_calls_as_its_plan_gives_each(shop: Shop) -> None:
    customer = customer_with(
        shop, {"scope": "key", "calls": 1, "measure": "concurrency", "window_seconds": 0}
    )
    other = create_key(organization=customer.organization)
    assert statuses(customer, "/echo", 5) == [200] * 5  # one after another
    assert customer.call("/echo", key=other.clear).status == 200


def test_agreed_numbers_hold_on_every_worker_within_a_second(shop: Shop, other_worker: Process) -> None:
    customer = customer_with(shop, on(shop.routes["/get"], 1))
    both = (shop.gateway.api, other_worker.api)
    assert [customer.call("/get", via=via).status for via in both] == [200, 429]
    grant = Grant(OverrideKind.RATE_LIMIT, Decimal(3), 60, scope="route", route=shop.routes["/get"])
    override = set_override(
        organization=customer.organization, grant=grant, reason="launch", by=None, at=now()
    )
    begun = time.monotonic()
    assert [customer.call("/get", via=via).status for via in (*both, *both)] == [200, 200, 429, 429]
    assert time.monotonic() - begun < 10  # no waiting for records to grow old: they live a minute
    end_override(override=override, by=None, at=now())
    refused = [customer.call("/get", via=via) for via in both]
    assert [answer.headers["x-ratelimit-limit"] for answer in refused] == ["1", "1"]


def test_the_policy_names_every_window(shop: Shop) -> None:
    assert shop.product.slug == SLUG
    customer = customer_with(
        shop, on(shop.routes["/get"], 2), {"scope": "key", "calls": 50, "window_seconds": 1}
    )
    assert customer.call("/get").status == 200
    policy = customer.call("/get").headers["ratelimit-policy"]
    assert policy == '"minute";q=1000000;w=60, "key-second";q=50;w=1, "route-minute";q=2;w=60'
