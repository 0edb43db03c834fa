from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol

import pytest
from django.contrib.auth.models import Permission
from django.core import mail
from django.core.mail import EmailMultiAlternatives

from accounts.models import AuditEvent, Role, User
from billing.accounts import change_account
from billing.collection import (
    end_grace,
    give_up,
    mark_paid,
    pay_with_credit,
    send_invoices,
    take_overdue,
)
from billing.credits import credit_balances, grant_credit
from billing.invoices import InvoiceClosed
from billing.models import Invoice
from billing.statements import StatementKept, issue_credit_note, void_statement
from billing.states import table_as_markdown
from config.settings import BASE_DIR
from core.clock import to_micros
from core.errors import Forbidden
from plans.models import Subscription
from plans.standing import find_standing, mode_terms
from tests.billing.kit import START, Customer
from tests.eager import tasks_at_once
from tests.factories import create_membership, create_user

DAY = timedelta(days=1)
pytestmark = pytest.mark.django_db


class Settle(Protocol):
    def __call__(self, act: Callable[[], object]) -> object: ...


@pytest.fixture
def settle(django_capture_on_commit_callbacks: Callable[..., AbstractContextManager[object]]) -> Settle:
    """Does something, with the mails that it sends after its commit."""

    def run(act: Callable[[], object]) -> object:
        with tasks_at_once(), django_capture_on_commit_callbacks(execute=True):
            return act()

    return run


@pytest.fixture
def acme() -> Customer:
    customer = Customer.start("Acme Maps")
    for role, address in (
        (Role.OWNER, "alice@acme.example"),
        (Role.DEVELOPER, "dev@acme.example"),
        (Role.BILLING, "pay@acme.example"),
    ):
        create_membership(organization=customer.organization, user=create_user(address), role=role)
    return customer


def invoice_of(customer: Customer, month: int = 0) -> Invoice:
    return Invoice.objects.select_related("organization", "statement").get(statement=customer.finalise(month))


def status(customer: Customer) -> str:
    return Subscription.objects.get(pk=customer.subscription.pk).status


def door(customer: Customer, at: datetime) -> tuple[str, str]:
    """What the doors do at this moment: refusal and warning."""
    standing = find_standing(customer.organization, at=at)
    spans = mode_terms(standing, mode="live", test_plan="free").spans
    (span,) = [one for one in spans if one.start_us <= to_micros(at) < one.end_us]
    return span.refusal, span.warning


def test_an_invoice_is_sent_once_with_its_pdf(acme: Customer, settle: Settle) -> None:
    invoice = invoice_of(acme)

    sent = settle(lambda: send_invoices(at=invoice.created_at))

    assert sent == 1
    assert send_invoices(at=invoice.created_at) == 0
    (message,) = mail.outbox
    assert isinstance(message, EmailMultiAlternatives)
    assert sorted(message.to) == ["alice@acme.example", "pay@acme.example"]
    assert message.subject == "Invoice ACMEMAPS-0001 from Farebox: $49.00"
    ((name, content, kind),) = message.attachments
    assert (name, content[:5], kind) == ("ACMEMAPS-0001.pdf", b"%PDF-", "application/pdf")


def test_an_account_with_an_address_gets_its_mail_there(acme: Customer, settle: Settle) -> None:
    change_account(
        organization=acme.organization, legal_name="Acme Ltd", address="1 Road", tax_id="", email="ap@acme.example",
        by=None, at=START,
    )  # fmt: skip
    invoice = invoice_of(acme)

    settle(lambda: send_invoices(at=invoice.created_at))

    assert mail.outbox[0].to == ["ap@acme.example"]
    assert invoice.statement.bill_to == "Acme Ltd\n1 Road"
    assert AuditEvent.objects.get(action="billing.account_changed").target == "ACMEMAPS"


def test_from_due_to_past_due_to_suspended_to_paid(acme: Customer, settle: Settle) -> None:
    invoice = invoice_of(acme)
    due = invoice.due_at

    assert take_overdue(at=due - DAY) == 0
    assert settle(lambda: take_overdue(at=due)) == 1
    assert (status(acme), door(acme, due)) == ("past_due", ("", "payment_past_due"))
    assert end_grace(at=due + 6 * DAY) == 0
    assert door(acme, due + 6 * DAY)[0] == ""
    assert door(acme, due + 7 * DAY)[0] == "payment_required"  # at that second, without the beat
    assert settle(lambda: end_grace(at=due + 7 * DAY)) == 1
    assert status(acme) == "suspended"

    settle(lambda: mark_paid(invoice=invoice, by=None, at=due + 9 * DAY, reference="Bank 17"))

    assert (status(acme), door(acme, due + 9 * DAY)) == ("active", ("", ""))
    assert [message.subject for message in mail.outbox] == [
        "A payment of Acme Maps is overdue",
        "Calls of Acme Maps are refused: a payment is missing",
        "Thank you: nothing of Acme Maps is overdue",
    ]
    with pytest.raises(InvoiceClosed):
        mark_paid(invoice=invoice, by=None, at=due + 9 * DAY)


