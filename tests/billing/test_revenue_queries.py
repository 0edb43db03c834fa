"""What statements charged, by month."""

from datetime import UTC, date, datetime

import pytest

from billing.models import Statement
from billing.revenue_queries import charged_by_currency, charged_by_month, top_customers
from tests.billing.kit import Customer

pytestmark = pytest.mark.django_db


def test_a_period_of_exactly_a_calendar_month_counts_in_that_month() -> None:
    acme = Customer.start(at=datetime(2026, 3, 1, tzinfo=UTC))
    acme.finalise()
    assert Statement.objects.get().ends_at == datetime(2026, 4, 1, tzinfo=UTC)

    (march,) = charged_by_month(first=date(2026, 2, 1), last=date(2026, 5, 1), currency="USD")

    assert (march.month, march.fixed_minor) == (date(2026, 3, 1), 4_900)
    assert charged_by_currency(month=date(2026, 3, 1)) == {"USD": 4_900}
    assert charged_by_currency(month=date(2026, 4, 1)) == {}
    assert top_customers(month=date(2026, 4, 1), currency="USD", limit=5) == []
