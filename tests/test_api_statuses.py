"""Every status that an endpoint of the JSON API declares, provoked: the answer has the status, media type and shape that
the document says, and its code stands on the page that problem documents link to."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.db import OperationalError, connection
from django.http import HttpResponse
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator, FormatChecker
from redis import Redis

from core.clock import now
from dashboard.refusal_docs import REFUSALS
from keys.services import issue_owner_key
from metering import drf, range_check
from metering.alerts import services
from metering.alerts.services import ensure_defaults
from metering.api import AccountThrottle
from metering.ledger import LOCK_CLASS
from metering.models import Alert
from plans.models import Route
from plans.suspension import suspend_organization
from tests.examples.processes import Answer
from tests.factories import create_key, create_route
from tests.gateway.kit import Process, wait_for
from tests.metering.api_kit import Customer
from tests.metering.test_ingest import OWNER, Reporter
from tests.provoked_owner_api import OWNER_API, narrow

ACCOUNT, TRACK = "get /api/account/", "post /api/usage/track"
CORRECT = "post /api/usage/correct"
PLACES = {
    "get /api/v1/places/search": ("/api/v1/places/search", "?q=Lisbon", "?q="),
    "get /api/v1/places/reverse": ("/api/v1/places/reverse", "?lat=38.7&lon=-9.1", "?lat=nan&lon=0"),
}


class World:
    """A customer who may call once a minute, and an owner's service that reports."""

    def __init__(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings, self.monkeypatch = settings, monkeypatch
        self.customer = Customer.start(per_minute=1)
        self.reporter = Reporter(self.customer.organization)
        create_route(self.customer.product, "/v1/reverse")

    def without_redis(self) -> "World":
        self.settings.REDIS_URL = "redis://127.0.0.1:1/0"
        return self

    def without_database(self, name: str) -> "World":
        """As if the database went away while this function reads."""

        def fail(*_: Any, **__: Any) -> Any:
            raise OperationalError("gone")

        self.monkeypatch.setattr(name, fail)
        return self

    def with_routes(self, **changes: Any) -> "World":
        Route.objects.filter(product=self.customer.product).update(**changes)
        drf.forget_cached()
        return self

    def suspended(self) -> "World":
        suspend_organization(organization=self.customer.organization, reason="abuse", by=None, at=now())
        return self

    def one_look_a_minute(self) -> "World":
        self.monkeypatch.setattr(AccountThrottle, "rate", "1/min")
        return self

    def get(self, path: str, *, times: int = 1) -> HttpResponse:
        return [self.customer.get(path) for _ in range(times)][-1]

    def track(self, body: Any, **how: Any) -> Any:
        return self.reporter.post(body, **how)

    def admin(self, path: str) -> HttpResponse:
        return Client(raise_request_exception=False).get(path, headers={"Authorization": f"Bearer {OWNER}"})

    def correct(self, *, key: str = OWNER, reported: bool = True, **changes: Any) -> Any:
        """Correct an event that was reported and drained, or (not `reported`) one that nobody knows."""
        event = self.reporter.recorded() if reported else "019a0f0e-7d3c-7c41-8a52-0d5b1c9d2f10"
        body = {
            "organization": self.reporter.organization.public_id, "event_id": event, "quantity": "2", "reason": "test",
        } | changes  # fmt: skip
        headers = {"Authorization": f"Bearer {key}"}
        client = Client(raise_request_exception=False)
        return client.post("/api/usage/correct", body, content_type="application/json", headers=headers)

    def alert(
        self, method: str = "post", path: str = "/api/usage/alerts", *, key: str = "", **changes: Any
    ) -> Any:
        body = ({"kind": "cap", "threshold": "80"} if method == "post" else {}) | changes
        headers = {"Authorization": f"Bearer {key or self.customer.issued.clear}"}
        client = Client(raise_request_exception=False)
        return getattr(client, method)(path, body, content_type="application/json", headers=headers)

    def alert_as_form(self, path: str, method: str = "post") -> Any:
        headers = {"Authorization": f"Bearer {self.customer.issued.clear}"}
        return getattr(Client(), method)(
            path, "a=b", content_type="application/x-www-form-urlencoded", headers=headers
        )

    def default_alert(self) -> str:
        """The address of one of the customer's default alerts."""
        ensure_defaults(self.customer.organization, at=now())
        alert = (
            Alert.objects.for_organization(self.customer.organization).filter(is_default=True).earliest("pk")
        )
        return f"/api/usage/alerts/{alert.public_id}"

    def test_key(self) -> str:
        return create_key(organization=self.customer.organization, name="sandbox", mode="test").clear

    def full_of_alerts(self) -> "World":
        self.monkeypatch.setattr(services, "MOST_ALERTS", 3)
        return self

    def aggregate(self, *, key: str = OWNER, **changes: Any) -> Any:
        body = {
            "organization": self.reporter.organization.public_id, "start": "2026-11-01T00:00:00Z",
            "end": "2026-11-02T00:00:00Z",
        } | changes  # fmt: skip
        headers = {"Authorization": f"Bearer {key}"}
        client = Client(raise_request_exception=False)
        return client.post("/api/usage/aggregate", body, content_type="application/json", headers=headers)

    def aggregate_while_the_drain_is_busy(self) -> Any:
        self.monkeypatch.setattr(range_check, "PATIENCE", "50ms")
        with connection.get_new_connection(connection.get_connection_params()) as drain:
            drain.execute(
                "SELECT pg_advisory_xact_lock(%s, %s)", [LOCK_CLASS, self.reporter.organization.shard]
            )
            return self.aggregate()

    def correct_without_redis(self) -> Any:
        event = self.reporter.recorded()
        return self.without_redis().correct(reported=False, event_id=event)


class FromGateway:
    """An answer of the gateway's, read like one of Django's test client."""

    def __init__(self, answer: Answer) -> None:
        self.status_code, self.content, self.json = answer.status, answer.body, lambda: answer.json
        self._headers = answer.headers

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower()]


