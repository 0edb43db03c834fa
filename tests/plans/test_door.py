from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from core.clock import to_micros
from plans.door import NO_QUOTA, DoorFacts, PeriodFacts, QuotaTerms, Span, door_table, smallest_units

START = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SOLD = QuotaTerms(1, 0, Decimal(50_000), hard_quota=None)
HARD = QuotaTerms(1, 0, Decimal(1_000), hard_quota=Decimal(1_000))


def facts(**changes: object) -> DoorFacts:
    values: dict[str, object] = {
        "suspended": False, "status": "active", "ended_at": None, "cancels_at": None, "trial_ends_at": None,
        "pays_after_trial": True, "refused_from": None, "test_quotas": (HARD,),
    }  # fmt: skip
    return DoorFacts(**(values | changes))  # type: ignore[arg-type]


def period(
    number: int = 0, *, quotas: tuple[QuotaTerms, ...] = (SOLD,), is_trial: bool = False
) -> PeriodFacts:
    return PeriodFacts(
        10 + number, START + 30 * number * DAY, START + 30 * (number + 1) * DAY, is_trial, quotas
    )


def outcome(spans: tuple[Span, ...], at: datetime) -> str:
    """'open', the refusal, or 'stale' outside the table."""
    moment = to_micros(at)
    for span in spans:
        if span.start_us <= moment < span.end_us:
            return span.refusal or "open"
    return "stale"


@pytest.mark.parametrize(
    ("changes", "day", "expected"),
    [
        ({}, 0, "open"),
        ({}, 29, "open"),
        ({}, 30, "stale"),
        ({"suspended": True}, 0, "suspended"),
        ({"status": "suspended"}, 0, "payment_required"),
        ({"status": "paused"}, 0, "subscription_paused"),
        ({"trial_ends_at": START + 14 * DAY, "pays_after_trial": False}, 13, "open"),
        ({"trial_ends_at": START + 14 * DAY, "pays_after_trial": False}, 14, "trial_over"),
        ({"trial_ends_at": START + 14 * DAY}, 14, "open"),
        ({"cancels_at": START + 5 * DAY}, 4, "open"),
        ({"cancels_at": START + 5 * DAY}, 5, "subscription_cancelled"),
        ({"ended_at": START}, 0, "subscription_cancelled"),
        ({"status": "past_due", "refused_from": START + 7 * DAY}, 6, "open"),
        ({"status": "past_due", "refused_from": START + 7 * DAY}, 7, "payment_required"),
        ({"suspended": True, "cancels_at": START + 5 * DAY}, 6, "suspended"),
    ],
)
def test_the_door(changes: dict[str, object], day: int, expected: str) -> None:
    assert outcome(door_table(facts(**changes), [period()], mode="live"), START + day * DAY) == expected


def test_spans_tile_their_periods() -> None:
    periods = [period(0), period(1), period(2)]
    spans = door_table(facts(cancels_at=START + 40 * DAY), periods, mode="live")
    assert spans[0].start_us == to_micros(periods[0].starts_at)
    assert spans[-1].end_us == to_micros(periods[-1].ends_at)
    assert all(one.end_us == other.start_us for one, other in zip(spans, spans[1:], strict=False))


def test_a_past_due_customer_is_warned() -> None:
    (span,) = door_table(facts(status="past_due"), [period()], mode="live")
    assert span.warning == "payment_past_due"


@pytest.mark.parametrize(
    ("one", "mode", "quota", "code"),
    [
        (period(quotas=(SOLD,)), "live", NO_QUOTA, "quota_exceeded"),
        (period(quotas=(HARD,)), "live", 1_000, "quota_exceeded"),
        (period(quotas=(SOLD,), is_trial=True), "live", 50_000, "trial_quota_reached"),
        (period(quotas=(SOLD,)), "test", 1_000, "quota_exceeded"),
    ],
)
def test_quotas(one: PeriodFacts, mode: str, quota: int, code: str) -> None:
    (span,) = door_table(facts(), [one], mode=mode)
    assert (span.quota(1), span.quota_code) == (quota, code)
    assert span.quota(2) == NO_QUOTA


def test_quantities_become_whole_smallest_units() -> None:
    assert smallest_units(Decimal("1.5"), 3) == 1500
    with pytest.raises(ValueError, match="more than 2 decimals"):
        smallest_units(Decimal("0.001"), 2)
