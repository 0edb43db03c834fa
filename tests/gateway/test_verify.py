"""`POST /api/keys/verify`: what the owner's own services are told of a key, and what they charge with it."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest

from core.clock import now
from core.redis import usage_redis
from keys.hashing import make_key
from keys.services import issue_owner_key, revoke_key, revoke_owner_key
from metering.drain import drain_shard
from metering.models import UsageEvent
from plans.suspension import suspend_organization
from tests.examples.processes import Answer
from tests.factories import create_key, create_meter, create_organization, expire_key
from tests.gateway.kit import SLUG, Customer, Process, Shop, wait_for
from tests.gateway.test_refusals import assert_refused

OWNER = "owner-key-for-tests-only-0123456789"
PATH = "/api/keys/verify"


def ask(
    shop: Shop, customer: Customer | str, *, owner: str = OWNER, via: Process | None = None, **question: Any
) -> Answer:
    key = customer if isinstance(customer, str) else customer.issued.clear
    return send(shop, orjson.dumps({"key": key} | question), owner=owner, via=via)


def send(
    shop: Shop, body: bytes, *, owner: str = OWNER, via: Process | None = None, **headers: str
) -> Answer:
    sent = {"Content-Type": "application/json", "Authorization": f"Bearer {owner}"} | headers
    return (via or shop.gateway).api.send("POST", PATH, body=body, headers=sent)


def decision(answer: Answer) -> tuple[bool, str, int]:
    assert answer.status == 200, answer.body
    return answer.json["allowed"], answer.json["code"], answer.json["status"]


def test_a_good_key_is_allowed_and_told_about(shop: Shop) -> None:
    customer = shop.customer(
        key={"scopes": (f"product:{SLUG}",), "calls_per_minute": 5, "expires_at": now() + timedelta(days=1)},
        included=Decimal(7), features=("webhooks",),
    )  # fmt: skip
    assert customer.call().status == 200

    answer = ask(shop, customer, route=shop.routes["/five"].public_id)

    assert decision(answer) == (True, "", 200)
    document = answer.json
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["organization"] == customer.organization.public_id
    assert document["key"] == customer.issued.key.public_id
    assert (document["mode"], document["plan"]) == (
        "live",
        customer.organization.subscriptions.get().version.plan.slug,
    )
    assert document["features"] == ["webhooks"]
    assert document["scopes"] == [f"product:{SLUG}"]
    assert document["expires_at"] > now().isoformat()
    limits = {(w["of"], w["window_seconds"]): (w["limit"], w["remaining"]) for w in document["rate_limits"]}
    assert limits == {("organization", 60): (1000, 999), ("key", 60): (5, 4)}
    usage = document["usage"]
    assert (usage["meter"], usage["used"], usage["quota"], usage["left"]) == ("api_calls", "1", "7", "6")
    assert 0 < usage["reset_seconds"] <= 31 * 86_400
    assert "charge" not in document


def test_looking_counts_nothing(shop: Shop) -> None:
    customer = shop.customer(per_minute=1, included=Decimal(1))
    for _ in range(3):
        assert decision(ask(shop, customer, product=SLUG, path="/echo"))[0]
    assert customer.events() == []
    assert customer.call().status == 200


def test_limits_and_quota_are_refused_as_the_gateway_refuses_them(shop: Shop) -> None:
    customer = shop.customer(per_minute=3, included=Decimal(4))
    assert customer.call("/five").status == 429
    answer = ask(shop, customer, route=shop.routes["/five"].public_id)
    assert decision(answer) == (False, "quota_exceeded", 429)
    assert answer.json["usage"]["left"] == "4"
    assert [customer.call().status for _ in range(4)] == [200, 200, 200, 429]

    limited = ask(shop, customer)

    assert decision(limited) == (False, "rate_limited", 429)
    assert 0 < limited.json["retry_after"] <= 61
    assert limited.json["rate_limits"][0]["remaining"] == 0


def test_what_opens_no_door_says_no_more_than_the_gateway(shop: Shop) -> None:
    revoked, unknown = shop.customer(), make_key("live")
    assert decision(ask(shop, revoked))[0]
    revoke_key(key=revoked.issued.key, by=None, at=now())

    answers = [ask(shop, key).json for key in (revoked, unknown, "nonsense", make_key("owner"), OWNER)]

    assert all(answer.pop("request_id") for answer in answers)
    assert answers[1:] == answers[:-1]
    assert set(answers[0]) == {"allowed", "code", "status", "title", "detail", "retry_after"}
    assert (answers[0]["code"], answers[0]["status"]) == ("invalid_key", 401)


def test_who_is_known_but_may_not_is_named(shop: Shop) -> None:
    narrow = shop.customer(key={"scopes": (f"route:{shop.routes['/five'].public_id}",)})
    expired, closed = shop.customer(), shop.customer()
    expire_key(expired.issued.key, at=now() - timedelta(seconds=1))
    suspend_organization(organization=closed.organization, reason="abuse", by=None, at=now())

    assert decision(ask(shop, narrow, product=SLUG, path="/five"))[0]
    out = ask(shop, narrow, product=SLUG, path="/echo")
    assert decision(out) == (False, "out_of_scope", 403)
    assert out.json["organization"] == narrow.organization.public_id
    assert decision(ask(shop, narrow))[0]  # about the key alone
    assert decision(ask(shop, narrow, product=SLUG)) == (False, "out_of_scope", 403)
    assert decision(ask(shop, narrow, product=SLUG, path="/pro"))[1] == "out_of_scope"
    assert decision(ask(shop, closed, product=SLUG, path="/pro"))[1] == "feature_not_in_plan"
    assert decision(ask(shop, expired)) == (False, "key_expired", 401)
    assert decision(ask(shop, closed)) == (False, "suspended", 402)
    assert decision(ask(shop, narrow, product=SLUG, path="/../x")) == (False, "not_found", 404)
    assert decision(ask(shop, narrow, product=SLUG, path="/get", method="PATCH")) == (
        False,
        "method_not_allowed",
        405,
    )


def test_a_charge_is_one_billed_event_whatever_is_repeated(shop: Shop) -> None:
    customer = shop.customer(included=Decimal(10))

    first = ask(
        shop, customer, route=shop.routes["/five"].public_id, units="3", charge="order-1", resource="map/7"
    )
    with ThreadPoolExecutor(4) as threads:
        again = list(
            threads.map(
                lambda _: ask(shop, customer, meter="api_calls", units="3", charge="order-1"), range(8)
            )
        )

    event = customer.only_event()
    charge = first.json["charge"]
    assert charge == {"id": "order-1", "known": False, "units": "3", "event_id": event["id"]}
    assert (event["qty"], event["door"], event["xid"], event["src"]) == (3, "verify", "order-1", "verify")
    assert (event["route"], event["props"]) == (str(shop.routes["/five"].pk), {"resource": "map/7"})
    assert event["rid"] == first.headers["x-request-id"]
    assert {orjson.dumps(one.json["charge"]) for one in again} == {b'{"id":"order-1","known":true}'}
    assert {one.json["usage"]["left"] for one in again} == {"7"}
    drain_shard(customer.organization.shard, at=now())
    row = UsageEvent.objects.get(organization_id=customer.organization.pk)
    assert (row.quantity, row.external_id, row.reason) == (3, "order-1", "")


def test_a_charge_that_does_not_fit_is_refused_and_not_made(shop: Shop) -> None:
    customer = shop.customer(included=Decimal(4))

    assert decision(ask(shop, customer, meter="api_calls", units="5", charge="big")) == (
        False,
        "quota_exceeded",
        429,
    )
    small = ask(shop, customer, meter="api_calls", units="4", charge="big")

    assert decision(small)[0]
    assert small.json["usage"]["left"] == "0"
    assert customer.only_event()["qty"] == 4


def test_parallel_charges_fill_a_quota_exactly(shop: Shop) -> None:
    customer = shop.customer(included=Decimal(10))
    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(lambda n: ask(shop, customer, meter="api_calls", charge=f"n{n}").json, range(30))
        )
    assert sum(answer["allowed"] for answer in answers) == 10
    assert len(customer.events()) == 10


def test_a_test_key_stays_a_test(shop: Shop) -> None:
    customer = shop.customer(key={"mode": "test"})
    assert ask(shop, customer, meter="api_calls", charge="t").json["mode"] == "test"
    assert customer.only_event()["mode"] == "test"


@pytest.mark.parametrize("owner", ["", "wrong", "fb_owner_" + "a" * 38])
def test_only_an_owner_key_may_ask(shop: Shop, owner: str) -> None:
    customer = shop.customer()
    answer = ask(shop, customer, owner=owner)
    assert_refused(answer, 401, "invalid_key" if owner else "missing_key")
    assert customer.organization.public_id.encode() not in answer.body


def test_no_customer_may_ask_about_anybody(shop: Shop) -> None:
    alice, charlie = shop.customer(), shop.customer()
    for key in (alice.issued.clear, charlie.issued.clear):
        assert_refused(ask(shop, alice, owner=key), 401, "invalid_key")


def test_an_owner_key_opens_and_closes_within_a_second_or_two(shop: Shop) -> None:
    customer = shop.customer()
    owner_key, clear = issue_owner_key(name="edge", at=now())
    wait_for(lambda: ask(shop, customer, owner=clear).status == 200)
    sent = {"Content-Type": "application/json", "X-Admin-Key": clear}
    body = orjson.dumps({"key": customer.issued.clear})
    assert shop.gateway.api.send("POST", PATH, body=body, headers=sent).status == 200

    revoke_owner_key(key=owner_key, at=now())

    wait_for(lambda: ask(shop, customer, owner=clear).status == 401)


@pytest.mark.parametrize("scope", ["revenue", "tenants"])
def test_an_owner_key_without_the_scope_of_usage_asks_and_charges_nothing(shop: Shop, scope: str) -> None:
    customer = shop.customer()
    _, clear = issue_owner_key(name=scope, at=now(), scopes=[scope])
    wait_for(lambda: ask(shop, customer, owner=clear).status == 403)
    assert_refused(
        ask(shop, customer, owner=clear, meter="api_calls", charge="one"), 403, "owner_scope_missing"
    )
    assert customer.events() == []


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ({"units": 3}, "units"), ({"units": "-1", "meter": "api_calls"}, "units"), ({"units": "1.5", "meter": "api_calls"}, "units"),
        ({"units": "x", "meter": "api_calls"}, "units"), ({"units": "1"}, "units"), ({"charge": "a"}, "charge"),
        ({"charge": "", "meter": "api_calls"}, "charge"), ({"charge": "a" * 201, "meter": "api_calls"}, "charge"),
        ({"charge": "a\0", "meter": "api_calls"}, "charge"), ({"meter": "nothing"}, "meter"), ({"route": "route_no"}, "route"),
        ({"product": "no"}, "product"), ({"path": "/x"}, "path"), ({"path": "x", "product": SLUG}, "path"),
        ({"route": "r", "product": SLUG}, "route"), ({"meter": "api_calls", "route": "r"}, "meter"), ({"more": "x"}, "more"),
    ],
)  # fmt: skip
def test_a_question_that_makes_no_sense_names_its_field(
    shop: Shop, question: dict[str, Any], field: str
) -> None:
    customer = shop.customer()
    document = assert_refused(ask(shop, customer, **question), 400, "verification_invalid")
    assert f"`{field}`" in document["detail"]
    assert customer.events() == []


def test_bodies_are_json_of_reasonable_size(shop: Shop) -> None:
    assert_refused(send(shop, b"{"), 400, "parse_error")
    assert_refused(send(shop, b"[]"), 400, "parse_error")
    assert_refused(send(shop, b"{}"), 400, "verification_invalid")
    assert_refused(send(shop, b"{}", **{"Content-Type": "text/plain"}), 415, "unsupported_media_type")
    assert_refused(send(shop, b" " * 20_000), 413, "body_too_large")
    answer = shop.gateway.api.get(PATH, headers={"Authorization": f"Bearer {OWNER}"})
    assert_refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_guesses_are_counted_by_the_address_that_is_named(shop: Shop) -> None:
    customer = shop.customer()
    codes = [ask(shop, make_key("live"), address="192.0.2.77").json["code"] for _ in range(125)]
    assert set(codes[:120]) == {"invalid_key"}
    assert codes[-1] == "too_many_unknown_keys"
    assert decision(ask(shop, customer, address="192.0.2.78"))[0]


def test_a_known_key_costs_no_query_and_one_round_trip(shop: Shop) -> None:
    customer = shop.customer()
    ask(shop, customer, meter="api_calls")
    with usage_redis() as client:
        before: Any = client.info("commandstats")
        for _ in range(20):
            ask(shop, customer, meter="api_calls")
        after: Any = client.info("commandstats")
    calls = after["cmdstat_evalsha"]["calls"] - before["cmdstat_evalsha"]["calls"]
    assert 20 <= calls <= 24  # other workers' renewals and pushes may fall between


def test_a_changed_plan_and_a_new_key_are_known_at_once(shop: Shop) -> None:
    customer = shop.customer()
    assert decision(ask(shop, customer))[0]
    second = create_key(organization=customer.organization).clear
    assert decision(ask(shop, second))[0]
    suspend_organization(organization=customer.organization, reason="abuse", by=None, at=now())
    began = time.monotonic()
    assert decision(ask(shop, customer)) == (False, "suspended", 402)
    assert time.monotonic() - began < 2


def test_units_of_a_meter_with_decimals(shop: Shop) -> None:
    meter = create_meter("tokens_verify", decimals=2, unit="token")
    customer = shop.customer(meter=meter, included=Decimal(1))
    wait_for(lambda: ask(shop, customer, meter=meter.slug).status == 200)
    assert ask(shop, customer, meter=meter.slug, units="0.25", charge="x").json["usage"]["left"] == "0.75"
    assert customer.only_event()["qty"] == Decimal("0.25")
    assert create_organization().pk != customer.organization.pk
