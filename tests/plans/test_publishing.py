"""Drafts on sale: checked, scheduled, superseded, retired, copied."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import AuditEvent
from core.errors import Forbidden
from plans.models import Aggregation, Meter, Plan, PlanVersion, VersionState
from plans.moves import move_customers
from plans.publishing import (
    NotADraft,
    NotPublishable,
    NotRetirable,
    clone_for_customer,
    new_draft,
    publish_due,
    publish_version,
    retire_version,
    schedule_publishing,
)
from plans.queries import newest_version, public_versions, terms_of
from plans.services import schedule_change
from plans.tasks import publish_due_versions
from tests.factories import create_organization, create_plan, create_user

pytestmark = pytest.mark.django_db
AT = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
D = Decimal


def draft(**fields: Any) -> PlanVersion:
    plan = Plan.objects.create(slug=f"plan-{Plan.objects.count()}", name="Plan")
    return PlanVersion.objects.create(plan=plan, number=1, **fields)


def meter(aggregation: str = Aggregation.SUM, **fields: Any) -> Meter:
    return Meter.objects.create(
        slug=f"m{Meter.objects.count()}", name="Hours", unit="hour", aggregation=aggregation, **fields
    )


def tiers(*ends: int | None) -> list[dict[str, Any]]:
    return [{"up_to": None if end is None else D(end), "unit_price": D("0.1")} for end in ends]


def refusal(*prices: dict[str, Any], **fields: Any) -> str:
    version = draft(**fields)
    for price in prices:
        steps = price.pop("tiers", [])
        made = version.components.create(**price)
        for step in steps:
            made.tiers.create(**step)
    try:
        publish_version(version=version, by=None, at=AT)
    except NotPublishable as refused:
        assert PlanVersion.objects.get(pk=version.pk).state == VersionState.DRAFT
        return refused.detail
    return ""


def test_publishing_puts_a_draft_on_sale_once() -> None:
    version = create_plan("once")
    assert version.state == VersionState.PUBLISHED
    with pytest.raises(NotADraft):
        publish_version(version=version, by=None, at=AT)


def test_the_next_list_retires_the_one_before_and_no_other() -> None:
    first = create_plan("lists")
    others = [new_draft(version=first, by=None, at=AT) for _ in range(2)]
    PlanVersion.objects.filter(pk=others[0].pk).update(interval="year")
    PlanVersion.objects.filter(pk=others[1].pk).update(currency="EUR")
    second = new_draft(version=first, by=None, at=AT)
    for version in (*others, second):
        publish_version(version=version, by=None, at=AT)
    states = dict(PlanVersion.objects.filter(plan=first.plan).values_list("number", "state"))
    assert states == {1: "retired", 2: "published", 3: "published", 4: "published"}
    assert newest_version("lists") == second


def test_a_draft_has_all_that_its_version_says() -> None:
    hours = meter(dimensions=["region"])
    version = draft(
        fee_minor=500,
        minimum_minor=900,
        concurrency=3,
        features=["webhooks"],
        texts=["Yes"],
        over_cap="billed",
    )
    first = version.components.create(
        meter=hours, model="graduated", match={"region": "eu"}, text="EU", position=1
    )
    first.tiers.create(up_to=D(10), unit_price=D("0.1"), flat_price=D(2))
    first.tiers.create(up_to=None, unit_price=D("0.05"))
    version.components.create(
        meter=hours, model="package", unit_price=D(1), package_size=D(5), maximum_minor=77, quota=None
    )
    version.rate_limits.create(window_seconds=1, calls=5)
    publish_version(version=version, by=None, at=AT)
    copy = new_draft(version=version, by=None, at=AT)
    assert (copy.number, copy.state, copy.published_at) == (2, VersionState.DRAFT, None)
    assert terms_of(copy) == terms_of(version)
    assert list(copy.rate_limits.values_list("window_seconds", "calls")) == [(1, 5)]
    for name in ("minimum_minor", "concurrency", "features", "texts", "over_cap"):
        assert getattr(copy, name) == getattr(version, name)


def test_fractions_that_the_meter_does_not_count_are_refused() -> None:
    calls, hours = meter(), meter(Aggregation.TIME_WEIGHTED, time_unit="hour")
    assert "Included quantity 10.5 has more decimals" in refusal({"meter": calls, "included": D("10.5")})
    assert "Quota 0.5 has more decimals" in refusal({"meter": calls, "unit_price": D(1), "quota": D("0.5")})
    assert "Tier end 1.5" in refusal(
        {"meter": calls, "model": "volume", "tiers": [{"up_to": D("1.5")}, {"up_to": None}]}
    )
    assert "more than can be counted" in refusal({"meter": meter(decimals=9), "included": D(10**14)})
    assert refusal({"meter": hours, "included": D("10.5"), "unit_price": D(1)}) == ""


@pytest.mark.parametrize(
    ("price", "words"),
    [
        ({"model": "graduated", "tiers": tiers(10)}, "The last tier, and only the last, is open."),
        ({"model": "volume"}, "The last tier, and only the last, is open."),
        ({"model": "graduated", "tiers": tiers(0, None)}, "Each tier ends above the one before."),
        ({"model": "graduated", "unit_price": D(1), "tiers": tiers(None)}, "have their prices in the tiers"),
        ({"model": "per_unit"}, "A price per unit or package is missing."),
        ({"model": "package"}, "A price per unit or package is missing."),
        ({"model": "per_unit", "unit_price": D(1), "tiers": tiers(None)}, "Only graduated and volume prices have tiers."),
        ({"unit_price": D(1), "package_size": D(10)}, "Only package prices have a package size."),
        ({"unit_price": D(1), "match": {"planet": "mars"}}, "The meter has no dimension planet."),
        ({"unit_price": D(1), "match": {"region": 3}}, "Values of dimensions are texts."),
        ({"unit_price": D(1), "match": {"region": "eu"}}, "usage that matches none of its prices has none"),
    ],
)  # fmt: skip
def test_prices_that_leave_questions_are_refused(price: dict[str, Any], words: str) -> None:
    assert words in refusal({"meter": meter(dimensions=["region"])} | price)


def test_a_hard_quota_needs_a_meter_that_the_door_can_bound() -> None:
    for aggregation in (Aggregation.SUM, Aggregation.COUNT):
        assert refusal({"meter": meter(aggregation), "included": D(5)}) == ""
    assert "this one is maximum" in refusal({"meter": meter(Aggregation.MAX), "included": D(5)})
    last = meter(Aggregation.LAST)
    assert "A hard quota needs a meter that sums" in refusal({"meter": last, "included": D(5)})
    assert "A hard quota needs" in refusal({"meter": last, "unit_price": D(1), "quota": D(5)})
    assert refusal({"meter": last, "included": D(5), "unit_price": D(0)}) == ""


def test_quotas_by_dimension_are_all_or_none() -> None:
    hours = meter(dimensions=["region"])
    mixed = (
        {"meter": hours, "match": {"region": "eu"}, "included": D(5)},
        {"meter": hours, "unit_price": D(1)},
    )
    assert "Give each of its prices a hard quota, or none" in refusal(*mixed)


def test_currencies_are_known_ones() -> None:
    assert "XYZ is not a currency" in refusal(currency="XYZ")
    assert refusal(currency="CHF") == ""


def test_an_archived_meter_is_not_sold() -> None:
    assert "archived" in refusal({"meter": meter(archived_at=AT), "unit_price": D(1)})


def test_amounts_stay_where_the_door_counts_exactly() -> None:
    most = 2**53 // 10_000_000
    assert refusal(fee_minor=most) == ""
    assert "larger than the door can count" in refusal(fee_minor=most + 1)
    assert "larger than the door can count" in refusal({"meter": meter(), "unit_price": D(10**10)})
    steps = [{"up_to": D(10**9), "unit_price": D("0.01")}, {"up_to": None, "unit_price": D("0.001")}]
    assert "larger than the door can count" in refusal(
        {"meter": meter(), "model": "graduated", "tiers": steps}
    )


def test_the_most_that_all_prices_cost_together_stays_there_too() -> None:
    def priced(maximum: int) -> dict[str, Any]:
        return {"meter": meter(), "model": "per_unit", "unit_price": D("0.01"), "maximum_minor": maximum}

    half = 2**53 // 10_000_000 // 2
    assert refusal(priced(half), priced(half)) == ""
    assert "larger than the door can count" in refusal(priced(half), priced(half + 2))


def test_all_faults_are_named_at_once() -> None:
    text = refusal({"meter": meter(), "model": "per_unit", "included": D("0.5")}, currency="???")
    assert "currency" in text
    assert "price per unit" in text
    assert "decimals" in text


def test_a_scheduled_draft_goes_on_sale_at_its_moment() -> None:
    first = create_plan("later")
    second = new_draft(version=first, by=None, at=AT)
    schedule_publishing(version=second, publish_at=AT + DAY, by=None, at=AT)
    assert publish_due(at=AT + DAY - timedelta(seconds=1)) == 0
    assert newest_version("later") == first
    assert publish_due(at=AT + DAY) == 1
    assert newest_version("later") == second
    assert publish_due(at=AT + 2 * DAY) == 0


def test_scheduling_checks_and_can_be_forgotten() -> None:
    version = new_draft(version=create_plan("later"), by=None, at=AT)
    with pytest.raises(NotPublishable):
        schedule_publishing(version=version, publish_at=AT, by=None, at=AT)
    schedule_publishing(version=version, publish_at=AT + DAY, by=None, at=AT)
    schedule_publishing(version=version, publish_at=None, by=None, at=AT)
    assert publish_due(at=AT + 2 * DAY) == 0


def test_a_draft_that_became_unsellable_waits_for_staff_and_holds_nobody_up() -> None:
    broken, good = draft(), draft()
    for version in (broken, good):
        schedule_publishing(version=version, publish_at=AT + DAY, by=None, at=AT)
    PlanVersion.objects.filter(pk=broken.pk).update(currency="???")
    assert publish_due(at=AT + DAY) == 1
    broken.refresh_from_db()
    assert (broken.state, broken.publish_at) == (VersionState.DRAFT, None)
    assert AuditEvent.objects.filter(action="plan.publishing_refused").exists()


def test_the_task_publishes_what_is_due() -> None:
    version = draft()
    PlanVersion.objects.filter(pk=version.pk).update(publish_at=AT)
    publish_due_versions()
    version.refresh_from_db()
    assert version.state == VersionState.PUBLISHED


def test_a_retired_list_is_not_sold() -> None:
    version = create_plan("gone")
    retire_version(version=version, by=None, at=AT)
    assert "gone" not in [v.plan.slug for v in public_versions()]
    with pytest.raises(NotRetirable):
        retire_version(version=version, by=None, at=AT)


def test_the_plan_of_test_keys_stays_on_sale() -> None:
    create_organization()
    with pytest.raises(NotRetirable, match="Test keys"):
        retire_version(version=newest_version("free"), by=None, at=AT)


def test_a_private_plan_is_the_customers_own() -> None:
    organization = create_organization("Northwind Maps")
    starter = newest_version("starter")
    private = clone_for_customer(version=starter, organization=organization, by=None, at=AT)
    assert terms_of(private).usage == terms_of(starter).usage
    assert (private.plan.is_public, private.plan.organization) == (False, organization)
    assert private.plan.name == "Starter for Northwind Maps"
    publish_version(version=private, by=None, at=AT)
    assert "Starter for Northwind Maps" not in [v.plan.name for v in public_versions()]
    again = clone_for_customer(version=starter, organization=organization, by=None, at=AT)
    assert (again.plan, again.number) == (private.plan, 2)


def test_only_staff_sells() -> None:
    version, organization, customer = create_plan("solid"), create_organization(), create_user()
    subscription = organization.subscriptions.get()
    acts: list[Callable[[], object]] = [
        lambda: publish_version(version=draft(), by=customer, at=AT),
        lambda: schedule_publishing(version=draft(), publish_at=AT + DAY, by=customer, at=AT),
        lambda: retire_version(version=version, by=customer, at=AT),
        lambda: new_draft(version=version, by=customer, at=AT),
        lambda: clone_for_customer(version=version, organization=organization, by=customer, at=AT),
        lambda: move_customers(from_version=subscription.version, to_version=version, by=customer, at=AT),
        lambda: schedule_change(subscription=subscription, version=version, by=customer, at=AT),
    ]
    for act in acts:
        with pytest.raises(Forbidden):
            act()
