"""Prepaid credit of customers who pay by card: it pays Stripe's drafts, as an amount on the customer's balance there.

When the statement of a period is final and its items are on Stripe's draft, what is left to pay is taken from the credit here
and put onto the balance, which Stripe uses when it finalises the invoice. The invoice's lines stay our statement's, and tax
stays what it is: credit is a payment, no discount. First the ledger moves, with a row that says what Stripe has to be told;
then Stripe is told, once. What an invoice did not need after all stays on the balance, for the next one.
"""

from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef

from billing.credits import draw_credit, with_credit
from billing.models import (
    Statement,
    StatementKind,
    StripeCredit,
    StripeCustomer,
    StripeInvoice,
    StripeItem,
)
from billing.stripe.client import once, plain, stripe_client
from billing.stripe.customers import customer_lock
from core.one_by_one import one_by_one
from plans.models import Period


def use_credit(*, at: datetime, limit: int = 500) -> int:
    """Pay drafts of Stripe's with prepaid credit, and tell Stripe what it does not know yet; how many drafts. What fails is
    logged and tried again by the next beat."""
    drafts = StripeInvoice.objects.filter(state="draft", prepaid=None)
    owners = with_credit(drafts.values_list("organization_id", flat=True))
    ready = drafts.filter(organization_id__in=owners).exclude(Exists(_unsent()))
    ids = ready.order_by("created_at", "pk").values_list("pk", flat=True)[:limit]
    used = one_by_one(ids, lambda pk: _use(pk, at), failed="stripe_credit_not_used")
    unsent = StripeCredit.objects.filter(sent_at=None).order_by("created_at").values_list("pk", flat=True)
    one_by_one(unsent[:limit], lambda pk: _send(pk, at), failed="stripe_credit_not_sent")
    return used


def _unsent() -> Any:
    """Items that are still to come onto the customer's drafts."""
    return StripeItem.objects.filter(organization=OuterRef("organization"), sent_at=None, error="")


def _use(pk: int, at: datetime) -> bool:
    """Take what the draft asks for from the credit; whether there was any."""
    organization_id = StripeInvoice.objects.values_list("organization_id", flat=True).get(pk=pk)
    with customer_lock(organization_id):
        rows = StripeInvoice.objects.select_related("organization", "stripe_subscription")
        invoice = rows.filter(pk=pk, state="draft", prepaid=None).first()
        if invoice is None or _statement_to_come(invoice):
            return False
        due = _due_minor(invoice)  # before the ledger's rows are locked
        drawn = draw_credit(
            organization=invoice.organization, currency=invoice.currency, most_minor=due, by=None, at=at
        )
        if drawn is None:
            return False
        act, amount = drawn
        StripeCredit.objects.create(
            organization=invoice.organization, invoice=invoice, transaction=act, amount_minor=amount,
            currency=invoice.currency, created_at=at,
        )  # fmt: skip
    return True


def _statement_to_come(invoice: StripeInvoice) -> bool:
    """Whether a period that the draft bills has no statement yet: its items may still change what is due."""
    if invoice.stripe_subscription is None:
        return False
    ended = Period.objects.filter(
        subscription_id=invoice.stripe_subscription.subscription_id, ends_at__lte=invoice.created_at
    )
    stated = Statement.objects.filter(period=OuterRef("pk"), kind=StatementKind.PERIOD)
    return ended.filter(~Exists(stated)).exists()


def _due_minor(invoice: StripeInvoice) -> int:
    """What Stripe would ask for: the draft's total, less the balance that is there. 0 for one that is no draft any more."""
    client = stripe_client()
    data = plain(client.v1.invoices.retrieve(invoice.stripe_id))
    if data["status"] != "draft":
        return 0
    customer = StripeCustomer.objects.get(organization_id=invoice.organization_id).stripe_id
    balance = plain(client.v1.customers.retrieve(customer)).get("balance") or 0
    return max(int(data["total"]) + int(balance), 0)


def _send(pk: int, at: datetime) -> bool:
    organization_id = StripeCredit.objects.values_list("organization_id", flat=True).get(pk=pk)
    with customer_lock(organization_id):
        credit = StripeCredit.objects.select_related("invoice", "organization").get(pk=pk)
        if credit.sent_at is not None:
            return False
        customer = StripeCustomer.objects.get(organization_id=organization_id).stripe_id
        credit.stripe_id = _already_there(customer, credit) or _tell(customer, credit)
        credit.sent_at = at
        credit.save(update_fields=["stripe_id", "sent_at"])
    return True


def _tell(customer: str, credit: StripeCredit) -> str:
    params: Any = {
        "amount": -credit.amount_minor,
        "currency": credit.currency.lower(),
        "description": "Prepaid credit",
        "metadata": {"farebox_credit": str(credit.pk), "farebox_invoice": credit.invoice.stripe_id},
    }
    balance = stripe_client().v1.customers.balance_transactions
    return balance.create(customer, params, once("prepaid", credit.organization.public_id, credit.pk)).id


def _already_there(customer: str, credit: StripeCredit) -> str:
    """The id of what Stripe has although we did not get its answer; '' where there is none. Newest first, as Stripe lists."""
    listed = stripe_client().v1.customers.balance_transactions.list(customer, {"limit": 100})
    for one in listed.auto_paging_iter():
        data = plain(one)
        if (data.get("metadata") or {}).get("farebox_credit") == str(credit.pk):
            return one.id
        if data["created"] < int(credit.created_at.timestamp()) - 3600:
            break
    return ""
