from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.revenue import Movement, RevenueEvent, classify, mrr_at, revenue_months

START = datetime(2025, 11, 3, tzinfo=UTC)


def event(org: int, day: int, previous: int, mrr: int, kind: str = "plan_changed") -> RevenueEvent:
    return RevenueEvent(org, kind, START + timedelta(days=day), "USD", previous, mrr)


@pytest.mark.parametrize(
    ("previous", "mrr", "had_before", "movement"),
    [
        (0, 0, False, None),
        (4900, 4900, True, None),
        (0, 4900, False, Movement.NEW),
        (0, 4900, True, Movement.REACTIVATION),
        (4900, 19900, True, Movement.EXPANSION),
        (19900, 4900, True, Movement.CONTRACTION),
        (4900, 0, True, Movement.CHURN),
    ],
)
def test_a_change_has_one_name(previous: int, mrr: int, had_before: bool, movement: Movement | None) -> None:
    assert classify(previous, mrr, had_before=had_before) == movement


def test_a_year_of_three_customers() -> None:
    log = [
        event(1, 0, 0, 4900, "trial_converted"),
        event(2, 5, 0, 19900, "started"),
        event(1, 30, 4900, 19900),  # 3 December
        event(2, 40, 19900, 4900),
        event(3, 45, 0, 0, "trial_started"),
        event(3, 59, 0, 0, "trial_ended"),  # 1 January
        event(1, 70, 19900, 0, "ended"),
        event(1, 75, 0, 4900, "started"),
    ]
    november, december, january = revenue_months(
        log, first=date(2025, 11, 30), last=date(2026, 1, 1), currency="USD"
    )
    assert (november.start_minor, november.end_minor, november.customers_end) == (0, 24800, 2)
    assert december.moved_minor[Movement.EXPANSION] == december.moved_minor[Movement.CONTRACTION] == 15000
    assert (december.end_minor, december.arr_minor, december.arpu_minor) == (24800, 297600, Decimal(12400))
    assert (january.moved_minor[Movement.CHURN], january.moved_minor[Movement.REACTIVATION]) == (19900, 4900)
    assert (january.logo_churn, january.ltv_minor) == (
        Decimal("0.5"),
        Decimal(4900 + 4900) / 2 / Decimal("0.5"),
    )
    assert (november.trial_conversion, december.trial_conversion, january.trial_conversion) == (1, None, 0)


def test_what_came_before_is_where_the_first_month_starts() -> None:
    log = [event(1, 0, 0, 4900), event(2, 70, 0, 100)]
    (january,) = revenue_months(log, first=date(2026, 1, 5), last=date(2026, 1, 31), currency="USD")
    assert (january.start_minor, january.customers_start, january.end_minor) == (4900, 1, 5000)
    assert january.moved_minor[Movement.NEW] == 100


def test_a_month_without_customers_divides_by_nothing() -> None:
    (month,) = revenue_months([], first=date(2026, 1, 1), last=date(2026, 1, 1), currency="USD")
    assert month.arpu_minor is month.logo_churn is month.revenue_churn is month.ltv_minor is None


@st.composite
def logs(draw: st.DrawFn) -> list[RevenueEvent]:
    rows: list[RevenueEvent] = []
    present: dict[int, int] = {}
    day = 0
    for _ in range(draw(st.integers(0, 40))):
        org, day = draw(st.integers(1, 5)), day + draw(st.integers(0, 20))
        mrr = draw(st.sampled_from([0, 0, 833, 4900, 19900]))
        rows.append(event(org, day, present.get(org, 0), mrr))
        present[org] = mrr
    return rows


@given(logs(), st.integers(0, 300))
def test_movements_add_up_to_the_revenue_of_every_month(log: list[RevenueEvent], later: int) -> None:
    months = revenue_months(
        log, first=date(2025, 11, 1) + timedelta(days=later), last=date(2028, 6, 1), currency="USD"
    )
    for one, following in pairwise(months):
        assert (one.end_minor, one.customers_end) == (following.start_minor, following.customers_start)
    for month in months:
        turn = datetime(month.month.year + month.month.month // 12, month.month.month % 12 + 1, 1, tzinfo=UTC)
        present = mrr_at(log, at=turn - timedelta(microseconds=1))
        assert (month.end_minor, month.customers_end) == (sum(present.values()), len(present))


def test_who_pays_soon_after_the_trial_has_converted_and_past_months_stay() -> None:
    """Organization 1 pays in the month in which its trial ran out, organization 2 in the month after."""
    log = [
        event(1, 10, 0, 0, "trial_ended"),
        event(1, 12, 0, 4900, "trial_converted"),
        event(2, 15, 0, 0, "trial_ended"),
        event(2, 40, 0, 4900, "trial_converted"),
    ]
    november, december = revenue_months(log, first=date(2025, 11, 1), last=date(2025, 12, 1), currency="USD")
    assert (november.trials_converted, november.trials_ended) == (1, 1)
    assert november.trial_conversion == Decimal("0.5")
    assert (december.trials_converted, december.trials_ended) == (1, 0)
    assert revenue_months(log[:3], first=date(2025, 11, 1), last=date(2025, 11, 1), currency="USD") == [
        november
    ]
