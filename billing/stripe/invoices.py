"""Stripe's invoices and payments, made ours: the customer's documents to pay and the timeline of what was paid."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from accounts.mail import queue_mail
from accounts.models import Organization
from accounts.queries import staff_addresses
from billing.collection import after_payment, grace_end, mail_about, tell_payment
from billing.models import PaymentEntry, PaymentKind, StripeInvoice, StripeSubscription
from billing.states import PaymentEvent
from billing.stripe.client import moment, plain, stripe_client, stripe_id_of
from billing.stripe.customers import find_organization
from core.money import format_money

Json = Mapping[str, Any]


# Of a subscription's first invoice nothing is owed: until it is paid there is no subscription, and it is void after that.
FIRST = "subscription_create"
DECIDED = ("won", "lost", "warning_closed")  # disputes that are over


def sync_invoice(stripe_id: str, *, at: datetime) -> StripeInvoice | None:
    """Fetch an invoice and store it; None for one that is not ours. Raises stripe.StripeError."""
    return apply_invoice(plain(stripe_client().v1.invoices.retrieve(stripe_id)), at=at)


def apply_invoice(data: Json, *, at: datetime) -> StripeInvoice | None:
    """An invoice's present state: stored, in the timeline, and told to the subscription. Under the customer's lock."""
    organization = find_organization(stripe_id_of(data["customer"]))
    if organization is None:
        return None
    row = StripeInvoice.objects.filter(stripe_id=data["id"]).first()
    row = row or StripeInvoice(organization=organization, stripe_id=data["id"])
    failed_before = row.attempts if row.failed_at else 0
    _store(row, data, at)
    if row.state == "paid":
        _enter(row, PaymentKind.PAID, row.stripe_id, data["amount_paid"], at=row.paid_at or at)
        after_payment(organization, by=None, at=at)
    elif row.failed_at and row.attempts > failed_before:
        _payment_failed(row, organization, at, is_known=_is_known(row, data))
    elif row.state in ("void", "uncollectible"):
        after_payment(organization, by=None, at=at)
    return row


def apply_refunds(charge: Json, *, at: datetime) -> int:
    """A timeline row for each refund of a charge, and another for one that failed: its money is ours again. Staff are told of
    each once. How many refunds there are."""
    organization = find_organization(stripe_id_of(charge.get("customer")))
    if organization is None:
        return 0
    found = stripe_client().v1.refunds.list({"charge": charge["id"]})
    refunds = [plain(refund) for refund in found.auto_paging_iter()]
    invoice = _paid_invoice(charge) if refunds else None
    for refund in refunds:
        money = (refund["id"], refund["amount"], refund["currency"])
        reason, made_at = refund.get("reason") or "", moment(refund["created"]) or at
        told = _entry(
            organization, PaymentKind.REFUNDED, *money, text=reason, at=made_at, invoice=invoice
        )  # fmt: skip
        if has_failed := refund["status"] in ("failed", "canceled"):
            why = refund.get("failure_reason") or refund["status"]
            told = _entry(organization, PaymentKind.REFUND_FAILED, *money, text=why, at=at, invoice=invoice)
        if told:
            _tell_staff("staff_refund", organization, *money[1:], refund=refund, has_failed=has_failed)
    return len(refunds)


def apply_dispute(dispute: Json, *, at: datetime) -> bool:
    """A customer's bank took a payment back, or decided about it; staff are told of each once. Whether it is ours.

    The door stays as it is: what to do about it is for people.
    """
    charge = plain(stripe_client().v1.charges.retrieve(stripe_id_of(dispute["charge"])))
    organization = find_organization(stripe_id_of(charge.get("customer")))
    if organization is None:
        return False
    money, invoice = (dispute["id"], dispute["amount"], dispute["currency"]), _paid_invoice(charge)
    told = _entry(
        organization, PaymentKind.DISPUTED, *money, text=dispute["reason"],
        at=moment(dispute["created"]) or at, invoice=invoice,
    )  # fmt: skip
    if is_over := dispute["status"] in DECIDED:
        kind = PaymentKind.DISPUTE_CLOSED
        told = _entry(organization, kind, *money, text=dispute["status"], at=at, invoice=invoice)
    if told:
        due_by = moment((dispute.get("evidence_details") or {}).get("due_by"))
        _tell_staff(
            "staff_dispute", organization, *money[1:], dispute=dispute, is_over=is_over, due_by=due_by
        )
    return True


def _tell_staff(
    template: str, organization: Organization, amount_minor: int, currency: str, **more: Any
) -> None:
    context = {"organization": organization, "amount": format_money(amount_minor, currency.upper()), **more}
    queue_mail(template, to=staff_addresses(), context=context)


def _paid_invoice(charge: Json) -> StripeInvoice | None:
    """The invoice that a charge paid, as far as we have it: only the line in the timeline names it."""
    intent = stripe_id_of(charge.get("payment_intent"))
    if not intent:
        return None
    asked: Any = {"payment": {"type": "payment_intent", "payment_intent": intent}, "limit": 1}
    found = plain(stripe_client().v1.invoice_payments.list(asked))["data"]
    return StripeInvoice.objects.filter(stripe_id__in=[stripe_id_of(one["invoice"]) for one in found]).first()


def _store(row: StripeInvoice, data: Json, at: datetime) -> None:
    times = data["status_transitions"]
    taxes = data.get("total_taxes") or []
    parent = (data.get("parent") or {}).get("subscription_details") or {}
    row.stripe_subscription = StripeSubscription.objects.filter(
        stripe_id=stripe_id_of(parent.get("subscription"))
    ).first()
    row.number, row.state = data.get("number") or "", data["status"]
    row.billing_reason = data.get("billing_reason") or ""
    row.currency = data["currency"].upper()
    row.total_minor, row.due_minor = data["total"], data["amount_remaining"]
    row.tax_minor = sum(tax["amount"] for tax in taxes)
    row.hosted_url, row.pdf_url = data.get("hosted_invoice_url") or "", data.get("invoice_pdf") or ""
    row.created_at = moment(data["created"]) or at
    row.finalised_at, row.paid_at = moment(times["finalized_at"]), moment(times["paid_at"])
    row.attempts = data["attempt_count"]
    row.next_attempt_at = moment(data.get("next_payment_attempt"))
    if row.state == "open" and data["attempted"] and row.attempts and row.billing_reason != FIRST:
        row.failed_at = row.failed_at or at
    row.save()


def _is_known(row: StripeInvoice, data: Json) -> bool:
    """Whether the subscription that it is of, if any, is here already: its own event may come later."""
    parent = (data.get("parent") or {}).get("subscription_details") or {}
    return row.stripe_subscription is not None or not parent.get("subscription")


def _payment_failed(row: StripeInvoice, organization: Organization, at: datetime, *, is_known: bool) -> None:
    """The timeline has each attempt once; the first one begins the days of grace, staff hear of every one. Of a subscription
    that is not known yet customers hear when it is: it begins with what it owes."""
    reference = f"{row.stripe_id}:{row.attempts}"
    if not _enter(row, PaymentKind.FAILED, reference, row.due_minor, at=at):
        return
    first = tell_payment(organization, PaymentEvent.OVERDUE, by=None, at=at)
    dates = {"card_invoice": row, "grace_ends_at": grace_end(organization)}
    if not first and is_known:
        mail_about(organization, "payment_failed", dates)
    _tell_staff("staff_payment_failed", organization, row.due_minor, row.currency, **dates)


def _enter(row: StripeInvoice, kind: PaymentKind, reference: str, amount_minor: int, *, at: datetime) -> bool:
    return _entry(row.organization, kind, reference, amount_minor, row.currency, at=at, invoice=row)


def _entry(
    organization: Organization, kind: PaymentKind, reference: str, amount_minor: int, currency: str, *,
    at: datetime, text: str = "", invoice: StripeInvoice | None = None,
) -> bool:  # fmt: skip
    """Whether it was not in the timeline yet. Nothing paid is nothing to tell (the invoice of a trial)."""
    if not amount_minor:
        return False
    _, made = PaymentEntry.objects.get_or_create(
        kind=kind,
        reference=reference,
        defaults={
            "organization": organization, "invoice": invoice, "amount_minor": amount_minor,
            "currency": currency.upper(), "text": text, "at": at,
        },
    )  # fmt: skip
    return made
