import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.test import Client
from django.urls import path
from redis import Redis
from rest_framework import serializers
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.clock import now
from core.redis_thread import ThreadClient
from keys import guesses, record_cache
from keys.hashing import make_key
from keys.services import revoke_key, rotate_key
from metering import drf
from metering.calls import Settled, Settlement
from metering.drain import drain_all
from metering.engine import Engine, MeteringUnavailable
from metering.models import RefusalCount, UsageEvent
from metering.reconcile import reconcile
from metering.refusals import drain_refusals
from metering.standing import MeterStanding, meter_standings
from plans.models import Meter, OverrideKind
from plans.overrides import Grant, set_override
from plans.queries import current_subscription
from plans.services import change_plan
from plans.suspension import suspend_organization
from plans.versions import raise_version
from tests.factories import create_key, create_organization, create_plan, create_product, expire_key
from tests.metering.api_kit import SEARCH, Customer, commands, problem

GONE = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def _own_ledger(transactional_db: None, usage_redis: Redis) -> Iterator[None]:
    yield
    drf.forget_cached()


@pytest.fixture
def customer() -> Customer:
    return Customer.start()


def test_a_call_is_answered_with_what_is_left_and_stands_in_the_stream(customer: Customer) -> None:
    response = customer.get()
    assert response.status_code == 200
    assert response.json()["results"][0]["name"] == "Lisbon"  # type: ignore[attr-defined]
    assert response["X-RateLimit-Limit"] == "100"
    assert response["X-RateLimit-Remaining"] == "99"
    assert response["RateLimit"].startswith('"minute";r=99;t=')
    assert response["RateLimit-Policy"].startswith('"minute";q=100;w=60, "period";q=1000;w=')
    (event,) = customer.events()
    expected = {
        "door": "drf", "status": 200, "mode": "live", "org": str(customer.organization.pk),
        "key": str(customer.issued.key.pk), "route": str(customer.route.pk), "product": str(customer.product.pk),
        "meter": str(customer.route.meter_id), "rid": response["X-Request-Id"], "out": len(response.content),
    }  # fmt: skip
    assert {name: event.get(name) for name in expected} == expected
    assert Decimal(event["qty"]) == 1
    assert event.get("reason", "") == ""


def test_both_headers_carry_a_key(customer: Customer) -> None:
    clear = customer.issued.clear
    assert customer.client.get(SEARCH, headers={"X-API-Key": clear}).status_code == 200
    assert customer.client.get(SEARCH, headers={"Authorization": f"bearer {clear}"}).status_code == 200
    assert customer.client.get(SEARCH, {"key": clear}).status_code == 401
    assert len(customer.events()) == 2


def wrong_keys(customer: Customer) -> dict[str, dict[str, str]]:
    clear = customer.issued.clear
    last = "a" if clear[-1] != "a" else "b"
    revoked = create_key(organization=customer.organization, name="old")
    revoke_key(key=revoked.key, by=None, at=now())
    return {
        "none": {},
        "basic": {"Authorization": "Basic QWxhZGRpbjpvcGVu"},
        "empty": {"Authorization": "Bearer "},
        "malformed": {"Authorization": "Bearer what-is-this"},
        "checksum": {"Authorization": f"Bearer {clear[:-1]}{last}"},
        "nul": {"Authorization": f"Bearer {clear}\0"},
        "not ascii": {"Authorization": f"Bearer {clear[:-1]}é"},
        "revoked": {"Authorization": f"Bearer {revoked.clear}"},
    }


def test_without_a_valid_key_nothing_runs_and_nothing_is_counted(customer: Customer) -> None:
    for name, headers in wrong_keys(customer).items():
        response = customer.client.get(SEARCH, headers=headers)
        missing = name in ("none", "basic", "empty")
        problem(response, 401, "missing_key" if missing else "invalid_key")
        assert response["WWW-Authenticate"].startswith("Bearer")
    assert customer.events() == []


