from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from accounts.models import AuditEvent, Organization
from plans import services
from plans.models import (
    Period,
    PlanVersion,
    PriceComponent,
    RateLimit,
    StatePush,
    Subscription,
    SubscriptionStatus,
)
from plans.queries import newest_version
from plans.standing import find_standing, mode_terms
from plans.suspension import reactivate_organization, suspend_organization
from tests.factories import (
    create_organization,
    create_plan,
    create_product,
    create_route,
    create_subscription,
)

pytestmark = pytest.mark.django_db

AT = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def subscribe(plan: str, *, at: datetime = AT, has_payment: bool = False) -> Subscription:
    organization = create_organization(plan="", at=at)
    return create_subscription(organization=organization, plan=plan, at=at, has_payment=has_payment)


def periods(subscription: Subscription) -> list[Period]:
    return list(Period.objects.for_organization(subscription.organization).order_by("starts_at"))


def refusal(organization: Organization, at: datetime) -> str:
    """What the door says at this moment: '' is open."""
    organization.refresh_from_db()
    terms = mode_terms(find_standing(organization, at=at), mode="live", test_plan="free")
    moment = int(at.timestamp()) * 1_000_000
    return next(span.refusal for span in terms.spans if span.start_us <= moment < span.end_us)


def assert_tiled(subscription: Subscription) -> None:
    laid = periods(subscription)
    assert all(one.ends_at == other.starts_at for one, other in zip(laid, laid[1:], strict=False))


def test_free_starts_active_with_months_from_its_anchor() -> None:
    subscription = subscribe("free")
    assert subscription.status == SubscriptionStatus.ACTIVE
    assert [p.starts_at.day for p in periods(subscription)] == [31, 28, 31]
    assert_tiled(subscription)


def test_a_paid_plan_starts_in_its_trial_and_closes_after_it() -> None:
    subscription = subscribe("starter")
    assert subscription.status == SubscriptionStatus.TRIALING
    assert subscription.trial_ends_at == AT + 14 * DAY
    assert [p.is_trial for p in periods(subscription)] == [True, False, False]
    assert refusal(subscription.organization, AT + 13 * DAY) == ""
    assert refusal(subscription.organization, AT + 14 * DAY) == "trial_over"


def test_who_pays_passes_after_the_trial() -> None:
    subscription = subscribe("starter")
    services.activate_subscription(subscription=subscription, by=None, at=AT)
    assert refusal(subscription.organization, AT + 15 * DAY) == ""


def test_only_one_subscription_at_a_time() -> None:
    subscription = subscribe("free")
    with pytest.raises(services.AlreadySubscribed):
        create_subscription(organization=subscription.organization, plan="starter", at=AT + DAY)


def test_the_database_refuses_two_open_subscriptions() -> None:
    subscription = subscribe("free")
    with pytest.raises(IntegrityError, match="subscription_one_at_a_time"), transaction.atomic():
        Subscription.objects.create(
            organization=subscription.organization,
            version=subscription.version,
            status="active",
            started_at=AT + DAY,
        )


def test_the_database_refuses_overlapping_periods() -> None:
    subscription = subscribe("free")
    first = periods(subscription)[0]
    with pytest.raises(IntegrityError, match="period_no_overlap"), transaction.atomic():
        Period.objects.create(
            organization=first.organization, subscription=subscription, version=first.version, anchor=AT,
            starts_at=first.starts_at + DAY, ends_at=first.ends_at + DAY,
        )  # fmt: skip


def test_a_draft_is_not_on_sale() -> None:
    organization = create_organization(plan="free", at=AT)
    draft = PlanVersion.objects.create(plan=newest_version("free").plan, number=2)
    subscription = Subscription.objects.for_organization(organization).get()
    with pytest.raises(services.VersionNotOnSale):
        services.change_plan(subscription=subscription, version=draft, by=None, at=AT)


def test_an_upgrade_closes_the_period_and_starts_a_new_one_with_its_trial() -> None:
    subscription = subscribe("free")
    at = AT + 10 * DAY
    services.change_plan(subscription=subscription, version=newest_version("starter"), by=None, at=at)
    laid = periods(subscription)
    assert (laid[0].ends_at, laid[1].starts_at, laid[1].version.plan.slug) == (at, at, "starter")
    assert laid[1].is_trial
    assert_tiled(subscription)
    assert refusal(subscription.organization, at) == ""


