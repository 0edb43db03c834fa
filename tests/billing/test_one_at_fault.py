"""What fails for one customer is logged and holds nobody else back."""

from datetime import datetime, timedelta

import pytest

from billing import collection, statements
from billing.collection import send_invoices
from billing.late import LatePeriod
from billing.models import Invoice, Statement, StatementKind
from billing.statements import adjust_ended
from plans.services import cancel_subscription, roll_periods
from tests.billing.kit import HOUR, Customer

pytestmark = pytest.mark.django_db


def test_an_invoice_that_cannot_be_drawn_does_not_hold_back_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = Customer.start("Bad"), Customer.start("Good")
    first, second = bad.finalise(), good.finalise()
    draw = collection.statement_pdf

    def fails_for_the_first(statement: Statement) -> bytes:
        if statement.pk == first.pk:
            raise ValueError("no glyph")
        return draw(statement)

    monkeypatch.setattr(collection, "statement_pdf", fails_for_the_first)

    assert send_invoices(at=good.period().ends_at + HOUR) == 1
    assert Invoice.objects.get(statement=first).sent_at is None
    assert Invoice.objects.get(statement=second).sent_at is not None


def test_an_overdue_invoice_that_fails_does_not_hold_back_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = Customer.start("Bad"), Customer.start("Good")
    first, second = bad.finalise(), good.finalise()
    take = collection._take_overdue

    def fails_for_the_first(pk: int, at: datetime) -> bool:
        if pk == first.invoice.pk:
            raise ValueError("no such account")
        return take(pk, at)

    monkeypatch.setattr(collection, "_take_overdue", fails_for_the_first)

    assert collection.take_overdue(at=second.finalised_at + timedelta(days=60)) == 1
    assert Invoice.objects.get(statement=first).state == "open"
    assert Invoice.objects.get(statement=second).state == "past_due"


def test_an_adjustment_that_fails_does_not_hold_back_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = Customer.start("Bad"), Customer.start("Good")
    end = good.period().ends_at
    for customer in (bad, good):
        cancel_subscription(
            subscription=customer.subscription, by=None, at=customer.period().starts_at + HOUR
        )
    roll_periods(at=end)
    for customer in (bad, good):
        customer.use(9_000)
        customer.finalise()
        customer.use(3_000)
    adjust = statements._adjust

    def fails_for_the_first(late: LatePeriod, at: datetime) -> bool:
        if late.organization_id == bad.organization.pk:
            raise ValueError("negative usage")
        return adjust(late, at)

    monkeypatch.setattr(statements, "_adjust", fails_for_the_first)

    assert adjust_ended(at=end + HOUR) == 1
    assert Statement.objects.get(kind=StatementKind.ADJUSTMENT).organization == good.organization
