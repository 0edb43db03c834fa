"""From Checkout to the end, at the stand-in: what Stripe says becomes periods, status and door."""

from datetime import timedelta

import pytest

from billing.models import PaymentEntry, PaymentKind
from billing.stripe.changes import (
    cancel_paid_plan,
    change_paid_plan,
    follow_plans,
    keep_paid_plan,
    upgrade_price,
)
from billing.stripe.checkout import AlreadyPaying, DebtFirst, MonthEndsSoon, paying
from billing.stripe.client import StripeRefused, stripe_client
from plans.models import SubscriptionStatus
from plans.queries import newest_version
from plans.services import mark_past_due, roll_periods, schedule_change
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import DECLINED, Payer
from tests.factories import create_subscription

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
MONTH = timedelta(days=31)


@pytest.fixture
def payer(stripe_standin: Standin) -> Payer:
    return Payer.start(stripe_standin)


@pytest.fixture
def past_trial(payer: Payer) -> Payer:
    """Alice on Starter, whose trial is over: she pays from now on."""
    payer.subscribe()
    payer.pass_time(14 * DAY + timedelta(hours=2))
    payer.hear()
    return payer


def test_checkout_with_a_trial_and_then_months_of_the_same_borders(payer: Payer) -> None:
    row = payer.subscribe()

    subscription = payer.subscription
    assert (row.status, subscription.status) == ("trialing", SubscriptionStatus.ACTIVE)
    assert subscription.trial_ends_at == row.current_period_end
    payer.pass_time(14 * DAY + timedelta(hours=2))
    payer.hear()
    period = subscription.periods.get(starts_at__lte=payer.at, ends_at__gt=payer.at)
    assert (period.starts_at, period.ends_at) == (
        payer.row.current_period_start,
        payer.row.current_period_end,
    )
    assert [invoice.total_minor for invoice in payer.invoices if invoice.total_minor] == [4_900]
    assert payer.invoices[-1].state == "paid"
    assert payer.organization.stripe_customer.card == "Visa ending in 4242"


def test_a_declined_card_leaves_everything_as_it_was(payer: Payer) -> None:
    assert payer.fill_in(payer.checkout(), DECLINED) == ""
    assert paying(payer.organization) is None
    assert not payer.organization.subscriptions.exists()


def test_nobody_pays_twice(payer: Payer) -> None:
    first, second = payer.checkout(), payer.checkout()
    assert payer.fill_in(first) == ""  # the second page closed the first one
    assert payer.fill_in(second).startswith("http://portal.test/paid/")
    payer.hear()
    with pytest.raises(AlreadyPaying):
        payer.checkout()


def test_a_failed_renewal_and_its_payment(past_trial: Payer, stripe_standin: Standin) -> None:
    payer = past_trial
    _use_card(payer, "pm_card_chargeCustomerFail")
    payer.pass_time(MONTH + timedelta(hours=2))
    payer.hear()
    assert payer.subscription.status == SubscriptionStatus.PAST_DUE
    failed = PaymentEntry.objects.get(kind=PaymentKind.FAILED)
    assert failed.amount_minor == 4_900

    _use_card(payer, "pm_card_visa")
    stripe_client().v1.invoices.pay(payer.invoices[-1].stripe_id)
    payer.hear()
    payer.hear()

    assert payer.subscription.status == SubscriptionStatus.ACTIVE
    assert PaymentEntry.objects.filter(kind=PaymentKind.PAID, invoice=payer.invoices[-1]).count() == 1


def test_dunning_that_gives_up_closes_the_door(past_trial: Payer) -> None:
    payer = past_trial
    _use_card(payer, "pm_card_chargeCustomerFail")
    payer.pass_time(MONTH + 20 * DAY)
    payer.hear()
    assert payer.subscription.status == SubscriptionStatus.CANCELLED
    assert paying(payer.organization) is None


def test_an_upgrade_costs_what_was_shown(past_trial: Payer) -> None:
    payer = past_trial
    payer.pass_time(10 * DAY)
    old, professional = payer.row, newest_version("professional")
    price = upgrade_price(old, professional, at=payer.at.replace(microsecond=0))
    assert 0 < price.credit_minor < 4_900

    change_paid_plan(organization=payer.organization, version=professional, by=None, at=payer.at)
    payer.hear()

    assert payer.invoices[-1].total_minor == price.due_minor
    assert payer.invoices[-1].state == "paid"
    old.refresh_from_db()
    assert old.ended_at == payer.row.started_at
    subscription = payer.subscription
    assert (subscription.version, subscription.status) == (professional, SubscriptionStatus.ACTIVE)
    period = subscription.periods.get(starts_at=payer.row.started_at)
    assert (period.version, period.ends_at) == (professional, payer.row.current_period_end)


def test_an_upgrade_that_is_not_paid_changes_nothing(past_trial: Payer) -> None:
    payer = past_trial
    _use_card(payer, "pm_card_chargeCustomerFail")
    before = payer.row

    with pytest.raises(StripeRefused):
        change_paid_plan(
            organization=payer.organization, version=newest_version("professional"), by=None, at=payer.at
        )

    payer.hear()
    assert payer.row == before
    assert payer.subscription.version.plan.slug == "starter"
    customer = payer.organization.stripe_customer.stripe_id
    assert not list(stripe_client().v1.invoice_items.list({"customer": customer, "pending": True}))