def test_an_upgrade_within_a_trial_does_not_lengthen_it() -> None:
    subscription = subscribe("starter")
    services.change_plan(
        subscription=subscription, version=newest_version("professional"), by=None, at=AT + 5 * DAY
    )
    subscription.refresh_from_db()
    assert subscription.trial_ends_at == AT + 14 * DAY
    assert refusal(subscription.organization, AT + 14 * DAY) == "trial_over"


@pytest.mark.parametrize(("fee_minor", "currency"), [(700_000, "JPY"), (4_000, "KWD")])
def test_a_change_to_another_currency_waits_for_the_end_of_the_period(fee_minor: int, currency: str) -> None:
    """49 dollars, 700,000 yen, 4 dinars: minor units say nothing about which is more."""
    subscription = subscribe("starter", has_payment=True)
    other = create_plan("abroad", fee_minor=fee_minor, currency=currency)
    at = AT + 3 * DAY
    assert not services.preview_change(subscription=subscription, version=other, at=at).at_once
    services.change_plan(subscription=subscription, version=other, by=None, at=at)
    subscription.refresh_from_db()
    assert (subscription.version.plan.slug, subscription.next_version) == ("starter", other)
    assert services.is_upgrade(newest_version("free"), other)


def test_a_downgrade_waits_for_the_end_of_the_period() -> None:
    subscription = subscribe("professional", has_payment=True)
    at = AT + 3 * DAY
    services.change_plan(subscription=subscription, version=newest_version("starter"), by=None, at=at)
    subscription.refresh_from_db()
    assert subscription.version.plan.slug == "professional"
    assert [p.version.plan.slug for p in periods(subscription)] == ["professional", "starter", "starter"]
    end = periods(subscription)[0].ends_at
    services.roll_periods(at=end + DAY)
    subscription.refresh_from_db()
    assert (subscription.version.plan.slug, subscription.next_version) == ("starter", None)
    assert_tiled(subscription)


def test_a_trial_that_ends_on_free_stays_open() -> None:
    subscription = subscribe("starter")
    services.change_plan(subscription=subscription, version=newest_version("free"), by=None, at=AT + DAY)
    assert refusal(subscription.organization, AT + 20 * DAY) == ""
    services.roll_periods(at=AT + 20 * DAY)
    subscription.refresh_from_db()
    assert (subscription.status, subscription.version.plan.slug) == ("active", "free")


def test_a_planned_downgrade_is_taken_back_by_choosing_the_present_plan() -> None:
    subscription = subscribe("professional", has_payment=True)
    services.change_plan(subscription=subscription, version=newest_version("starter"), by=None, at=AT)
    services.change_plan(
        subscription=subscription, version=newest_version("professional"), by=None, at=AT + DAY
    )
    assert {p.version.plan.slug for p in periods(subscription)} == {"professional"}


def test_choosing_the_same_plan_changes_nothing() -> None:
    subscription = subscribe("free")
    with pytest.raises(services.NothingToChange):
        services.change_plan(subscription=subscription, version=newest_version("free"), by=None, at=AT + DAY)


def test_a_second_trial_is_not_given() -> None:
    subscription = subscribe("starter")
    at = AT + 20 * DAY  # the trial is over
    with pytest.raises(services.PaymentNeeded), transaction.atomic():
        services.change_plan(
            subscription=subscription, version=newest_version("professional"), by=None, at=at
        )
    services.change_plan(subscription=subscription, version=newest_version("free"), by=None, at=at)
    assert refusal(subscription.organization, at) == ""
    assert subscription.organization.subscriptions.count() == 2


def test_cancelling_keeps_the_door_open_until_the_periods_end() -> None:
    subscription = subscribe("free")
    services.cancel_subscription(subscription=subscription, by=None, at=AT + DAY)
    end = periods(subscription)[0].ends_at
    assert refusal(subscription.organization, end - DAY) == ""
    assert refusal(subscription.organization, end) == "subscription_cancelled"
    services.roll_periods(at=end + DAY)
    subscription.refresh_from_db()
    assert (subscription.status, subscription.ended_at) == ("cancelled", end)
    assert refusal(subscription.organization, end + DAY) == "subscription_cancelled"


