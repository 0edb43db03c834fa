"""Alerts over the JSON API: whose they are, what a change does, and which keys may."""

from typing import Any

import pytest
from redis import Redis

from core.clock import now
from metering.alerts.services import ensure_defaults
from metering.models import Alert
from plans.models import Restriction
from tests.factories import create_key, create_organization
from tests.metering.alerts.kit import default
from tests.metering.api_kit import Customer, problem

ALERTS = "/api/usage/alerts"


@pytest.fixture
def customer(transactional_db: None, usage_redis: Redis) -> Customer:
    return Customer.start()


def send(customer: Customer, method: str, path: str, body: Any = None, *, key: str | None = None) -> Any:
    headers = {"Authorization": f"Bearer {key or customer.issued.clear}"}
    return getattr(customer.client, method)(path, body, content_type="application/json", headers=headers)


def test_the_defaults_are_listed(customer: Customer) -> None:
    rows = customer.get(ALERTS).json()["alerts"]  # type: ignore[attr-defined]
    assert [(row["threshold"], row["action"], row["value"], row["limit"]) for row in rows] == [
        ("80", "notify", "0", "800"), ("100", "notify", "0", "1000"), ("120", "throttle", "0", "1200"),
    ]  # fmt: skip


def test_one_is_made_changed_and_removed(customer: Customer) -> None:
    made = send(customer, "post", ALERTS, {"kind": "meter", "threshold": "5000", "action": "block"})
    assert made.status_code == 200
    address = f"{ALERTS}/{made.json()['id']}"
    changed = send(customer, "patch", address, {"threshold": "7000.5", "enabled": False}).json()
    assert (changed["threshold"], changed["action"], changed["enabled"]) == ("7000.5", "block", False)
    assert send(customer, "delete", address).status_code == 200
    problem(send(customer, "delete", address), 404, "not_found")
    problem(send(customer, "patch", address, {}), 404, "not_found")


def test_others_alerts_are_not_there(customer: Customer) -> None:
    other = create_organization()
    ensure_defaults(other, at=now())
    alert = default(other, 80)
    for method in ("patch", "delete"):
        problem(send(customer, method, f"{ALERTS}/{alert.public_id}", {}), 404, "not_found")
    alert.refresh_from_db()
    assert (alert.removed_at, alert.threshold) == (None, 80)


@pytest.mark.parametrize("how", [{"mode": "test"}, {"scopes": ("product:places",)}])
def test_some_keys_only_look(customer: Customer, how: dict[str, Any]) -> None:
    key = create_key(organization=customer.organization, name="other", **how).clear
    assert send(customer, "get", ALERTS, key=key).status_code == 200
    problem(send(customer, "post", ALERTS, {"kind": "cap", "threshold": "80"}, key=key), 403, "out_of_scope")


@pytest.mark.parametrize(
    "body",
    [
        {}, {"kind": "none", "threshold": "1"}, {"kind": "cap"}, {"kind": "cap", "threshold": "0"},
        {"kind": "cap", "threshold": "NaN"}, {"kind": "cap", "threshold": "Infinity"},
        {"kind": "meter", "threshold": "1", "meter": "unknown"}, {"kind": "cap", "threshold": "80", "webhook": "https://x/"},
        {"kind": "cap", "threshold": "80", "calls_per_minute": 0}, [],
    ],
)  # fmt: skip
def test_shapes_that_are_refused(customer: Customer, body: Any) -> None:
    problem(send(customer, "post", ALERTS, body), 400, "validation_error")
    assert not Alert.objects.filter(is_default=False).exists()


@pytest.mark.parametrize(
    "body", [{"kind": "cap", "threshold": "10001"}, {"kind": "cap", "threshold": "9", "action": "throttle"}]
)
def test_what_makes_no_sense_is_named(customer: Customer, body: Any) -> None:
    problem(send(customer, "post", ALERTS, body), 400, "alert_invalid")
    assert not Restriction.objects.exists()
