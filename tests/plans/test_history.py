from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from accounts.models import Organization
from plans.models import PlanVersion, Subscription, SubscriptionEvent, SubscriptionEventKind
from plans.queries import newest_version
from plans.services import (
    activate_subscription,
    cancel_subscription,
    change_plan,
    mark_past_due,
    roll_periods,
    start_subscription,
    suspend_for_payment,
    undo_cancellation,
)
from tests.factories import create_organization, create_plan

pytestmark = pytest.mark.django_db(transaction=True)
START = datetime(2026, 1, 31, 12, tzinfo=UTC)
Kind = SubscriptionEventKind


def events(organization: Organization) -> list[tuple[str, int, int]]:
    rows = SubscriptionEvent.objects.for_organization(organization).order_by("pk")
    return [(row.kind, row.previous_mrr_minor, row.mrr_minor) for row in rows]


def test_each_act_is_logged_with_the_revenue_before_and_after() -> None:
    organization = create_organization(plan="starter", at=START)
    subscription = organization.subscriptions.get()
    day = timedelta(days=1)
    activate_subscription(subscription=subscription, by=None, at=START + day)
    change_plan(
        subscription=subscription, version=newest_version("professional"), by=None, at=START + 2 * day
    )
    mark_past_due(subscription=subscription, by=None, at=START + 3 * day)
    suspend_for_payment(subscription=subscription, by=None, at=START + 11 * day)
    activate_subscription(subscription=subscription, by=None, at=START + 12 * day)
    cancel_subscription(subscription=subscription, by=None, at=START + 13 * day)
    undo_cancellation(subscription=subscription, by=None, at=START + 13 * day)
    cancel_subscription(subscription=subscription, by=None, at=START + 14 * day)
    roll_periods(at=START + 90 * day)
    assert events(organization) == [
        (Kind.TRIAL_STARTED, 0, 0),
        (Kind.TRIAL_CONVERTED, 0, 4900),
        (Kind.PLAN_CHANGED, 4900, 19900),
        (Kind.PAST_DUE, 19900, 19900),
        (Kind.SUSPENDED, 19900, 0),
        (Kind.PAID, 0, 19900),
        (Kind.CANCELLATION_PLANNED, 19900, 19900),
        (Kind.CANCELLATION_UNDONE, 19900, 19900),
        (Kind.CANCELLATION_PLANNED, 19900, 19900),
        (Kind.ENDED, 19900, 0),
    ]


def test_a_downgrade_is_logged_at_the_period_that_it_rules() -> None:
    organization = create_organization(plan="", at=START)
    dear, cheap = create_plan("dear", fee_minor=900), create_plan("cheap", fee_minor=100, included=Decimal(1))
    subscription = _start(organization, dear)
    change_plan(subscription=subscription, version=cheap, by=None, at=START + timedelta(days=3))
    roll_periods(at=START + timedelta(days=45))
    changed = SubscriptionEvent.objects.for_organization(organization).latest("pk")
    assert (changed.kind, changed.mrr_minor, changed.previous_version) == (Kind.PLAN_CHANGED, 100, dear)
    assert changed.at == datetime(2026, 2, 28, 12, tzinfo=UTC)


def test_a_yearly_fee_counts_a_twelfth() -> None:
    organization = create_organization(plan="", at=START)
    yearly = create_plan("yearly", fee_minor=100_00, interval="year")
    _start(organization, yearly)
    assert events(organization) == [(Kind.STARTED, 0, 8_33)]


def test_a_trial_that_runs_out_is_logged_once_at_its_end() -> None:
    organization = create_organization(plan="starter", at=START)
    for days in (13, 15, 16):
        roll_periods(at=START + timedelta(days=days))
    assert [kind for kind, *_ in events(organization)] == [Kind.TRIAL_STARTED, Kind.TRIAL_ENDED]
    assert SubscriptionEvent.objects.for_organization(organization).latest("pk").at == START + timedelta(
        days=14
    )


def test_a_trial_that_is_left_for_another_plan_has_ended_then() -> None:
    organization = create_organization(plan="starter", at=START)
    change_plan(
        subscription=organization.subscriptions.get(), version=newest_version("free"), by=None,
        at=START + timedelta(days=20),
    )  # fmt: skip
    kinds = [kind for kind, *_ in events(organization)]
    assert kinds == [Kind.TRIAL_STARTED, Kind.TRIAL_ENDED, Kind.ENDED, Kind.STARTED]


def test_another_currency_ends_the_revenue_of_the_old_one() -> None:
    organization = create_organization(plan="", at=START)
    dollars, euros = (
        create_plan("dollars", fee_minor=100),
        create_plan("euros", fee_minor=900, currency="EUR"),
    )
    subscription = _start(organization, dollars)
    change_plan(subscription=subscription, version=euros, by=None, at=START + timedelta(days=3))
    roll_periods(at=START + timedelta(days=32))
    rows = SubscriptionEvent.objects.for_organization(organization).order_by("pk")
    assert [(r.currency, r.previous_mrr_minor, r.mrr_minor) for r in rows] == [
        ("USD", 0, 100), ("USD", 100, 0), ("EUR", 0, 900)
    ]  # fmt: skip


def test_the_log_cannot_be_changed() -> None:
    organization = create_organization(plan="free", at=START)
    event = SubscriptionEvent.objects.for_organization(organization).get()
    event.mrr_minor = 5
    for change in (event.save, event.delete):
        with pytest.raises(IntegrityError), transaction.atomic():
            change()


def _start(organization: Organization, version: PlanVersion) -> Subscription:
    return start_subscription(organization=organization, version=version, by=None, at=START, has_payment=True)
