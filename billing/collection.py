"""Getting invoices paid: a small interface for collectors, and the states that all of them share (billing/states.py).

By hand: the invoice goes out by mail with its PDF, staff mark it paid; past its due date the subscription is past due, after
the grace days suspended, and when nothing is owed any more the door opens again.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.mail import Attachment, queue_mail
from accounts.models import Membership, Organization, Role, User
from accounts.permissions import check_can_decide_plan, check_can_handle_money
from billing.accounts import get_account
from billing.credits import apply_credit
from billing.invoices import close_invoice, lock_invoice, settle_invoice
from billing.models import CollectorName, Invoice, InvoiceState, StripeInvoice
from billing.pdf import statement_pdf
from billing.states import PaymentEvent, advance
from billing.wording import title
from core.money import format_money
from core.one_by_one import one_by_one
from plans.models import Subscription, SubscriptionStatus

UNPAID = (InvoiceState.OPEN, InvoiceState.PAST_DUE)


class Collector(Protocol):
    """Who asks for the money. Acts are repeated until they succeed, so each has to be safe to repeat."""

    def send(self, invoice: Invoice) -> None:
        """Ask for what is due."""

    def cancel(self, invoice: Invoice) -> None:
        """Stop asking."""


class ManualCollection:
    """By mail; the money arrives at the owner's bank, and staff say so."""

    def send(self, invoice: Invoice) -> None:
        statement = invoice.statement
        pdf = Attachment(f"{statement.number}.pdf", statement_pdf(statement), "application/pdf")
        mail_about(invoice.organization, "invoice", {"invoice": invoice}, attachments=(pdf,))

    def cancel(self, invoice: Invoice) -> None:
        mail_about(invoice.organization, "invoice_void", {"invoice": invoice})


COLLECTORS: Mapping[str, Collector] = {CollectorName.MANUAL: ManualCollection()}


def send_invoices(*, at: datetime, limit: int = 500) -> int:
    """Send what has not been sent yet; how many. What fails is logged and tried again by the next beat."""
    unsent = Invoice.objects.filter(sent_at=None, state=InvoiceState.OPEN, collector__in=COLLECTORS)
    ids = unsent.order_by("pk").values_list("pk", flat=True)[:limit]
    return one_by_one(ids, lambda pk: _send(pk, at), failed="invoice_not_sent")


@transaction.atomic
def _send(pk: int, at: datetime) -> bool:
    rows = Invoice.objects.select_related("organization", "statement__organization")
    invoice = rows.select_for_update(of=("self",), skip_locked=True).filter(pk=pk, sent_at=None).first()
    if invoice is None:
        return False
    COLLECTORS[invoice.collector].send(invoice)
    invoice.sent_at = at
    invoice.save(update_fields=["sent_at"])
    return True


@transaction.atomic
def mark_paid(*, invoice: Invoice, by: User | None, at: datetime, reference: str = "") -> Invoice:
    """The whole rest was paid; when nothing else is overdue, the door opens. Raises Forbidden or InvoiceClosed."""
    check_can_handle_money(by)
    return _settle(invoice, by, at, reference)


def _settle(
    invoice: Invoice, by: User | None, at: datetime, reference: str, paid_minor: int | None = None
) -> Invoice:
    invoice = settle_invoice(invoice=invoice, by=by, at=at, reference=reference, paid_minor=paid_minor)
    after_payment(invoice.organization, by=by, at=at)
    return invoice


@transaction.atomic
def pay_with_credit(*, invoice: Invoice, by: User | None, at: datetime) -> int:
    """Use the customer's credit for an unpaid invoice; how much, minor units. Raises Forbidden or InvoiceClosed."""
    check_can_decide_plan(by, invoice.organization)
    invoice = lock_invoice(invoice)
    applied = apply_credit(invoice=invoice, by=by, at=at)
    if applied and invoice.due_minor == 0:
        _settle(invoice, by, at, "Prepaid credit", applied)
    return applied


@transaction.atomic
def give_up(*, invoice: Invoice, reason: str, by: User | None, at: datetime) -> Invoice:
    """Uncollectible: nobody asks for it any more. The subscription stays as it is. Raises Forbidden or InvoiceClosed."""
    check_can_handle_money(by)
    invoice = close_invoice(invoice=invoice, state=InvoiceState.UNCOLLECTIBLE, by=by, at=at, reason=reason)
    COLLECTORS[invoice.collector].cancel(invoice)
    return invoice


def take_overdue(*, at: datetime, limit: int = 500) -> int:
    """Invoices whose due date has passed become past due, and the customer's subscription with them; how many."""
    due = Invoice.objects.filter(state=InvoiceState.OPEN, due_at__lte=at)
    ids = due.order_by("due_at", "pk").values_list("pk", flat=True)[:limit]
    return one_by_one(ids, lambda pk: _take_overdue(pk, at), failed="overdue_failed")


@transaction.atomic
def _take_overdue(pk: int, at: datetime) -> bool:
    rows = Invoice.objects.select_related("organization", "statement")
    invoice = (
        rows.select_for_update(of=("self",), skip_locked=True).filter(pk=pk, state=InvoiceState.OPEN).first()
    )
    if invoice is None:
        return False
    invoice.state, invoice.past_due_at = InvoiceState.PAST_DUE, at
    invoice.save(update_fields=["state", "past_due_at"])
    tell_payment(invoice.organization, PaymentEvent.OVERDUE, by=None, at=at)
    return True


