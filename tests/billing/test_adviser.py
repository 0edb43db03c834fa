from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from redis import Redis

from accounts.models import Organization
from billing.adviser import Advice, find_advice, fits_quotas, is_worth_saying
from metering.models import PeriodTotal, UsageTotal
from metering.services import ingest_history
from plans.models import Meter, Period, Subscription
from plans.periods import month_start
from plans.queries import newest_version
from tests.factories import (
    create_organization,
    create_plan,
    create_product,
    create_route,
    create_subscription,
)
from tests.metering.ledger_kit import Ledger
from tests.plans.price_kit import component, meter, version_of

pytestmark = pytest.mark.django_db(transaction=True)
START = datetime(2026, 6, 1, tzinfo=UTC)
LATER = START + timedelta(days=100)


def customer(plan: str, calls: int) -> Organization:
    """Three closed months on a paid plan (its trial is over), each with so many calls."""
    organization = create_organization(plan="", at=START)
    subscription = create_subscription(organization=organization, plan=plan, at=START - timedelta(days=14))
    subscription.periods.all().delete()
    meter, moment = Meter.objects.get(slug="api_calls"), START
    for number in range(3):
        period = Period.objects.create(
            organization=organization, subscription=subscription, version=subscription.version, anchor=START,
            starts_at=moment, ends_at=month_start(START, number + 1),
        )  # fmt: skip
        PeriodTotal.objects.create(
            organization_id=organization.pk, mode="live", meter_id=meter.pk, period_id=period.pk, sum=calls,
            count=calls, billed_count=calls, max=1, last=1, last_at=moment, last_id=f"{number:032x}",
        )  # fmt: skip
        moment = period.ends_at
    return organization


def test_a_customer_who_outgrew_the_plan_is_told_what_the_next_would_have_cost() -> None:
    advice = find_advice(customer("starter", 400_000), at=LATER)
    assert advice is not None
    assert advice.version.plan.slug == "professional"
    assert (advice.months, advice.paid_minor, advice.would_minor) == (3, 3 * (4900 + 35_000), 3 * 19900)


def test_a_customer_on_a_plan_too_large_is_told_of_the_smaller_one() -> None:
    advice = find_advice(customer("professional", 60_000), at=LATER)
    assert advice is not None
    assert (advice.version.plan.slug, advice.saved_minor) == ("starter", 3 * (19900 - 4900 - 1000))


def test_of_a_yearly_plan_a_month_counts_with_a_twelfth_of_its_fee() -> None:
    """The first month's statement has the whole fee: against shares of the offers every plan would look too dear."""
    small = create_plan(
        "small-yearly", fee_minor=120_000, included=Decimal(1_000_000), trial_days=14, interval="year"
    )
    create_plan(
        "large-yearly", fee_minor=240_000, included=Decimal(5_000_000), trial_days=14, interval="year"
    )
    assert find_advice(customer("small-yearly", 60_000), at=LATER) is None
    advice = find_advice(customer("large-yearly", 60_000), at=LATER)
    assert advice is not None
    assert (advice.version, advice.paid_minor, advice.would_minor) == (small, 3 * 20_000, 3 * 10_000)


@pytest.mark.parametrize(("plan", "calls"), [("starter", 50_000), ("professional", 300_000)])
def test_who_is_on_the_cheapest_plan_gets_no_advice(plan: str, calls: int) -> None:
    assert find_advice(customer(plan, calls), at=LATER) is None


def test_free_is_no_advice_to_who_would_be_refused_there() -> None:
    organization = customer("starter", 1_000)
    advice = find_advice(organization, at=LATER)
    assert advice is not None
    assert advice.version.plan.slug == "free"
    assert find_advice(customer("starter", 1_001), at=LATER) is None
    assert not fits_quotas(newest_version("free"), {("tokens", ""): Decimal(1)})


def test_a_plan_without_the_features_in_use_is_no_advice() -> None:
    organization = customer("starter", 500)
    route = create_route(create_product(), required_feature="all_endpoints")
    period = Period.objects.for_organization(organization).earliest("starts_at")
    UsageTotal.objects.create(
        organization_id=organization.pk, mode="live", meter_id=route.meter_id, period_id=period.pk, hour=START,
        route_id=route.pk, sum=1, count=1, billed_count=1, min=1, max=1, last=1, last_at=START, last_id="0" * 32,
    )  # fmt: skip
    assert find_advice(organization, at=LATER) is None


def test_a_plan_whose_limit_the_busiest_minute_passed_is_no_advice(usage_redis: Redis) -> None:
    """The free plan admits 10 calls a minute; 11 single calls are far below any quota."""
    organization, other = customer("starter", 500), Ledger.start()
    own = Ledger(organization, other.key, other.meter, other.record, other.period)
    moment = int(START.timestamp()) * 1_000_000
    calls = [own.event(moment + n) for n in range(11)]
    ingest_history(calls[:10], at=LATER)
    assert find_advice(organization, at=LATER) is not None
    ingest_history(calls, at=LATER)
    assert find_advice(organization, at=LATER) is None


def test_the_busiest_minute_begins_anywhere(usage_redis: Redis) -> None:
    """11 calls within 20 seconds over the turn of a minute pass a limit of 10 in any 60 seconds."""
    organization, other = customer("starter", 500), Ledger.start()
    own = Ledger(organization, other.key, other.meter, other.record, other.period)
    turn = int((START + timedelta(minutes=5)).timestamp()) * 1_000_000
    ingest_history([own.event(turn + 2_000_000 * n) for n in range(-5, 6)], at=LATER)
    assert find_advice(organization, at=LATER) is None


def test_who_has_chosen_already_gets_no_advice() -> None:
    """Neither the plan that the customer is on since yesterday, nor one that waits for the period's end."""
    organization = customer("starter", 400_000)
    chosen = newest_version("professional")
    subscription = Subscription.objects.filter(organization=organization)
    subscription.update(next_version=chosen)
    assert find_advice(organization, at=LATER) is None
    subscription.update(version=chosen, next_version=None)
    assert find_advice(organization, at=LATER) is None
    subscription.update(version=newest_version("starter"))
    assert find_advice(organization, at=LATER) is not None


def test_quotas_of_a_meter_add_up_as_the_door_adds_them() -> None:
    tokens = meter("tokens", dimensions=["model"])
    shared = version_of(
        component(tokens, included=100), component(tokens, included=300, match={"model": "large"})
    )
    assert fits_quotas(shared, {("tokens", ""): Decimal(90), ("tokens", "model=large"): Decimal(300)})
    assert fits_quotas(shared, {("tokens", ""): Decimal(400)})
    assert not fits_quotas(shared, {("tokens", ""): Decimal(401)})


def test_months_before_a_change_of_plan_and_in_a_trial_say_nothing() -> None:
    organization = customer("starter", 400_000)
    newest = Period.objects.for_organization(organization).latest("starts_at")
    Period.objects.for_organization(organization).filter(pk=newest.pk).update(is_trial=True)
    assert find_advice(organization, at=LATER) is None
    assert find_advice(create_organization(plan="free"), at=LATER) is None


@pytest.mark.parametrize(
    ("paid", "would", "worth"),
    [
        (10_000, 9_501, False),
        (10_000, 9_500, True),
        (100_000, 98_001, False),
        (100_000, 98_000, True),
        (0, 0, False),
    ],
)
def test_small_differences_trouble_nobody(paid: int, would: int, worth: bool) -> None:
    create_organization(plan="free")
    assert is_worth_saying(Advice(newest_version("free"), 3, paid, would)) is worth