def test_a_cancellation_can_be_undone_until_then() -> None:
    subscription = subscribe("free")
    services.cancel_subscription(subscription=subscription, by=None, at=AT + DAY)
    services.undo_cancellation(subscription=subscription, by=None, at=AT + 2 * DAY)
    assert refusal(subscription.organization, periods(subscription)[1].starts_at) == ""
    with pytest.raises(services.NothingToChange):
        services.undo_cancellation(subscription=subscription, by=None, at=AT + 3 * DAY)


def test_free_can_be_chosen_again_after_cancelling() -> None:
    subscription = subscribe("free")
    services.cancel_subscription(subscription=subscription, by=None, at=AT + DAY)
    at = periods(subscription)[0].ends_at + DAY
    services.roll_periods(at=at)
    subscription.refresh_from_db()
    services.change_plan(subscription=subscription, version=newest_version("free"), by=None, at=at)
    assert refusal(subscription.organization, at) == ""


def test_rolling_twice_changes_nothing_the_second_time() -> None:
    subscription = subscribe("free")
    at = AT + 100 * DAY
    assert services.roll_periods(at=at) == 1
    assert services.roll_periods(at=at) == 0
    assert sum(p.starts_at > at for p in periods(subscription)) == 2
    assert_tiled(subscription)


def test_suspending_and_reactivating_move_the_door() -> None:
    organization = create_organization(plan="free", at=AT)
    suspend_organization(organization=organization, reason="abuse", by=None, at=AT)
    assert refusal(organization, AT + DAY) == "suspended"
    reactivate_organization(organization=organization, by=None, at=AT)
    assert refusal(organization, AT + DAY) == ""


def test_every_act_raises_the_version_and_leaves_its_trace() -> None:
    organization = create_organization(plan="free", at=AT)
    before = organization.version
    suspend_organization(organization=organization, reason="abuse", by=None, at=AT)
    organization.refresh_from_db()
    assert organization.version == before + 1
    assert StatePush.objects.for_organization(organization).get().version == organization.version
    assert AuditEvent.objects.for_organization(organization).filter(action="organization.suspended").exists()


def test_published_terms_cannot_be_changed() -> None:
    version = create_plan("solid")
    component = PriceComponent.objects.get(version=version)
    for change in (
        lambda: PlanVersion.objects.filter(pk=version.pk).update(fee_minor=1),
        lambda: PriceComponent.objects.filter(pk=component.pk).update(included=5),
        lambda: RateLimit.objects.filter(version=version).delete(),
        lambda: RateLimit.objects.create(version=version, window_seconds=1, calls=1),
        lambda: PlanVersion.objects.filter(pk=version.pk).delete(),
    ):
        with pytest.raises(IntegrityError, match="published"), transaction.atomic():
            change()


def test_a_route_counts_whole_smallest_units() -> None:
    route = create_route(create_product(), units=Decimal("0.5"))
    with pytest.raises(ValidationError, match="counts 0 decimals"):
        route.full_clean()


def test_planned_downgrades_do_not_keep_others_waiting() -> None:
    for _ in range(3):
        planned = subscribe("professional", has_payment=True)
        services.change_plan(subscription=planned, version=newest_version("starter"), by=None, at=AT)
    last = subscribe("free")
    at = AT + 5 * DAY  # before anybody's period ends
    Period.objects.for_organization(last.organization).filter(starts_at__gt=at).delete()
    services.roll_periods(at=at, limit=3)
    assert sum(p.starts_at > at for p in periods(last)) == 2


def test_what_a_caller_holds_may_be_outdated() -> None:
    subscription = subscribe("free")
    held = Subscription.objects.get(pk=subscription.pk)
    services.cancel_subscription(subscription=subscription, by=None, at=AT)
    end = periods(subscription)[0].ends_at
    services.roll_periods(at=end)
    with pytest.raises(services.NothingToChange):
        services.activate_subscription(subscription=held, by=None, at=end)


def test_a_cancellation_that_is_due_closes_before_the_job_comes() -> None:
    subscription = subscribe("professional", has_payment=True)
    services.cancel_subscription(subscription=subscription, by=None, at=AT)
    end = periods(subscription)[0].ends_at
    services.change_plan(subscription=subscription, version=newest_version("free"), by=None, at=end + DAY)
    subscription.refresh_from_db()
    assert (subscription.ended_at, subscription.organization.subscriptions.count()) == (end, 2)