def test_the_door_stays_closed_while_another_invoice_is_overdue(acme: Customer) -> None:
    first, second = invoice_of(acme), invoice_of(acme, 1)
    take_overdue(at=second.due_at)

    mark_paid(invoice=first, by=None, at=second.due_at)
    assert status(acme) == "past_due"
    mark_paid(invoice=second, by=None, at=second.due_at)
    assert status(acme) == "active"


def test_credit_given_late_pays_and_opens_the_door(acme: Customer) -> None:
    invoice = invoice_of(acme)
    take_overdue(at=invoice.due_at)
    grant_credit(
        organization=acme.organization,
        amount_minor=5_000,
        currency="USD",
        reason="Sorry",
        by=None,
        at=invoice.due_at,
    )

    assert pay_with_credit(invoice=invoice, by=None, at=invoice.due_at) == 4_900

    assert status(acme) == "active"
    assert credit_balances(acme.organization, at=invoice.due_at) == {"USD": 100}


def test_the_audit_says_what_was_paid_not_what_the_invoice_came_to(acme: Customer) -> None:
    for month in range(2):
        invoice, at = invoice_of(acme, month), acme.period(month).ends_at + DAY
        grant_credit(
            organization=acme.organization, amount_minor=1_900, currency="USD", reason="x", by=None, at=at
        )
        pay_with_credit(invoice=invoice, by=None, at=at)
        if month == 0:
            mark_paid(invoice=invoice, by=None, at=at)
        else:
            grant_credit(
                organization=acme.organization, amount_minor=9_000, currency="USD", reason="x", by=None, at=at
            )
            pay_with_credit(invoice=invoice, by=None, at=at)

    paid = AuditEvent.objects.filter(action="invoice.paid").order_by("at")
    assert [event.details["amount"] for event in paid] == ["$30.00", "$30.00"]


def test_a_void_statement_or_a_credit_note_ends_what_is_owed(acme: Customer) -> None:
    first, second = invoice_of(acme), invoice_of(acme, 1)
    at = second.due_at
    take_overdue(at=at)

    void_statement(statement=first.statement, reason="Wrong", by=None, at=at)
    assert status(acme) == "past_due"
    issue_credit_note(statement=second.statement, amount_minor=4_900, reason="Sorry", by=None, at=at)
    assert status(acme) == "active"


def test_what_is_given_up_does_not_open_the_door(acme: Customer) -> None:
    invoice = invoice_of(acme)
    take_overdue(at=invoice.due_at)

    give_up(invoice=invoice, reason="Bankrupt", by=None, at=invoice.due_at)

    assert Invoice.objects.get(pk=invoice.pk).state == "uncollectible"
    assert status(acme) == "past_due"
    with pytest.raises(StatementKept):
        issue_credit_note(statement=invoice.statement, amount_minor=1, reason="x", by=None, at=invoice.due_at)


def test_acts_on_money_are_for_staff_and_payers(acme: Customer) -> None:
    invoice, at = invoice_of(acme), START
    owner, developer = (User.objects.get(email=f"{name}@acme.example") for name in ("alice", "dev"))
    give = {"organization": acme.organization, "amount_minor": 1, "currency": "USD", "reason": "x", "at": at}
    acts: list[Callable[[], object]] = [
        lambda: mark_paid(invoice=invoice, by=owner, at=at),
        lambda: give_up(invoice=invoice, reason="x", by=owner, at=at),
        lambda: void_statement(statement=invoice.statement, reason="x", by=owner, at=at),
        lambda: issue_credit_note(statement=invoice.statement, amount_minor=1, reason="x", by=owner, at=at),
        lambda: grant_credit(by=owner, **give),
        lambda: pay_with_credit(invoice=invoice, by=developer, at=at),
        lambda: change_account(
            organization=acme.organization,
            legal_name="x",
            address="",
            tax_id="",
            email="",
            by=developer,
            at=at,
        ),
    ]
    for act in acts:
        with pytest.raises(Forbidden):
            act()

    assert pay_with_credit(invoice=invoice, by=owner, at=at) == 0

    staff = create_user("staff@farebox.example", is_staff=True)
    User.objects.filter(pk=staff.pk).update(is_superuser=False)
    with pytest.raises(Forbidden):
        mark_paid(invoice=invoice, by=User.objects.get(pk=staff.pk), at=at)
    staff.user_permissions.add(
        Permission.objects.get(codename="change_invoice", content_type__app_label="billing")
    )
    assert mark_paid(invoice=invoice, by=User.objects.get(pk=staff.pk), at=at).state == "paid"


def test_the_table_stands_in_the_docs() -> None:
    assert table_as_markdown() in (BASE_DIR / "docs" / "billing.md").read_text()
