"""The end of grandfathering: who is moved to another price list, and when."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from accounts.models import Organization
from plans.models import Period, PlanVersion
from plans.moves import MoveRefused, move_customers, preview_move
from plans.publishing import clone_for_customer, new_draft, publish_version
from plans.queries import current_period, newest_version
from plans.services import (
    NothingToChange,
    VersionNotOnSale,
    cancel_subscription,
    change_plan,
    roll_periods,
    schedule_change,
    start_subscription,
)
from tests.factories import create_organization

pytestmark = pytest.mark.django_db
AT = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def on_starter(*, at: datetime = AT) -> Organization:
    organization = create_organization(plan="", at=at)
    newest = newest_version("starter")
    start_subscription(organization=organization, version=newest, by=None, at=at, has_payment=True)
    return organization


def dearer(version: PlanVersion, **fields: object) -> PlanVersion:
    draft = new_draft(version=version, by=None, at=AT)
    PlanVersion.objects.filter(pk=draft.pk).update(**({"fee_minor": 5900} | fields))
    return publish_version(version=draft, by=None, at=AT)


def version_at(organization: Organization, at: datetime) -> PlanVersion:
    return current_period(organization, at=at).version


def test_customers_stay_until_they_are_moved_and_then_to_their_periods_end() -> None:
    create_organization(at=AT)
    old, early, late = newest_version("starter"), on_starter(), on_starter(at=AT + 10 * DAY)
    new = dearer(old)
    roll_periods(at=AT + 40 * DAY)
    assert version_at(early, AT + 40 * DAY) == old
    at = AT + 41 * DAY
    ends = [current_period(one, at=at).ends_at for one in (early, late)]
    preview = preview_move(from_version=old, to_version=new, at=at)
    assert (preview.moved, preview.leaving, preview.planned) == (2, 0, 0)
    assert [preview.first_at, preview.last_at] == sorted(ends)
    assert move_customers(from_version=old, to_version=new, by=None, at=at) == 2
    assert move_customers(from_version=old, to_version=new, by=None, at=at) == 0
    for organization, end in zip((early, late), ends, strict=True):
        assert version_at(organization, end - timedelta(seconds=1)) == old
        assert version_at(organization, end) == new
    roll_periods(at=max(ends) + DAY)
    assert early.subscriptions.get().version == new


def test_who_leaves_or_planned_something_is_left_alone() -> None:
    create_organization(at=AT)
    old, leaver, planner = newest_version("starter"), on_starter(), on_starter()
    new = dearer(old)
    cancel_subscription(subscription=leaver.subscriptions.get(), by=None, at=AT + DAY)
    change_plan(
        subscription=planner.subscriptions.get(), version=newest_version("free"), by=None, at=AT + DAY
    )
    preview = preview_move(from_version=old, to_version=new, at=AT + DAY)
    assert (preview.moved, preview.leaving, preview.planned, preview.first_at) == (0, 1, 1, None)
    assert move_customers(from_version=old, to_version=new, by=None, at=AT + DAY) == 0


def test_moves_keep_currency_and_interval_and_private_plans_private() -> None:
    organization = create_organization(at=AT)
    old = newest_version("starter")
    draft = new_draft(version=old, by=None, at=AT)
    private = clone_for_customer(version=old, organization=organization, by=None, at=AT)
    publish_version(version=private, by=None, at=AT)
    private.refresh_from_db()
    for target in (draft, old, private, dearer(old, currency="EUR"), dearer(old, interval="year")):
        with pytest.raises(MoveRefused):
            preview_move(from_version=old, to_version=target, at=AT)


def test_staff_changes_one_customer_at_its_periods_end_also_upwards() -> None:
    create_organization(at=AT)
    organization = on_starter()
    subscription, end = organization.subscriptions.get(), current_period(organization, at=AT).ends_at
    schedule_change(subscription=subscription, version=newest_version("professional"), by=None, at=AT + DAY)
    assert version_at(organization, AT + 2 * DAY).plan.slug == "starter"
    assert version_at(organization, end).plan.slug == "professional"
    schedule_change(subscription=subscription, version=subscription.version, by=None, at=AT + DAY)
    assert version_at(organization, end).plan.slug == "starter"
    cancel_subscription(subscription=subscription, by=None, at=AT + DAY)
    with pytest.raises(NothingToChange):
        schedule_change(subscription=subscription, version=newest_version("free"), by=None, at=AT + DAY)


def test_a_private_plan_is_sold_to_its_customer_only() -> None:
    create_organization(at=AT)
    mine, other = on_starter(), on_starter()
    private = clone_for_customer(version=newest_version("starter"), organization=mine, by=None, at=AT)
    component = private.components.get()
    component.unit_price = Decimal("0.0007")
    component.save()
    private = publish_version(version=private, by=None, at=AT)
    schedule_change(subscription=mine.subscriptions.get(), version=private, by=None, at=AT)
    assert Period.objects.for_organization(mine).filter(version=private).exists()
    with pytest.raises(VersionNotOnSale):
        schedule_change(subscription=other.subscriptions.get(), version=private, by=None, at=AT)
    with pytest.raises(VersionNotOnSale):
        change_plan(subscription=other.subscriptions.get(), version=private, by=None, at=AT)


def test_who_is_on_a_list_that_is_no_longer_sold_may_take_a_planned_change_back() -> None:
    create_organization(at=AT)
    old, organization = newest_version("starter"), on_starter()
    dearer(old)
    subscription = organization.subscriptions.get()
    change_plan(subscription=subscription, version=newest_version("free"), by=None, at=AT + DAY)
    change_plan(subscription=subscription, version=old, by=None, at=AT + DAY)
    subscription.refresh_from_db()
    assert (subscription.version, subscription.next_version) == (old, None)


def test_who_paid_for_a_year_is_moved_when_it_is_over() -> None:
    create_organization(at=AT)
    old = dearer(newest_version("starter"), interval="year")
    organization = create_organization(plan="", at=AT)
    start_subscription(organization=organization, version=old, by=None, at=AT, has_payment=True)
    new = dearer(old, interval="year", fee_minor=9900)
    preview = preview_move(from_version=old, to_version=new, at=AT + 40 * DAY)
    assert preview.moved == 1
    assert preview.first_at is not None
    assert preview.first_at - AT > 365 * DAY - DAY
    move_customers(from_version=old, to_version=new, by=None, at=AT + 40 * DAY)
    roll_periods(at=preview.first_at - DAY)
    assert version_at(organization, preview.first_at - DAY) == old
    roll_periods(at=preview.first_at)
    assert version_at(organization, preview.first_at) == new