def _verify(
    world: World, body: Any, *, owner: str = OWNER, media_type: str = "application/json", **environment: str
) -> Any:
    """Ask a gateway of its own about the customer's key."""
    gateway = Process(**environment)
    question = {"key": world.customer.issued.clear} | body if isinstance(body, dict) else body
    headers = {"Authorization": f"Bearer {owner}", "Content-Type": media_type}
    try:
        wait_for(lambda: _is_alive(gateway), within=30)
        answer = gateway.api.send("POST", "/api/keys/verify", body=orjson.dumps(question), headers=headers)
        return FromGateway(answer)
    finally:
        gateway.stop()


def _is_alive(gateway: Process) -> bool:
    try:
        return gateway.api.get("/livez").status == 200
    except OSError:
        return False


Provoke = Callable[[World], Any]


def _places(path: str, good: str, bad: str) -> dict[int, Provoke]:
    return {
        200: lambda w: w.get(path + good),
        400: lambda w: w.get(path + bad),
        401: lambda w: Client().get(path + good),
        402: lambda w: w.suspended().get(path + good),
        403: lambda w: w.with_routes(required_feature="everything").get(path + good),
        404: lambda w: w.with_routes(is_active=False).get(path + good),
        429: lambda w: w.get(path + good, times=2),
        503: lambda w: w.without_redis().get(path + good),
    }


def _look(path: str, nowhere: str = "") -> dict[int, Provoke]:
    """What a key may look at without a call being counted; `nowhere` is an address of something that is not there."""
    missing: dict[int, Provoke] = {404: lambda w: w.get(nowhere)} if nowhere else {}
    return missing | {
        200: lambda w: w.get(path),
        401: lambda w: Client().get(path),
        429: lambda w: w.one_look_a_minute().get(path, times=2),
        503: lambda w: w.without_redis().get(path),
    }


def _form(world: World, path: str = "/api/usage/track") -> Any:
    return Client().post(
        path,
        {"a": "b"},
        headers={"Authorization": "Bearer owner-key-for-tests-only-0123456789"},
    )


def _alert(method: str) -> dict[int, Provoke]:
    return {
        200: lambda w: w.alert(method, w.default_alert()),
        401: lambda w: w.alert(method, w.default_alert(), key="wrong"),
        403: lambda w: w.alert(method, w.default_alert(), key=w.test_key()),
        404: lambda w: w.alert(method, "/api/usage/alerts/alr_unknown"),
        429: lambda w: [w.one_look_a_minute().alert(method, w.default_alert()) for _ in range(2)][-1],
        503: lambda w: w.without_redis().alert(method, w.default_alert()),
    }