def test_an_unknown_key_and_a_revoked_one_read_the_same(customer: Customer) -> None:
    other = create_key(organization=customer.organization, name="deleted")
    other.key.delete()
    answers = [customer.get(key=other.clear), customer.get(key="nonsense")]
    documents = [problem(answer, 401, "invalid_key") for answer in answers]
    for document in documents:
        document.pop("request_id")
    assert documents[0] == documents[1]


def test_a_key_that_was_revoked_is_refused_on_the_next_call(customer: Customer) -> None:
    assert customer.get().status_code == 200
    revoke_key(key=customer.issued.key, by=None, at=now())
    problem(customer.get(), 401, "invalid_key")
    assert len(customer.events()) == 1


def test_a_key_that_was_rotated_at_once_is_refused_on_the_next_call(customer: Customer) -> None:
    assert customer.get().status_code == 200
    rotate_key(key=customer.issued.key, grace=timedelta(0), by=None, at=now())
    problem(customer.get(), 401, "key_expired")
    assert len(customer.events()) == 1


def test_a_feature_that_was_taken_away_closes_the_route_at_once() -> None:
    customer = Customer.start(route={"required_feature": "export"})
    for kind, status in ((OverrideKind.FEATURE_ON, 200), (OverrideKind.FEATURE_OFF, 403)):
        grant = Grant(kind, feature="export")
        set_override(organization=customer.organization, grant=grant, reason="test", by=None, at=now())
        assert customer.get().status_code == status
    assert len(customer.events()) == 1


def test_an_expired_key_says_so(customer: Customer) -> None:
    expire_key(customer.issued.key, at=now() - timedelta(seconds=1))
    problem(customer.get(), 401, "key_expired")
    assert customer.events() == []


def test_a_key_that_expires_while_it_is_known_is_refused(customer: Customer) -> None:
    expire_key(customer.issued.key, at=now() + timedelta(milliseconds=1500))
    assert customer.get().status_code == 200
    time.sleep(1.6)
    problem(customer.get(), 401, "key_expired")


def test_scopes_and_features_are_held(customer: Customer) -> None:
    create_product("text")
    scoped = create_key(organization=customer.organization, name="other", scopes=("product:text",))
    problem(customer.get(key=scoped.clear), 403, "out_of_scope")
    fitting = create_key(organization=customer.organization, name="fits", scopes=("product:places",))
    assert customer.get(key=fitting.clear).status_code == 200
    customer.route.required_feature = "all_endpoints"
    customer.route.save()
    drf.forget_cached()
    problem(customer.get(), 403, "feature_not_in_plan")
    assert len(customer.events()) == 1


def test_a_refusal_of_a_known_key_costs_no_query(customer: Customer, django_assert_num_queries: Any) -> None:
    create_product("text")
    scoped = create_key(organization=customer.organization, name="other", scopes=("product:text",))
    problem(customer.get(key=scoped.clear), 403, "out_of_scope")
    with django_assert_num_queries(0):
        problem(customer.get(key=scoped.clear), 403, "out_of_scope")


def test_a_feature_that_the_plan_gained_opens_the_route_at_once() -> None:
    customer = Customer.start(route={"required_feature": "all_endpoints"})
    problem(customer.get(), 403, "feature_not_in_plan")
    wider = create_plan("wider", fee_minor=100, trial_days=14, per_minute=50, features=("all_endpoints",))
    subscription = current_subscription(customer.organization, at=now())
    change_plan(subscription=subscription, version=wider, by=None, at=now())
    assert customer.get().status_code == 200


