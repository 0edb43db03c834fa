"""Periods tile time: no gap, no overlap, every fee interval begun once, nothing billed twice."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from dateutil.relativedelta import relativedelta
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from plans.tiling import Act, Done, Laid, first_period, following, lay

SUBSCRIPTIONS, PARTS = 10_000, 5
TEN_YEARS = timedelta(days=3653)
MONTHS = {1: 1, 2: 1, 3: 12, 4: 12}  # version to the length of its fee interval
FIRST_DAY = datetime(2023, 1, 1, tzinfo=UTC)


def day(year: int, month: int, number: int, hour: int = 0) -> datetime:
    return datetime(year, month, number, hour, tzinfo=UTC)


# Every second start lies on the days where months differ.
ends_of_months = st.builds(
    lambda month, number, second: (
        FIRST_DAY + relativedelta(months=month, day=number) + timedelta(seconds=second)
    ),
    st.integers(0, 59),
    st.sampled_from([28, 29, 30, 31]),
    st.sampled_from([0, 1, 43_200, 86_399]),
)
any_time = st.builds(
    lambda us: FIRST_DAY + timedelta(microseconds=us), st.integers(0, 5 * 366 * 86_400 * 10**6)
)
acts = st.tuples(
    st.one_of(st.integers(1, 60), st.integers(1, 3653 * 86_400)),  # seconds after the act before
    st.sampled_from(list(Act)),
    st.sampled_from(sorted(MONTHS)),
    st.sampled_from([0, 0, 0, 14]),
)
histories = st.tuples(
    st.one_of(ends_of_months, any_time),
    st.sampled_from([0, 0, 1, 14, 30]),
    st.sampled_from(sorted(MONTHS)),
    st.lists(acts, max_size=5),
)
History = tuple[datetime, int, int, list[tuple[int, Act, int, int]]]


def laid(history: History) -> tuple[list[Laid], list[Done]]:
    start, trial_days, version, later = history
    trial_end = start + timedelta(days=trial_days) if trial_days else None
    at, done = start, []
    for seconds, act, other, days in later:
        at += timedelta(seconds=seconds)
        done.append(Done(at, act, other, MONTHS[other], at + timedelta(days=days) if days else None))
    first = first_period(version, MONTHS[version], at=start, trial_ends_at=trial_end)
    return lay(first, done, until=start + TEN_YEARS), done


def check_tiles(history: History, periods: list[Laid], done: list[Done]) -> None:
    """No gap, no overlap, and ten years are covered unless somebody cancelled."""
    assert periods[0].starts_at == history[0]
    for period, next_one in pairwise(periods):
        assert period.starts_at < period.ends_at == next_one.starts_at
    if not any(one.act is Act.CANCEL for one in done if one.at <= history[0] + TEN_YEARS):
        assert periods[-1].starts_at <= history[0] + TEN_YEARS < periods[-1].ends_at


def check_months(periods: list[Laid]) -> None:
    """A period is a trial or at most a month from its anchor, and begins on the anchor's day, or the month's last."""
    for period in periods:
        assert period.is_trial or period.ends_at <= period.starts_at + timedelta(days=31)
        is_last = (period.starts_at + timedelta(days=1)).month != period.starts_at.month
        assert period.starts_at.day == period.anchor.day or (
            is_last and period.starts_at.day < period.anchor.day
        )


def check_fees(periods: list[Laid], done: list[Done]) -> None:
    """The spans that fees were charged for tile all time outside trials: nothing is free, and nothing is paid twice.
    A span ends early only where a change took effect at once, and until its end its version stays."""
    at_once = {one.at for one in done if one.act is Act.CHANGE_NOW}
    paid_to = version = None
    for period in periods:
        if period.is_trial:
            assert not period.fee_is_due
            assert paid_to in (None, period.starts_at) or period.starts_at in at_once
            paid_to = None
            continue
        begins = paid_to in (None, period.starts_at) or period.starts_at in at_once
        assert period.fee_is_due == begins
        if begins:
            paid_to, version = span_end(period), period.version
            assert period.paid_until == paid_to
        assert paid_to is not None
        assert period.ends_at <= paid_to
        assert period.version == version


def span_end(period: Laid) -> datetime:
    """The end of the fee interval that begins with this period, by another calendar than the one under test."""
    start, anchor = period.starts_at, period.anchor
    number = (start.year - anchor.year) * 12 + start.month - anchor.month
    assert anchor + relativedelta(months=number) == start
    return anchor + relativedelta(months=number + MONTHS[period.version])


counted: list[int] = []


@settings(
    max_examples=SUBSCRIPTIONS // PARTS, deadline=None, phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow], database=None,
)  # fmt: skip
@given(histories)
def check_history(history: History) -> None:
    periods, done = laid(history)
    check_tiles(history, periods, done)
    check_months(periods)
    check_fees(periods, done)
    counted.append(len(periods))


@pytest.mark.no_cover  # the same lines a million times: counting them doubles its time
@pytest.mark.parametrize("part", range(PARTS))
def test_periods_of_ten_thousand_subscriptions_tile_ten_years(part: int) -> None:
    """In parts, so that several processes can share them; each has its own seed, and so its own subscriptions."""
    counted.clear()
    seed(part)(check_history)()
    assert len(counted) >= SUBSCRIPTIONS // PARTS
    assert sum(counted) > 50 * len(counted)  # most live for years


def spans(periods: list[Laid]) -> list[tuple[int, str, str, bool]]:
    """Version, first and last day, and whether the fee is due."""
    return [(p.version, f"{p.starts_at:%y-%m-%d}", f"{p.ends_at:%y-%m-%d}", p.fee_is_due) for p in periods]


def test_days_return_to_the_thirty_first_also_after_a_change_that_waited() -> None:
    first = first_period(1, 1, at=day(2027, 12, 31))
    later = [Done(day(2028, 1, 5), Act.CHANGE_LATER, 2, 1), Done(day(2028, 3, 1), Act.CANCEL)]
    assert spans(lay(first, later, until=day(2029, 1, 1))) == [
        (1, "27-12-31", "28-01-31", True),
        (2, "28-01-31", "28-02-29", True),
        (2, "28-02-29", "28-03-31", True),
    ]


def test_a_trial_is_one_period_and_the_months_run_from_its_end() -> None:
    first = first_period(1, 1, at=day(2026, 1, 17), trial_ends_at=day(2026, 1, 31))
    periods = lay(first, [], until=day(2026, 3, 30))
    assert spans(periods) == [
        (1, "26-01-17", "26-01-31", False),
        (1, "26-01-31", "26-02-28", True),
        (1, "26-02-28", "26-03-31", True),
    ]


def test_an_upgrade_closes_the_period_and_a_trial_goes_on() -> None:
    first = first_period(1, 1, at=day(2026, 1, 1), trial_ends_at=day(2026, 1, 15))
    done = [Done(day(2026, 1, 10), Act.CHANGE_NOW, 2), Done(day(2026, 1, 20), Act.CHANGE_NOW, 1)]
    assert spans(lay(first, done, until=day(2026, 1, 21))) == [
        (1, "26-01-01", "26-01-10", False),
        (2, "26-01-10", "26-01-15", False),
        (2, "26-01-15", "26-01-20", True),
        (1, "26-01-20", "26-02-20", True),
    ]


def test_what_waits_on_a_yearly_plan_waits_for_the_end_of_the_year() -> None:
    first = first_period(3, 12, at=day(2024, 2, 29))
    periods = lay(first, [Done(day(2024, 4, 1), Act.CHANGE_LATER, 1, 1)], until=day(2025, 3, 20))
    assert [p.version for p in periods] == [3] * 12 + [1]
    assert (periods[-1].starts_at, periods[-1].ends_at) == (day(2025, 2, 28), day(2025, 3, 29))
    assert sum(p.fee_is_due for p in periods if p.version == 3) == 1


def test_a_yearly_plan_after_a_monthly_one_begins_its_own_year() -> None:
    last = Laid(1, 1, day(2026, 1, 31), day(2026, 4, 30), day(2026, 5, 31))
    begun = following(last, version=3, months=12)
    assert (begun.anchor, begun.fee_is_due, begun.paid_until) == (
        day(2026, 5, 31),
        True,
        day(2027, 5, 31),
    )


def test_what_waits_can_be_taken_back() -> None:
    first = first_period(1, 1, at=day(2026, 1, 1))
    later = [
        Done(day(2026, 1, 2), Act.CANCEL),
        Done(day(2026, 1, 3), Act.KEEP),
        Done(day(2026, 1, 4), Act.CHANGE_LATER, 2),
        Done(day(2026, 1, 5), Act.KEEP),
    ]
    periods = lay(first, later, until=day(2026, 2, 10))
    assert [p.version for p in periods] == [1, 1]


def test_two_changes_at_one_moment_leave_one_period() -> None:
    first = first_period(1, 1, at=day(2026, 1, 1))
    done = [Done(day(2026, 1, 9), Act.CHANGE_NOW, 2), Done(day(2026, 1, 9), Act.CHANGE_NOW, 1)]
    assert [p.version for p in lay(first, done, until=day(2026, 1, 9))] == [1, 1]


def test_after_the_end_nothing_is_laid() -> None:
    first = first_period(1, 1, at=day(2026, 1, 1))
    late = [Done(day(2026, 1, 2), Act.CANCEL), Done(day(2026, 3, 1), Act.CHANGE_NOW, 2)]
    assert spans(lay(first, late, until=day(2027, 1, 1))) == [(1, "26-01-01", "26-02-01", True)]