def end_grace(*, at: datetime, limit: int = 500) -> int:
    """Suspend subscriptions whose grace days are over; how many. The doors closed at that second by themselves."""
    since = at - timedelta(days=settings.PAST_DUE_GRACE_DAYS)
    over = Subscription.objects.filter(
        status=SubscriptionStatus.PAST_DUE, past_due_since__lte=since, ended_at=None
    )
    ids = over.order_by("past_due_since").values_list("organization_id", flat=True)[:limit]
    return one_by_one(ids, lambda pk: _end_grace(pk, since, at), failed="grace_end_failed")


@transaction.atomic
def _end_grace(organization_pk: int, since: datetime, at: datetime) -> bool:
    """Asked again under the lock: who paid meanwhile and owes anew has its days of grace."""
    organization = Organization.objects.select_for_update(no_key=True).get(pk=organization_pk)
    subscription = _open_subscription(organization)
    if subscription is None or subscription.past_due_since is None or subscription.past_due_since > since:
        return False
    return tell_payment(organization, PaymentEvent.GRACE_OVER, by=None, at=at)


@transaction.atomic
def after_payment(organization: Organization, *, by: User | None, at: datetime) -> bool:
    """Tell the subscription when nothing is overdue any more: paid, credited or void."""
    # Locked before looking: another invoice that becomes past due meanwhile would be missed, and never looked at again.
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    past_due = Invoice.objects.for_organization(organization).filter(state=InvoiceState.PAST_DUE)
    if past_due.exists() or failed_invoices(organization).exists():
        return False
    owing = (SubscriptionStatus.PAST_DUE, SubscriptionStatus.SUSPENDED)
    subscription = _open_subscription(organization)
    if subscription is None or subscription.status not in owing:
        return False
    return tell_payment(organization, PaymentEvent.PAID, by=by, at=at)


@transaction.atomic
def tell_payment(organization: Organization, event: PaymentEvent, *, by: User | None, at: datetime) -> bool:
    """The step that an event leads to, on the subscription that is open now, whichever the invoice was for."""
    organization = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    subscription = _open_subscription(organization)
    step = advance(subscription, event, by=by, at=at) if subscription is not None else None
    if step is not None and step.mail:
        unpaid = Invoice.objects.for_organization(organization).filter(state=InvoiceState.PAST_DUE)
        owed = {
            "invoices": list(unpaid.select_related("statement")),
            "card_invoices": list(failed_invoices(organization)),
            "grace_ends_at": grace_end(organization),
        }
        mail_about(organization, step.mail, owed)
    return step is not None


def grace_end(organization: Organization) -> datetime | None:
    """When calls begin to be refused because of a payment that is overdue; None where none is."""
    subscription = _open_subscription(organization)
    if subscription is None or subscription.past_due_since is None:
        return None
    return subscription.past_due_since + timedelta(days=settings.PAST_DUE_GRACE_DAYS)


def failed_invoices(organization: Organization) -> QuerySet[StripeInvoice]:
    """Stripe's invoices whose payment has failed and that are still to be paid, oldest first."""
    rows = StripeInvoice.objects.for_organization(organization).filter(state="open", attempts__gt=0)
    return rows.exclude(failed_at=None).order_by("created_at")


def _open_subscription(organization: Organization) -> Subscription | None:
    rows = Subscription.objects.for_organization(organization).filter(ended_at=None)
    return rows.select_related("organization", "version__plan").first()


def mail_about(
    organization: Organization,
    template: str,
    context: Mapping[str, Any],
    *,
    attachments: tuple[Attachment, ...] = (),
) -> None:
    """Mail the people who pay: the account's address, or owners and billing members."""
    words: dict[str, Any] = {
        "organization": organization,
        "grace_days": settings.PAST_DUE_GRACE_DAYS,
        "pay_to": settings.INVOICE_PAY_TO,
        **context,
    }
    if (invoice := context.get("invoice")) is not None:
        words["title"] = title(invoice.statement)
        words["amount_due"] = format_money(invoice.due_minor or invoice.amount_minor, invoice.currency)
    for zone, to in payers(organization).items():
        with timezone.override(zone):
            queue_mail(template, to=to, context=words, attachments=attachments)


def payers(organization: Organization) -> dict[tzinfo, list[str]]:
    """Whom mails about money go to, by the zone that dates are told in: the account's address (in the zone of the member who
    has it, else of the owner), or owners and billing members."""
    members = Membership.objects.for_organization(organization).filter(
        Q(role=Role.OWNER) | Q(role=Role.BILLING), user__is_active=True
    )
    zones = dict(members.order_by("pk").values_list("user__email", "user__time_zone"))
    if address := get_account(organization).email:
        zones = {address: zones.get(address) or next(iter(zones.values()), "")}
    found: dict[tzinfo, list[str]] = {}
    for email, zone in zones.items():
        found.setdefault(ZoneInfo(zone or settings.TIME_ZONE), []).append(email)
    return found
