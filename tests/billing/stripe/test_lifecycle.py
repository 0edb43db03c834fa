"""Stripe's statuses and what each makes of ours: the state, the door, the months, and the mail about it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core import mail

from accounts.models import Organization
from billing.collection import end_grace
from billing.stripe.client import plain, stripe_client
from billing.stripe.sync import resume_with_card
from core.clock import to_micros
from metering.costs import period_cost
from plans.models import SubscriptionEvent, SubscriptionStatus
from plans.services import roll_periods
from plans.standing import find_standing, mode_terms
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import DECLINED, Payer
from tests.billing.stripe.test_subscriptions import _use_card as use_card
from tests.eager import tasks_at_once
from tests.factories import create_membership, create_user

pytestmark = pytest.mark.django_db
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TRIAL, MONTH = 14 * DAY, 31 * DAY
S = SubscriptionStatus


@pytest.fixture
def payer(stripe_standin: Standin) -> Payer:
    return Payer.start(stripe_standin)


def door(organization: Organization, at: datetime) -> str:
    """'open', or the code that a live key is refused with at this moment."""
    roll_periods(at=at)
    terms = mode_terms(find_standing(organization, at=at), mode="live", test_plan="free")
    spans = (span for span in terms.spans if span.start_us <= to_micros(at) < span.end_us)
    return next(spans).refusal or "open"


def take_card_away(payer: Payer) -> None:
    customer = payer.organization.stripe_customer.stripe_id
    for method in stripe_client().v1.payment_methods.list({"customer": customer}):
        stripe_client().v1.payment_methods.detach(method.id)


def pause_without_card(payer: Payer) -> None:
    """A trial whose subscription says that it pauses without a card, and ends without one."""
    payer.subscribe()
    ends: Any = {"trial_settings": {"end_behavior": {"missing_payment_method": "pause"}}}
    stripe_client().v1.subscriptions.update(payer.row.stripe_id, ends)
    take_card_away(payer)
    payer.pass_time(TRIAL + HOUR)
    payer.hear()


def trialing(payer: Payer) -> None:
    payer.subscribe()


def active(payer: Payer) -> None:
    payer.subscribe()
    payer.pass_time(TRIAL + HOUR)
    payer.hear()


def pause_collection(behavior: str) -> Callable[[Payer], None]:
    def steps(payer: Payer) -> None:
        active(payer)
        sent: Any = {"pause_collection": {"behavior": behavior}}
        stripe_client().v1.subscriptions.update(payer.row.stripe_id, sent)
        payer.pass_time(MONTH + HOUR)
        payer.hear()

    return steps


def past_due(payer: Payer) -> None:
    active(payer)
    use_card(payer, "pm_card_chargeCustomerFail")
    payer.pass_time(MONTH + 2 * HOUR)
    payer.hear()


def beyond_grace(payer: Payer) -> None:
    payer.standin.control("settings", "POST", {"retry_days": [3, 5, 9, 14]})
    past_due(payer)
    payer.pass_time(8 * DAY)
    end_grace(at=payer.at)


def unpaid(payer: Payer) -> None:
    payer.standin.control("settings", "POST", {"retry_days": [1], "after_retries": "unpaid"})
    past_due(payer)
    payer.pass_time(2 * DAY)
    payer.hear()


def canceled(payer: Payer) -> None:
    active(payer)
    stripe_client().v1.subscriptions.cancel(payer.row.stripe_id)
    payer.hear()


@pytest.mark.parametrize(
    ("steps", "theirs", "ours", "expected"),
    [
        (trialing, "trialing", S.ACTIVE, "open"),
        (active, "active", S.ACTIVE, "open"),
        (pause_collection("void"), "active", S.ACTIVE, "open"),
        (pause_collection("keep_as_draft"), "active", S.ACTIVE, "open"),
        (pause_collection("mark_uncollectible"), "active", S.ACTIVE, "open"),
        (past_due, "past_due", S.PAST_DUE, "open"),
        (beyond_grace, "past_due", S.SUSPENDED, "payment_required"),
        (unpaid, "unpaid", S.PAST_DUE, "open"),
        (pause_without_card, "paused", S.PAUSED, "subscription_paused"),
        (canceled, "canceled", S.CANCELLED, "subscription_cancelled"),
    ],
)
def test_each_status_of_stripe_has_one_of_ours(
    payer: Payer, steps: Callable[[Payer], None], theirs: str, ours: str, expected: str
) -> None:
    steps(payer)
    row = payer.organization.stripe_subscriptions.latest("started_at")
    assert plain(stripe_client().v1.subscriptions.retrieve(row.stripe_id))["status"] == theirs
    assert (row.status, payer.subscription.status) == (theirs, ours)
    assert door(payer.organization, payer.at) == expected
    payer.hear()
    assert payer.subscription.status == ours  # told again, it stays


def test_incomplete_leaves_the_door_as_it_was(payer: Payer) -> None:
    assert payer.fill_in(payer.checkout(), DECLINED) == ""
    payer.hear()
    assert not payer.organization.stripe_subscriptions.exists()
    assert not payer.organization.subscriptions.exists()


def test_a_paused_trial_is_told_once_and_costs_nothing(
    payer: Payer, django_capture_on_commit_callbacks: Any
) -> None:
    create_membership(organization=payer.organization, user=create_user("bill@acme.example"), role="billing")
    with tasks_at_once(), django_capture_on_commit_callbacks(execute=True):
        pause_without_card(payer)
    told = [one for one in mail.outbox if "paused" in one.subject]
    assert [one.to for one in told] == [["bill@acme.example"]]
    assert "402 subscription_paused" in str(told[0].body)
    payer.pass_time(40 * DAY)
    payer.hear()
    subscription = payer.subscription
    roll_periods(at=payer.at)
    periods = subscription.periods.filter(starts_at__lte=payer.at, is_trial=False)
    assert periods.count() == 2
    assert [period_cost(payer.organization, period=one).total_minor for one in periods] == [0, 0]
    log = list(
        SubscriptionEvent.objects.for_organization(payer.organization).values_list("kind", "mrr_minor")
    )
    assert log[-1] == ("paused", 0)


def test_a_card_resumes_a_paused_trial_and_months_begin_then(payer: Payer) -> None:
    pause_without_card(payer)
    stripe_id = payer.row.stripe_id
    assert not resume_with_card(stripe_id, at=payer.at)
    payer.pass_time(10 * DAY)
    use_card(payer, "pm_card_visa")

    assert resume_with_card(stripe_id, at=payer.at)
    payer.hear()

    assert (payer.row.status, payer.subscription.status) == ("active", S.ACTIVE)
    assert door(payer.organization, payer.at) == "open"
    period = payer.subscription.periods.get(starts_at__lte=payer.at, ends_at__gt=payer.at)
    assert (period.starts_at, period.ends_at) == (
        payer.row.current_period_start,
        payer.row.current_period_end,
    )
    costs = [
        period_cost(payer.organization, period=one).total_minor
        for one in payer.subscription.periods.filter(starts_at__lte=payer.at).order_by("starts_at")
    ]
    assert costs == [0, 0, 4_900]  # trial, pause, the month that was paid
    assert [one.total_minor for one in payer.invoices if one.total_minor] == [4_900]
    assert not resume_with_card(stripe_id, at=payer.at)
