"""Calls pass whatever Stripe does: nothing on their way asks it, and what it missed is told afterwards, each once."""

import ast
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings

from billing.models import StripeUsage, UsageState
from billing.stripe.sender import send_usage
from billing.stripe.usage import fill_usage
from core.clock import now
from tests.billing.kit import Customer
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.test_usage_standin import EVENTS, HOUR, counted, customers, run
from tests.billing.stripe.usage_kit import told

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[3]
CALL_PATH = ("gateway", "metering", "keys", "plans", "core", "accounts")
__all__ = ["customers"]  # a fixture


def imported(folder: str) -> Iterator[tuple[str, str]]:
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((str(path), alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield str(path), node.module


@pytest.mark.parametrize("folder", CALL_PATH)
def test_nothing_on_the_way_of_a_call_can_ask_stripe(folder: str) -> None:
    found = list(imported(folder))
    assert found
    asks = [pair for pair in found if pair[1].split(".")[0] in ("stripe", "djstripe", "billing")]
    assert asks == []


def requests_of(standin: Standin) -> int:
    return len(standin.control("requests"))


def test_usage_is_taken_without_a_request(customers: list[Customer], stripe_standin: Standin) -> None:
    before = requests_of(stripe_standin)
    assert before > 0
    for customer in customers:
        customer.use(500)
    assert requests_of(stripe_standin) == before


def test_a_day_without_stripe(customers: list[Customer], settings: LazySettings) -> None:
    """Down for a day: usage goes on, each beat gives up quickly, and afterwards everything is there once."""
    there, started = settings.STRIPE_API_HOST, now() - 30 * HOUR
    settings.STRIPE_API_HOST = "http://127.0.0.1:9"
    for hour in range(0, 24, 6):
        for number, customer in enumerate(customers):
            customer.use(10 + number)
        fill_usage(at=started + hour * HOUR)
        assert send_usage(at=started + hour * HOUR).counts["sent"] == 0
    settings.STRIPE_API_HOST = there
    run(started + timedelta(hours=26))

    assert [counted(one) for one in customers] == [told(one) for one in customers] == [40, 44, 48]


@pytest.mark.parametrize("kind", ["error_after", "slow", "timeout_after"])
def test_a_lying_or_slow_stripe_charges_nothing_twice(
    customers: list[Customer], stripe_standin: Standin, kind: str
) -> None:
    """500 after the effect for every second request, or answers that never come in time."""
    stripe_standin.fault(kind, "POST", EVENTS, times=6, seconds=1)
    for number, customer in enumerate(customers):
        customer.use(200 + number)
    run(now() - 5 * HOUR)
    assert [counted(one) for one in customers] == [200, 201, 202]
    assert not StripeUsage.objects.exclude(state=UsageState.SENT).exists()
