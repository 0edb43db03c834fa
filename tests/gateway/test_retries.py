"""Several servers behind a real gateway: some of them fail, no call is billed twice.

The servers are one API: what stands in a server's address decides how it behaves (`/status/503/echo` answers 503).
"""

import http.client
import time
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from core.redis import usage_redis
from core.redis_layout import usage_key
from gateway.pools import EJECT_AFTER
from plans.models import Period, Product, UpstreamServer
from plans.upstream_states import read_states
from tests.factories import create_product, create_route
from tests.gateway.kit import METHODS, Customer, Shop, wait_for

pytestmark = pytest.mark.usefixtures("shop")
_number = count(1)


@pytest.fixture(autouse=True)
def _empty_log(shop: Shop) -> None:
    shop.log()


def pool(
    shop: Shop, *servers: str, retry_calls: bool = True, timeout_ms: int = 30_000, **of_each: Any
) -> str:
    """A new product with these servers, by what stands in their addresses; its slug, once the gateway knows it."""
    slug = f"pool{next(_number)}"
    product = create_product(slug)
    Product.objects.filter(pk=product.pk).update(retry_calls=retry_calls)
    for server in servers:
        url = server if server.startswith("http") else shop.upstream.url + server
        UpstreamServer.objects.create(product=product, base_url=url, **of_each)
    create_route(product, "/*", methods=METHODS, timeout_ms=timeout_ms)
    wait_for(lambda: shop.gateway.api.send("DELETE", f"/{slug}/x").status in (401, 405))
    customer = shop.customer()
    wait_for(lambda: customer.call("/x", "DELETE", product=slug).status == 405)
    return slug


def charged(customer: Customer) -> int:
    """What Redis has counted for its period."""
    period = Period.objects.for_organization(customer.organization).earliest("starts_at")
    key = usage_key(customer.organization.shard, customer.organization.pk, "live", period.pk)
    counted: Any = usage_redis().hgetall(key)
    return sum(int(value) for field, value in counted.items() if not field.startswith(b"r"))


DEAD = "http://127.0.0.1:9"


@pytest.mark.parametrize("bad", ["/status/503", "/status/502", "/status/504", "/hang-up", DEAD])
def test_safe_calls_do_not_see_a_server_that_fails_and_are_billed_once(shop: Shop, bad: str) -> None:
    customer, slug = shop.customer(), pool(shop, bad, "")

    answers = [customer.call(product=slug) for _ in range(16)]

    assert {answer.status for answer in answers} == {200}
    events = customer.events()
    assert len(events) == 16
    assert {event["qty"] for event in events} == {Decimal(1)}
    assert charged(customer) == 16
    tried_twice = [event for event in events if event.get("props")]
    assert [event["props"] for event in tried_twice] == [
        {"attempts": 2}
    ] * EJECT_AFTER  # then it was left out
    log = shop.log()
    assert log.count("echo") == 16
    if bad.startswith("/status"):
        assert len(log) == 16 + EJECT_AFTER


def test_other_calls_are_tried_again_only_where_no_server_saw_them(shop: Shop) -> None:
    customer, slug = shop.customer(), pool(shop, DEAD, "")
    answers = [customer.call("/echo", "POST", b"x" * 5000, product=slug) for _ in range(12)]
    assert {(answer.status, answer.json["size"]) for answer in answers} == {(200, 5000)}
    assert sum("props" in event for event in customer.events()) == EJECT_AFTER
    assert charged(customer) == 12

    shop.log()
    customer, slug = shop.customer(), pool(shop, "/status/503", "")
    statuses = [customer.call("/echo", "POST", b"x", product=slug).status for _ in range(16)]
    assert statuses.count(503) == EJECT_AFTER
    assert statuses.count(200) == 16 - EJECT_AFTER
    assert len(shop.log()) == 16  # each call was sent once
    assert [event["qty"] for event in customer.events()].count(Decimal(0)) == EJECT_AFTER
    assert charged(customer) == 16 - EJECT_AFTER


