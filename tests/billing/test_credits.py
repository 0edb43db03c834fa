from datetime import timedelta

import pytest
from django.db.models import Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from billing.credits import (
    CreditRefused,
    apply_credit,
    credit_balances,
    credit_lots,
    expire_credits,
    give_back_credit,
    grant_credit,
)
from billing.models import CreditAccount, CreditEntry, CreditSource, Invoice
from tests.billing.kit import START, Customer

DAY = timedelta(days=1)


def give(customer: Customer, amount: int, *, days: int | None = None, currency: str = "USD") -> None:
    grant_credit(
        organization=customer.organization,
        amount_minor=amount,
        currency=currency,
        reason="Welcome",
        by=None,
        at=START,
        expires_at=None if days is None else START + days * DAY,
    )


def balances(customer: Customer, *, days: int = 0) -> dict[str, int]:
    return credit_balances(customer.organization, at=START + days * DAY)


@pytest.mark.django_db
def test_what_expires_first_is_used_first() -> None:
    acme = Customer.start()
    statement = acme.finalise()
    give(acme, 1_000)
    give(acme, 3_000, days=300)
    give(acme, 2_000, days=200)
    invoice = Invoice.objects.get(statement=statement)

    assert apply_credit(invoice=invoice, by=None, at=START) == 4_900

    assert (invoice.prepaid_minor, invoice.due_minor) == (4_900, 0)
    left = [(lot.grant.amount_minor, lot.left_minor) for lot in credit_lots(acme.organization, at=START)]
    assert left == [(3_000, 100), (1_000, 1_000)]


@pytest.mark.django_db
def test_new_invoices_take_credit_by_themselves() -> None:
    acme = Customer.start()
    give(acme, 5_000)

    first = Invoice.objects.get(statement=acme.finalise())
    second = Invoice.objects.get(statement=acme.finalise(1))

    assert (first.state, first.prepaid_minor, first.reference) == ("paid", 4_900, "Prepaid credit")
    assert (second.state, second.prepaid_minor, second.due_minor) == ("open", 100, 4_800)


@pytest.mark.django_db
def test_credit_of_another_currency_is_not_applied() -> None:
    acme = Customer.start()
    give(acme, 5_000, currency="EUR")

    assert Invoice.objects.get(statement=acme.finalise()).prepaid_minor == 0
    assert balances(acme) == {"EUR": 5_000}


@pytest.mark.django_db
def test_expired_credit_is_neither_shown_nor_applied_and_is_booked_once() -> None:
    acme = Customer.start()
    give(acme, 5_000, days=10)

    assert balances(acme, days=9) == {"USD": 5_000}
    assert balances(acme, days=10) == {}
    assert expire_credits(at=START + 10 * DAY) == 1
    assert expire_credits(at=START + 11 * DAY) == 0
    expired = CreditEntry.objects.filter(account=CreditAccount.EXPIRED)
    assert expired.aggregate(amount=Sum("amount_minor")) == {"amount": 5_000}


@pytest.mark.django_db
def test_credit_comes_back_from_an_invoice_that_is_void() -> None:
    acme = Customer.start()
    give(acme, 2_000, days=500)
    invoice = Invoice.objects.get(statement=acme.finalise())
    assert balances(acme) == {}

    assert give_back_credit(invoice=invoice, by=None, at=START) == 2_000
    assert give_back_credit(invoice=invoice, by=None, at=START) == 0
    assert balances(acme) == {"USD": 2_000}


@pytest.mark.django_db
def test_bought_credit_stands_on_its_own_account() -> None:
    acme = Customer.start()
    grant_credit(
        organization=acme.organization, amount_minor=700, currency="USD", reason="Bought", by=None, at=START,
        source=CreditSource.PURCHASED,
    )  # fmt: skip

    assert CreditEntry.objects.get(account=CreditAccount.PURCHASED).amount_minor == -700


@pytest.mark.django_db
def test_credit_of_nothing_or_of_the_past_is_refused() -> None:
    acme = Customer.start()

    with pytest.raises(CreditRefused):
        give(acme, 0)
    with pytest.raises(CreditRefused):
        give(acme, 100, days=0)


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), st.integers(1, 9_000), st.integers(1, 30)),
        st.tuples(st.just("apply"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("give_back"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("expire"), st.integers(1, 30), st.just(0)),
    ),
    max_size=12,
)


class LedgerTest(TestCase):
    """Whatever is granted, applied, given back and expired: all entries sum to zero, and no account is overdrawn."""

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(ACTS)
    def test_the_ledger_sums_to_zero(self, acts: list[tuple[str, int, int]]) -> None:
        acme = Customer.start()
        invoices = [Invoice.objects.get(statement=acme.finalise(month)) for month in range(3)]
        day = 0
        for act, number, days in acts:
            at = START + day * DAY
            if act == "grant":
                give(acme, number, days=day + days)
            elif act == "apply":
                apply_credit(invoice=invoices[number], by=None, at=at)
            elif act == "give_back":
                invoice = invoices[number]
                give_back_credit(invoice=invoice, by=None, at=at)
                Invoice.objects.filter(pk=invoice.pk).update(prepaid_minor=0)
            else:
                day += number
                expire_credits(at=START + day * DAY)

        assert (CreditEntry.objects.aggregate(sum=Sum("amount_minor"))["sum"] or 0) == 0
        per_grant = CreditEntry.objects.filter(account=CreditAccount.CUSTOMER).values("grant")
        left = per_grant.annotate(left=Sum("amount_minor")).values_list("left", flat=True)
        assert all(amount >= 0 for amount in left)
        applied = CreditEntry.objects.filter(account=CreditAccount.APPLIED).aggregate(sum=Sum("amount_minor"))
        prepaid = Invoice.objects.aggregate(sum=Sum("prepaid_minor"))
        assert (applied["sum"] or 0) == (prepaid["sum"] or 0)
