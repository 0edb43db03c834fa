"""Documents and credit when several workers do the same at once: real connections, no transaction around."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection

from billing.credits import apply_credit, credit_balances, grant_credit
from billing.models import CreditEntry, Invoice, Statement
from billing.statements import finalise_due
from tests.billing.kit import HOUR, START, Customer

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(count: int, act: Callable[[], int]) -> list[int]:
    barrier = Barrier(count)

    def run() -> int:
        try:
            barrier.wait()
            return act()
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(run) for _ in range(count)]]


def test_two_beats_make_each_statement_once() -> None:
    customers = [Customer.start(f"Customer {n}", shard=n % 4) for n in range(12)]
    for customer in customers:
        customer.use(12_000)
    at = customers[0].period(2).ends_at + HOUR

    made = at_once(4, lambda: finalise_due(at=at))

    assert sum(made) == Statement.objects.count() == 36
    assert Invoice.objects.count() == 36
    for customer in customers:
        numbers = Statement.objects.for_organization(customer.organization).order_by("starts_at")
        assert [number[-4:] for number in numbers.values_list("number", flat=True)] == [
            "0001",
            "0002",
            "0003",
        ]


def test_credit_is_applied_once_however_many_apply_it() -> None:
    acme = Customer.start()
    acme.finalise()
    acme.finalise(1)
    grant_credit(
        organization=acme.organization,
        amount_minor=6_000,
        currency="USD",
        reason="Welcome",
        by=None,
        at=START,
    )
    invoices = list(Invoice.objects.order_by("pk"))

    applied = at_once(2, lambda: sum(apply_credit(invoice=i, by=None, at=START) for i in invoices))

    assert sum(applied) == 6_000
    assert sum(Invoice.objects.values_list("prepaid_minor", flat=True)) == 6_000
    assert credit_balances(acme.organization, at=START) == {}
    assert sum(CreditEntry.objects.values_list("amount_minor", flat=True)) == 0