def test_where_the_product_does_not_retry_failures_pass(shop: Shop) -> None:
    customer, slug = shop.customer(), pool(shop, "/status/503", "", retry_calls=False)
    statuses = [customer.call(product=slug).status for _ in range(16)]
    assert statuses.count(503) == EJECT_AFTER


def test_an_answer_that_says_when_to_come_again_passes(shop: Shop) -> None:
    customer, slug = shop.customer(), pool(shop, "/busy", "/busy/too")
    answer = customer.call(product=slug)
    assert (answer.status, answer.headers["retry-after"], answer.body) == (503, "7", b"busy")
    assert shop.log() == ["busy"]


def test_with_no_server_well_the_last_answer_passes_unbilled(shop: Shop) -> None:
    customer, slug = (
        shop.customer(),
        pool(shop, "/status/503/a", "/status/503/b", "/status/503/c", "/status/503/d"),
    )
    answer = customer.call(product=slug)
    assert (answer.status, answer.body) == (503, b"503")
    event = customer.only_event()
    assert (event["qty"], event["reason"], event["props"]) == (0, "upstream_error", {"attempts": 3})
    assert charged(customer) == 0


def test_an_answer_that_was_begun_is_never_tried_again_but_counts_against_its_server(shop: Shop) -> None:
    customer, slug = shop.customer(), pool(shop, "/cut", "")
    cut = 0
    for _ in range(16):
        try:
            assert customer.call(product=slug).status == 200
        except http.client.IncompleteRead:
            cut += 1
    assert cut == EJECT_AFTER
    assert len(shop.log()) == 16
    wait_for(lambda: len(customer.events()) == 16)
    assert charged(customer) == 16 - EJECT_AFTER


def test_a_slow_server_is_left_out_too(shop: Shop) -> None:
    customer, slug = shop.customer(), pool(shop, "/slow/5", "", timeout_ms=400)
    statuses = [customer.call(product=slug).status for _ in range(16)]
    assert shop.log().count("slow") == EJECT_AFTER
    assert set(statuses) == {200, 504}


def test_a_standby_is_asked_when_the_first_position_is_out(shop: Shop) -> None:
    customer, slug = shop.customer(), pool(shop, DEAD)
    product = Product.objects.get(slug=slug)
    UpstreamServer.objects.create(product=product, base_url=shop.upstream.url, position=1)
    wait_for(lambda: customer.call(product=slug).status == 200)
    assert {customer.call(product=slug).status for _ in range(10)} == {200}


def test_a_server_that_fails_its_checks_gets_no_calls_and_gets_them_again(shop: Shop) -> None:
    customer, slug = shop.customer(), pool(shop, "", "/echo")
    row = UpstreamServer.objects.get(product__slug=slug, base_url=shop.upstream.url)
    UpstreamServer.objects.filter(pk=row.pk).update(check_path="/status/500", check_seconds=1)

    def state() -> set[str]:
        seen = read_states(usage_redis(), at_s=time.time()).get(f"product:{row.pk}", {})
        return {one.state for one in seen.values()}

    wait_for(lambda: state() == {"unwell"}, within=20)
    targets = {customer.call("/mine", product=slug).json["target"] for _ in range(6)}
    assert targets == {"/echo/mine"}

    UpstreamServer.objects.filter(pk=row.pk).update(check_path="/status/200")
    wait_for(lambda: state() == {"healthy"}, within=20)
    targets = {customer.call("/mine", product=slug).json["target"] for _ in range(6)}
    assert targets == {"/echo/mine", "/mine"}
    UpstreamServer.objects.filter(pk=row.pk).update(check_path="")
    time.sleep(1.5)  # until the gateway knows: other tests look at what reaches the API


def test_one_server_in_the_list_takes_the_place_of_the_address(shop: Shop) -> None:
    customer, slug = shop.customer(), pool(shop, "/echo")
    assert customer.call("/mine", product=slug).json["target"] == "/echo/mine"
    assert "props" not in customer.only_event()
