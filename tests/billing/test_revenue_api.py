from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.test import Client

from billing.revenue_report import revenue_report
from core.clock import now
from tests.billing.kit import Customer
from tests.metering.test_ingest import OWNER

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def owner(settings: Any, usage_redis: object) -> Client:
    settings.ADMIN_API_KEY = OWNER
    return Client(headers={"Authorization": f"Bearer {OWNER}"})


def test_it_says_what_the_page_says(owner: Client) -> None:
    Customer.start()
    answer = owner.get("/api/admin/revenue?month=2026-03&months=2").json()
    february, march = answer["months"]
    found = revenue_report(month=date(2026, 3, 1), currency="USD", at=now()).now
    assert (february["month"], february["new_minor"], february["mrr_end_minor"]) == ("2026-02", 4_900, 4_900)
    assert (march["mrr_start_minor"], march["arr_minor"]) == (4_900, found.arr_minor)
    assert (march["logo_churn"], march["ltv_minor"], march["trial_conversion"]) == ("0.0000", None, None)
    assert answer["mrr_converted"]["total_minor"] == 4_900
    assert not answer["is_running"]


def test_without_choices_it_is_the_present_month(owner: Client) -> None:
    answer = owner.get("/api/admin/revenue").json()
    assert len(answer["months"]) == 12
    assert answer["months"][-1]["month"] == f"{datetime.now(UTC):%Y-%m}"
    assert (answer["currency"], answer["is_running"]) == ("USD", True)


@pytest.mark.parametrize(
    "asked", ["month=2026", "month=2026-13", "month=", "month=2099-01", "months=0", "months=121", "months=x", "currency=usd", "currency=%00"]
)  # fmt: skip
def test_what_cannot_be_asked_is_named(owner: Client, asked: str) -> None:
    answer = owner.get(f"/api/admin/revenue?{asked}")
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [asked.partition("=")[0]]


def test_a_customers_key_does_not_open_it(owner: Client) -> None:
    assert Client(headers={"Authorization": "Bearer fb_live_x"}).get("/api/admin/revenue").status_code == 401