PROVOKED: dict[str, dict[int, Provoke]] = {
    ACCOUNT: {
        200: lambda w: w.get("/api/account/"),
        401: lambda w: Client().get("/api/account/"),
        429: lambda w: w.one_look_a_minute().get("/api/account/", times=2),
        503: lambda w: w.without_redis().get("/api/account/"),
    },
    TRACK: {
        200: lambda w: w.track({"events": [w.reporter.event(), w.reporter.event(), w.reporter.event(quantity="-1")]}),
        400: lambda w: w.track(b"{"),
        401: lambda w: w.track(w.reporter.event(), key="wrong"),
        413: lambda w: w.track({"events": [w.reporter.event()] * 1_001}),
        415: _form,
        503: lambda w: w.without_redis().track(w.reporter.event()),
    },
    CORRECT: {
        200: lambda w: w.correct(),
        400: lambda w: w.correct(reported=False, quantity="-1"),
        401: lambda w: w.correct(reported=False, key="wrong"),
        404: lambda w: w.correct(reported=False),
        409: lambda w: w.correct(quantity="0.5"),
        415: lambda w: _form(w, "/api/usage/correct"),
        503: lambda w: w.correct_without_redis(),
    },
    "get /api/usage/report": {400: lambda w: w.get("/api/usage/report?group_by=weather")}
    | _look("/api/usage/report?group_by=day", "/api/usage/report?organization=org_unknown"),
    "get /api/usage/alerts": {
        200: lambda w: w.get("/api/usage/alerts"),
        401: lambda w: Client().get("/api/usage/alerts"),
        429: lambda w: w.one_look_a_minute().get("/api/usage/alerts", times=2),
        503: lambda w: w.without_redis().get("/api/usage/alerts"),
    },
    "post /api/usage/alerts": {
        200: lambda w: w.alert(),
        400: lambda w: w.alert(threshold="0"),
        401: lambda w: w.alert(key="wrong"),
        403: lambda w: w.alert(key=w.test_key()),
        409: lambda w: w.full_of_alerts().alert(),
        415: lambda w: w.alert_as_form("/api/usage/alerts"),
        429: lambda w: [w.one_look_a_minute().alert() for _ in range(2)][-1],
        503: lambda w: w.without_redis().alert(),
    },
    "patch /api/usage/alerts/{alert}": _alert("patch") | {
        400: lambda w: w.alert("patch", w.default_alert(), threshold="0"),
        415: lambda w: w.alert_as_form(w.default_alert(), "patch"),
    },
    "delete /api/usage/alerts/{alert}": _alert("delete"),
    "post /api/usage/aggregate": {
        200: lambda w: w.aggregate(),
        400: lambda w: w.aggregate(end="2026-10-01T00:00:00Z"),
        401: lambda w: w.aggregate(key="wrong"),
        404: lambda w: w.aggregate(organization="org_unknown"),
        415: lambda w: _form(w, "/api/usage/aggregate"),
        503: lambda w: w.aggregate_while_the_drain_is_busy(),
    },
    "get /api/admin/revenue": {
        200: lambda w: w.admin("/api/admin/revenue?months=2"),
        400: lambda w: w.admin("/api/admin/revenue?month=1999"),
        401: lambda w: Client().get("/api/admin/revenue"),
        503: lambda w: w.without_database("billing.revenue_api.revenue_report").admin("/api/admin/revenue"),
    },
    "get /api/billing/statements": _look("/api/billing/statements") | {
        400: lambda w: w.get("/api/billing/statements?cursor=stm_unknown"),
    },
    "get /api/billing/statements/{statement}": _look("/api/billing/statements/upcoming", "/api/billing/statements/unknown"),
    "post /api/keys/verify": {
        200: lambda w: _verify(w, {"meter": "api_calls", "charge": "order-1"}),
        400: lambda w: _verify(w, {"meter": "nothing"}),
        401: lambda w: _verify(w, {}, owner="wrong"),
        403: lambda w: _verify(w, {}, owner=issue_owner_key(name="crm", at=now(), scopes=["revenue"])[1]),
        413: lambda w: _verify(w, "x" * 20_000),
        415: lambda w: _verify(w, {}, media_type="text/plain"),
        503: lambda w: _verify(w, {}, REDIS_URL="redis://127.0.0.1:1/0"),
    },
    **{name: _places(*paths) for name, paths in PLACES.items()},
    **OWNER_API,
}  # fmt: skip
for _name in (TRACK, CORRECT, "get /api/usage/report", "post /api/usage/aggregate", "get /api/admin/revenue"):
    PROVOKED[_name][403] = narrow(*_name.split())


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return made


@pytest.fixture
def world(
    transactional_db: None, usage_redis: Redis, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> World:
    return World(settings, monkeypatch)


def test_every_declared_status_is_provoked(document: dict[str, Any]) -> None:
    declared = {
        f"{method} {path}": {int(status) for status in operation["responses"]}
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    assert declared == {name: set(by_status) for name, by_status in PROVOKED.items()}


@pytest.mark.parametrize(
    ("name", "status"), [(name, status) for name, by_status in PROVOKED.items() for status in by_status]
)
def test_an_answer_is_as_the_document_says(
    world: World, document: dict[str, Any], name: str, status: int
) -> None:
    answer = PROVOKED[name][status](world)
    assert answer.status_code == status, answer.content
    assert answer["X-Request-Id"].startswith("req_")
    method, path = name.split()
    declared = document["paths"][path][method]["responses"][str(status)]
    assert declared["description"]
    schema = declared["content"][answer["Content-Type"]]["schema"]
    body = answer.json()
    Draft202012Validator(
        schema | {"components": document["components"]}, format_checker=FormatChecker()
    ).validate(body)
    if status >= 400:
        assert body["code"] in {refusal.code for refusal in REFUSALS}
    if status in (429, 503) and answer["Content-Type"] == "application/problem+json":
        assert int(answer["Retry-After"]) > 0
