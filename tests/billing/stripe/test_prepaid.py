"""Prepaid credit of who pays by card: it pays the invoice that Stripe is about to make, exactly, and once."""

from datetime import timedelta

import pytest
from django.db.models import Sum

from accounts.models import Organization
from billing.credits import credit_balances, grant_credit
from billing.models import CreditEntry, StripeCredit, StripeFinding
from billing.statements import finalise_due
from billing.stripe.client import plain, stripe_client
from billing.stripe.compare import compare_invoices
from billing.stripe.items import send_items
from billing.stripe.prepaid import use_credit
from plans.services import roll_periods
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import Payer

pytestmark = pytest.mark.django_db(transaction=True)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def payer(stripe_standin: Standin) -> Payer:
    """Alice on Starter (49.00 a month), whose second paid month begins in a day."""
    payer = Payer.start(stripe_standin)
    payer.subscribe()
    payer.pass_time(14 * DAY + 2 * HOUR)
    payer.hear()
    payer.pass_time(payer.row.current_period_end - payer.at - DAY)  # type: ignore[operator]
    return payer


def give(organization: Organization, amount_minor: int, payer: Payer) -> None:
    grant_credit(
        organization=organization,
        amount_minor=amount_minor,
        currency="USD",
        reason="Gift",
        by=None,
        at=payer.at,
    )


def renew(payer: Payer, *, uses: int) -> dict[str, object]:
    """What beat does around the renewal; Stripe's invoice of it, finalised."""
    payer.pass_time(DAY + timedelta(minutes=50))
    roll_periods(at=payer.at)
    payer.hear()
    assert use_credit(at=payer.at) == 0  # the statement is not final
    finalise_due(at=payer.at)
    send_items(at=payer.at)
    assert use_credit(at=payer.at) == uses
    assert use_credit(at=payer.at) == 0
    payer.pass_time(HOUR)
    payer.hear()
    return plain(stripe_client().v1.invoices.retrieve(payer.invoices[-1].stripe_id))


def left(payer: Payer) -> int:
    return credit_balances(payer.organization, at=payer.at).get("USD", 0)


def test_credit_pays_a_part(payer: Payer) -> None:
    give(payer.organization, 1_500, payer)
    invoice = renew(payer, uses=1)
    assert (invoice["total"], invoice["amount_paid"], invoice["ending_balance"]) == (4_900, 3_400, 0)
    assert left(payer) == 0
    compare_invoices(at=payer.at)
    assert not StripeFinding.objects.exists()


def test_credit_pays_all_and_the_rest_stays_here(payer: Payer) -> None:
    give(payer.organization, 6_000, payer)
    invoice = renew(payer, uses=1)
    assert (invoice["total"], invoice["amount_paid"], invoice["status"]) == (4_900, 0, "paid")
    assert left(payer) == 1_100
    assert CreditEntry.objects.aggregate(total=Sum("amount_minor"))["total"] == 0


def test_a_balance_at_stripe_is_used_before(payer: Payer) -> None:
    customer = payer.organization.stripe_customer.stripe_id
    stripe_client().v1.customers.balance_transactions.create(customer, {"amount": -4_000, "currency": "usd"})
    give(payer.organization, 6_000, payer)
    invoice = renew(payer, uses=1)
    assert (invoice["total"], invoice["amount_paid"]) == (4_900, 0)
    assert left(payer) == 5_100


def test_an_answer_that_was_lost_gives_nothing_twice(payer: Payer, stripe_standin: Standin) -> None:
    give(payer.organization, 1_500, payer)
    stripe_standin.fault("error_after", "POST", "/balance_transactions$", times=2)
    payer.pass_time(DAY + timedelta(minutes=50))
    roll_periods(at=payer.at)
    payer.hear()
    finalise_due(at=payer.at)
    assert use_credit(at=payer.at) == 1
    assert StripeCredit.objects.get().sent_at is None

    use_credit(at=payer.at)

    assert StripeCredit.objects.get().sent_at == payer.at
    customer = stripe_client().v1.customers.retrieve(payer.organization.stripe_customer.stripe_id)
    assert customer.balance == -1_500


def test_without_credit_nothing_is_asked(payer: Payer) -> None:
    assert renew(payer, uses=0)["amount_paid"] == 4_900
    assert not StripeCredit.objects.exists()
