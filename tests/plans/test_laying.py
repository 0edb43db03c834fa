"""The acts lay the rows that the planner says (tests/plans/test_tiling.py shows that those tile time)."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from plans import services
from plans.models import Interval, Period, PlanVersion, Subscription
from plans.tiling import Act, Done, Laid, first_period, lay
from tests.factories import create_organization, create_plan

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def make_versions() -> list[PlanVersion]:
    """Four price lists, the dearer the later: monthly, monthly, yearly, yearly."""
    return [
        create_plan("small", fee_minor=10_00),
        create_plan("medium", fee_minor=20_00),
        create_plan("year", fee_minor=300_00, interval=Interval.YEAR),
        create_plan("big-year", fee_minor=600_00, interval=Interval.YEAR),
    ]


def laid_rows(subscription: Subscription) -> list[Laid]:
    rows = Period.objects.for_organization(subscription.organization).select_related("version")
    return [
        Laid(p.version_id, p.version.fee_months, p.anchor, p.starts_at, p.ends_at, p.is_trial)
        for p in rows.order_by("starts_at")
    ]


@pytest.mark.parametrize("seed", range(12))
def test_the_acts_of_some_years_lay_what_the_planner_says(seed: int) -> None:
    random = Random(seed)
    versions = make_versions()
    at = datetime(2027, 12, 29, 10, tzinfo=UTC) + random.randrange(4) * DAY
    version = random.choice(versions)
    organization = create_organization(plan="", at=at)
    subscription = services.start_subscription(
        organization=organization, version=version, by=None, at=at, has_payment=True
    )
    first = first_period(version.pk, version.fee_months, at=at)
    done = []
    for _ in range(6):
        at += timedelta(days=random.randrange(1, 200), seconds=random.randrange(86_400))
        services.roll_periods(at=at)
        subscription.refresh_from_db()
        if subscription.ended_at is not None:
            break
        done += act_somehow(random, subscription, versions, at)
    services.roll_periods(at=at + 500 * DAY)
    subscription.refresh_from_db()
    rows = laid_rows(subscription)
    until = subscription.ended_at or rows[-1].starts_at
    assert rows == lay(first, done, until=until)


def act_somehow(
    random: Random, subscription: Subscription, versions: list[PlanVersion], at: datetime
) -> list[Done]:
    """One act through the services, and the same for the planner."""
    other = random.choice(versions)
    if random.random() < 0.15 and subscription.cancels_at is None:
        services.cancel_subscription(subscription=subscription, by=None, at=at)
        return [Done(at, Act.CANCEL)]
    at_once = services.is_upgrade(subscription.version, other)
    try:
        services.change_plan(subscription=subscription, version=other, by=None, at=at)
    except services.NothingToChange:
        return []
    if other == subscription.version:
        return [
            Done(at, Act.CHANGE_LATER if subscription.cancels_at else Act.KEEP, other.pk, other.fee_months)
        ]
    act = Act.CHANGE_NOW if at_once else Act.CHANGE_LATER
    return [Done(at, act, other.pk, other.fee_months)]


def test_a_yearly_plan_is_left_at_the_end_of_its_year() -> None:
    small, _, year, _ = make_versions()
    at = datetime(2028, 2, 29, tzinfo=UTC)
    organization = create_organization(plan="", at=at)
    subscription = services.start_subscription(
        organization=organization, version=year, by=None, at=at, has_payment=True
    )
    end = datetime(2029, 2, 28, tzinfo=UTC)
    preview = services.preview_change(subscription=subscription, version=small, at=at + 40 * DAY)
    assert (preview.at_once, preview.effective_at) == (False, end)
    services.change_plan(subscription=subscription, version=small, by=None, at=at + 40 * DAY)
    services.roll_periods(at=end + DAY)
    by_version = {row.starts_at: row.version for row in laid_rows(subscription)}
    assert {version for start, version in by_version.items() if start < end} == {year.pk}
    assert {version for start, version in by_version.items() if start >= end} == {small.pk}
    subscription.refresh_from_db()
    services.cancel_subscription(subscription=subscription, by=None, at=end + DAY)
    subscription.refresh_from_db()
    assert subscription.cancels_at == datetime(2029, 3, 29, tzinfo=UTC)


def test_a_year_that_begins_in_february_can_be_taken_back() -> None:
    """The new anchor shortens the months ahead, and choosing the old plan again lengthens them; ids stay."""
    medium = make_versions()[1]
    year_of_less = create_plan("year-of-less", fee_minor=60_00, interval=Interval.YEAR)
    at = datetime(2027, 1, 31, tzinfo=UTC)
    organization = create_organization(plan="", at=at)
    subscription = services.start_subscription(
        organization=organization, version=medium, by=None, at=at, has_payment=True
    )
    before = list(subscription.periods.order_by("starts_at").values_list("pk", "starts_at", "ends_at"))
    services.change_plan(subscription=subscription, version=year_of_less, by=None, at=at + DAY)
    assert [row.starts_at.day for row in laid_rows(subscription)] == [31, 28, 28]
    assert [row.fee_is_due for row in laid_rows(subscription)] == [True, True, False]
    services.change_plan(subscription=subscription, version=medium, by=None, at=at + 2 * DAY)
    assert (
        list(subscription.periods.order_by("starts_at").values_list("pk", "starts_at", "ends_at")) == before
    )