def test_an_address_that_guesses_keys_waits_and_customers_go_on(
    customer: Customer, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    assert customer.get().status_code == 200
    monkeypatch.setattr(guesses, "MISSES_A_MINUTE", 3)
    keys = [make_key("live") for _ in range(4)]
    for key in keys[:3]:
        problem(customer.get(key=key), 401, "invalid_key")
    with django_assert_num_queries(0):
        answer = customer.get(key=keys[3])
    problem(answer, 429, "too_many_unknown_keys")
    assert answer["Retry-After"] == "60"
    assert customer.get().status_code == 200


def test_refusals_are_counted_for_the_organization(customer: Customer) -> None:
    create_product("text")
    scoped = create_key(organization=customer.organization, name="other", scopes=("product:text",))
    for _ in range(3):
        customer.get(key=scoped.clear)
    drain_refusals()
    found = RefusalCount.objects.for_organization(customer.organization)
    assert [(row.reason, row.count) for row in found] == [("out_of_scope", 3)]


def test_a_suspended_organization_is_refused_with_402_at_once(customer: Customer) -> None:
    assert customer.get().status_code == 200
    suspend_organization(organization=customer.organization, by=None, at=now(), reason="abuse")
    answer = customer.get()
    problem(answer, 402, "suspended")
    assert answer["x-should-retry"] == "false"
    assert len(customer.events()) == 1


# --- limits ------------------------------------------------------------------------------------------------------


def test_the_rate_limit_says_when_to_come_back() -> None:
    customer = Customer.start(per_minute=3)
    assert [customer.get().status_code for _ in range(3)] == [200] * 3
    answer = customer.get()
    problem(answer, 429, "rate_limited")
    assert 0 < int(answer["Retry-After"]) <= 61
    assert answer["X-RateLimit-Remaining"] == "0"
    assert "x-should-retry" not in answer
    assert len(customer.events()) == 3


def test_the_limit_of_a_key_is_its_own() -> None:
    customer = Customer.start(key={"calls_per_minute": 2}, per_minute=50)
    other = create_key(organization=customer.organization, name="other")
    assert [customer.get().status_code for _ in range(2)] == [200] * 2
    answer = customer.get()
    problem(answer, 429, "key_rate_limited")
    assert '"key-minute";q=2;w=60' in answer["RateLimit-Policy"]
    assert customer.get(key=other.clear).status_code == 200


def test_a_used_quota_says_not_to_retry() -> None:
    customer = Customer.start(included=Decimal(2))
    assert [customer.get().status_code for _ in range(2)] == [200] * 2
    answer = customer.get()
    assert (
        problem(answer, 429, "quota_exceeded")["title"] == "The quota of this period is used"
    )  # as the gateway's
    assert answer["x-should-retry"] == "false"
    assert customer.billed() == 2


def test_a_used_quota_of_one_organization_is_nobody_elses() -> None:
    customer = Customer.start(included=Decimal(1))
    other = create_organization(plan="starter")
    assert [customer.get().status_code for _ in range(2)] == [200, 429]
    assert customer.get(key=create_key(organization=other).clear).status_code == 200


def test_five_hundred_calls_at_once_use_a_quota_of_a_hundred_exactly() -> None:
    customer = Customer.start(included=Decimal(100), per_minute=1_000)
    with ThreadPoolExecutor(16) as pool:
        statuses = Counter(pool.map(_call_and_close, [customer] * 500))
    assert statuses == {200: 100, 429: 400}
    assert customer.billed() == 100
    drain_all(at=now(), budget_seconds=20)
    assert UsageEvent.objects.for_organization(customer.organization).count() == 100
    assert reconcile(at=now()).is_equal


def _call_and_close(customer: Customer) -> int:
    try:
        return customer.get().status_code
    finally:
        connection.close()


# --- what is billed ----------------------------------------------------------------------------------------------


class Answering(drf.MeteredMixin):
    """Answers as the query says: `status`, `raise`, `unrenderable`."""

    metered = drf.MeteredRoute("places", "/v1/search")

    def get(self, request: Request) -> Response:
        if "raise" in request.query_params:
            raise RuntimeError("a fault of the view")
        if "unrenderable" in request.query_params:
            return Response({"of": object()})
        return Response({}, status=int(request.query_params["status"]))


class Unsettled(APIView):
    """Wrongly guarded: the throttle alone admits what nobody settles."""

    authentication_classes = [drf.FareboxKeyAuthentication]
    throttle_classes = [drf.FareboxThrottle]


class Unsold(drf.MeteredMixin):
    metered = drf.MeteredRoute("places", "/v1/never")


class Listing(drf.MeteredMixin, ListAPIView[Meter]):
    class Shown(serializers.ModelSerializer[Meter]):
        class Meta:
            model = Meter
            fields = ["slug"]

    metered = drf.MeteredRoute("places", "/v1/search")
    queryset = Meter.objects.all()
    serializer_class = Shown


urlpatterns = [
    path("api/listing", Listing.as_view()),
    path("api/answering", Answering.as_view()),
    path("api/unsettled", Unsettled.as_view()),
    path("api/unsold", Unsold.as_view()),
]
handler500 = "dashboard.views.errors.server_error"


@pytest.fixture
def views_here(settings: Any, customer: Customer) -> Customer:
    settings.ROOT_URLCONF = __name__
    return customer


@pytest.mark.parametrize(
    ("query", "status", "reason", "quantity"),
    [
        ("status=200", 200, "", 1),
        ("status=204", 204, "", 1),
        ("status=302", 302, "", 1),
        ("status=404", 404, "client_error", 0),
        ("status=502", 502, "upstream_error", 0),
        ("raise=1", 500, "upstream_error", 0),
        ("unrenderable=1", 500, "upstream_error", 0),
    ],
)
def test_only_answers_that_worked_are_billed(
    views_here: Customer, query: str, status: int, reason: str, quantity: int
) -> None:
    answer = views_here.get(f"/api/answering?{query}")
    assert answer.status_code == status
    (event,) = views_here.events()
    assert (event["status"], event.get("reason", "")) == (status, reason)
    assert Decimal(event["qty"]) == quantity
    account = standing_of(views_here)
    assert account.used == quantity, "a reservation was left open"


def standing_of(customer: Customer) -> MeterStanding:
    record = record_cache.records.find(bytes(customer.issued.key.hash), at=now(), address="::1")
    assert record is not None
    span = record.span_at(time.time_ns() // 1000)
    assert span is not None
    return meter_standings(record, span, [customer.route.meter_id])[0]


def test_an_exception_of_a_view_is_a_problem_document(views_here: Customer) -> None:
    document = problem(views_here.get("/api/answering?raise=1"), 500, "internal_error")
    assert "fault of the view" not in str(document)


def test_a_request_that_the_view_refuses_is_in_the_ledger_and_free(customer: Customer) -> None:
    problem(customer.get("/api/v1/places/search"), 400, "validation_error")
    (event,) = customer.events()
    assert (event["reason"], event["status"]) == ("client_error", 400)
    assert Decimal(event["qty"]) == 0


def test_client_errors_are_billed_where_the_route_says_so() -> None:
    customer = Customer.start(route={"bill_client_errors": True})
    assert customer.get("/api/v1/places/search").status_code == 400
    assert customer.billed() == 1


def test_a_view_without_the_mixin_never_runs(views_here: Customer) -> None:
    assert views_here.get("/api/unsettled").status_code == 500
    assert views_here.events() == []


def test_a_view_of_no_route_is_not_found(views_here: Customer) -> None:
    assert views_here.get("/api/unsold").status_code == 404
    assert views_here.events() == []


def test_units_of_the_route_are_what_a_call_counts() -> None:
    customer = Customer.start(route={"units": Decimal(5)}, included=Decimal(12))
    assert [customer.get().status_code for _ in range(3)] == [200, 200, 429]
    assert customer.billed() == 10


# --- servers that are away ---------------------------------------------------------------------------------------


class Faulty:
    """The engine, but settling fails `times` times: before it ran, or after (the answer was lost)."""

    def __init__(self, times: int, *, after: bool = False) -> None:
        self._left, self._after, self._engine = times, after, Engine()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def settle(self, settlement: Settlement) -> Settled:
        if self._left == 0:
            return self._engine.settle(settlement)
        self._left -= 1
        if self._after:
            self._engine.settle(settlement)
        raise MeteringUnavailable


def test_a_call_that_cannot_be_settled_is_not_answered(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drf, "engine", Faulty(10_000))
    monkeypatch.setattr(drf, "SETTLE_SECONDS", 0.2)
    answer = customer.get()
    problem(answer, 503, "metering_unavailable")
    assert b"Lisbon" not in answer.content
    assert customer.events() == []


@pytest.mark.parametrize("after", [False, True])
def test_settling_is_tried_again_and_counts_once(
    customer: Customer, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    monkeypatch.setattr(drf, "engine", Faulty(2, after=after))
    assert customer.get().status_code == 200
    assert customer.billed() == 1
    assert len(customer.events()) == 1


def test_a_call_whose_reservation_ran_out_is_not_billed(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = Engine.settle

    def too_late(engine: Engine, settlement: Settlement) -> Settled:
        engine.release(settlement.reservation)
        raise_version(customer.organization)
        return settle(engine, settlement)

    monkeypatch.setattr(Engine, "settle", too_late)
    answer = customer.get()
    problem(answer, 503, "metering_unavailable")
    assert b"Lisbon" not in answer.content
    (event,) = customer.events()
    assert event["reason"] == "expired"
    assert Decimal(event["qty"]) == 0


def test_without_redis_no_call_is_let_through(customer: Customer, settings: Any) -> None:
    assert customer.get().status_code == 200
    address, settings.REDIS_URL = settings.REDIS_URL, GONE
    answer = customer.get()
    problem(answer, 503, "metering_unavailable")
    assert answer["Retry-After"] == "5"
    settings.REDIS_URL = address
    assert customer.billed() == 1


def test_without_postgres_known_keys_go_on(customer: Customer) -> None:
    unseen = create_key(organization=customer.organization, name="second")
    assert customer.get().status_code == 200
    with connection.execute_wrapper(_gone):
        problem(customer.get(key=unseen.clear), 503, "key_lookup_unavailable")
        assert customer.get().status_code == 200


def _gone(*_: Any) -> Any:
    raise OperationalError("the server is away")


# --- what a call costs -------------------------------------------------------------------------------------------


def test_a_known_key_costs_two_round_trips_and_no_query(
    customer: Customer, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer.get()
    sent: list[Any] = []
    execute = ThreadClient.execute

    def count(client: ThreadClient, *command: Any) -> Any:
        sent.append(command)
        return execute(client, *command)

    monkeypatch.setattr(ThreadClient, "execute", count)
    scripts = commands("evalsha")
    before = len(sent)
    with django_assert_num_queries(0):
        assert customer.get().status_code == 200
    assert len(sent) - before == 2
    assert commands("evalsha") - scripts == 2


def test_the_example_of_the_documentation_is_the_code() -> None:
    text = (settings.BASE_DIR / "docs" / "drf.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert example in (settings.BASE_DIR / "examples" / "django_places" / "views.py").read_text()
    assert f"within **{drf.ROUTE_SECONDS:.0f} seconds**" in text
    assert f"again for {drf.SETTLE_SECONDS:.0f} seconds" in text


def test_a_change_of_a_route_arrives_when_it_was_read_long_enough_ago(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert customer.get().status_code == 200
    customer.route.units = Decimal(7)
    customer.route.save()
    assert customer.get().status_code == 200
    assert customer.billed() == 2
    monkeypatch.setattr(drf, "ROUTE_SECONDS", 0.0)
    assert customer.get().status_code == 200
    assert customer.billed() == 9


def test_a_mixin_before_a_generic_view_guards_it(views_here: Customer) -> None:
    assert Client().get("/api/listing").status_code == 401
    answer = views_here.get("/api/listing")
    assert answer.status_code == 200
    assert answer["X-RateLimit-Remaining"] == "99"
    assert views_here.billed() == 1