def test_cancel_and_undo_on_both_sides(past_trial: Payer) -> None:
    payer = past_trial
    cancelled = cancel_paid_plan(organization=payer.organization, by=None, at=payer.at)
    payer.hear()
    assert payer.row.cancels_at == cancelled.cancels_at == payer.row.current_period_end

    keep_paid_plan(organization=payer.organization, by=None, at=payer.at)
    payer.hear()
    assert (payer.row.cancels_at, payer.subscription.cancels_at) == (None, None)


def test_done_undone_and_done_again_are_three_acts(past_trial: Payer, stripe_standin: Standin) -> None:
    payer = past_trial
    before = len(stripe_standin.writes)
    for act in (cancel_paid_plan, keep_paid_plan, cancel_paid_plan):
        act(organization=payer.organization, by=None, at=payer.at)
        payer.hear()
        payer.pass_time(timedelta(seconds=2))

    keys = [key for _, key in stripe_standin.writes[before:]]
    assert len(set(keys)) == len(keys) == 3
    assert payer.row.cancels_at == payer.row.current_period_end


def test_cancelled_at_stripe_is_cancelled_here_and_ends(past_trial: Payer) -> None:
    payer = past_trial
    stripe_client().v1.subscriptions.update(payer.row.stripe_id, {"cancel_at_period_end": True})
    payer.hear()
    assert payer.subscription.cancels_at == payer.row.current_period_end

    payer.pass_time(MONTH)
    payer.hear()
    assert paying(payer.organization) is None
    assert payer.subscription.status == SubscriptionStatus.CANCELLED


def _use_card(payer: Payer, token: str) -> None:
    customer = payer.organization.stripe_customer.stripe_id
    method = stripe_client().v1.payment_methods.attach(token, {"customer": customer})
    stripe_client().v1.customers.update(customer, {"invoice_settings": {"default_payment_method": method.id}})
    stripe_client().v1.subscriptions.update(payer.row.stripe_id, {"default_payment_method": method.id})


def test_a_downgrade_waits_on_both_sides_and_begins_with_the_next_period(payer: Payer) -> None:
    payer.subscribe("professional")
    payer.pass_time(14 * DAY + timedelta(hours=2))
    payer.hear()
    starter = newest_version("starter")

    change_paid_plan(organization=payer.organization, version=starter, by=None, at=payer.at)
    assert (payer.row.next_version, payer.subscription.next_version) == (starter, starter)
    payer.pass_time(payer.row.current_period_end - payer.at + timedelta(hours=2))  # type: ignore[operator]
    roll_periods(at=payer.at)
    payer.hear()

    assert (payer.row.version, payer.row.next_version, payer.row.status) == (starter, None, "active")
    assert payer.subscription.version == starter
    period = payer.subscription.periods.get(starts_at__lte=payer.at, ends_at__gt=payer.at)
    assert (period.version, period.starts_at) == (starter, payer.row.current_period_start)
    assert payer.invoices[-1].total_minor == 4_900


def test_what_staff_plans_is_carried_out_at_stripe_and_taken_back(past_trial: Payer) -> None:
    payer = past_trial
    assert follow_plans(at=payer.at) == 0
    professional = newest_version("professional")
    schedule_change(subscription=payer.subscription, version=professional, by=None, at=payer.at)
    assert (follow_plans(at=payer.at), payer.row.next_version) == (1, professional)
    assert follow_plans(at=payer.at) == 0

    schedule_change(subscription=payer.subscription, version=newest_version("starter"), by=None, at=payer.at)
    assert (follow_plans(at=payer.at), payer.row.next_version) == (1, None)

    payer.pass_time(payer.row.current_period_end - payer.at + timedelta(hours=2))  # type: ignore[operator]
    payer.hear()
    assert payer.row.version.plan.slug == "starter"


def test_who_paid_by_hand_pays_by_card_from_the_next_period_on(stripe_standin: Standin) -> None:
    payer = Payer.start(stripe_standin)
    create_subscription(organization=payer.organization, plan="starter", at=payer.at, has_payment=True)
    payer.pass_time(14 * DAY + timedelta(minutes=1))
    month = payer.subscription.periods.get(starts_at__lte=payer.at, ends_at__gt=payer.at)
    payer.pass_time(5 * DAY)

    row = payer.subscribe()

    assert row.current_period_end == month.ends_at.replace(microsecond=0)
    assert payer.subscription.periods.get(starts_at__lte=payer.at, ends_at__gt=payer.at) == month
    assert not [invoice for invoice in payer.invoices if invoice.total_minor]
    payer.pass_time(month.ends_at - payer.at - DAY)
    with pytest.raises(AlreadyPaying):
        payer.checkout()


def test_a_month_by_hand_that_ends_soon_is_waited_for(stripe_standin: Standin) -> None:
    payer = Payer.start(stripe_standin)
    create_subscription(organization=payer.organization, plan="starter", at=payer.at, has_payment=True)
    payer.pass_time(13 * DAY)
    with pytest.raises(MonthEndsSoon, match="after that"):
        payer.checkout()


def test_a_card_does_not_settle_an_invoice_that_is_overdue(stripe_standin: Standin) -> None:
    payer = Payer.start(stripe_standin)
    create_subscription(organization=payer.organization, plan="starter", at=payer.at, has_payment=True)
    mark_past_due(subscription=payer.subscription, by=None, at=payer.at)
    with pytest.raises(DebtFirst):
        payer.checkout()
