"""Organizations as Stripe's customers, and the lock under which both sides' acts and events of one of them run."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import IntegrityError, connection, transaction

from accounts.models import Membership, Organization, Role, User
from accounts.permissions import check_can_sell
from accounts.services import record_audit
from billing.accounts import get_account
from billing.models import BillingAccount, StripeCustomer, StripeSubscription
from billing.stripe.client import once, stripe_client
from billing.stripe.later import later
from core.errors import PortalError

_CUSTOMER_ID = re.compile(r"cus_[A-Za-z0-9_]{1,200}", re.ASCII)
LOCK_CLASS = 1_178_747_217  # advisory locks of Stripe's customers; the ledger's are two below


class BadCustomerId(PortalError):
    code, status, title = "bad_stripe_customer", 400, "The id of Stripe's customer looks like cus_..."


class CustomerTaken(PortalError):
    code, status, title = "stripe_customer_taken", 409, "Another organization is this customer of Stripe"


class CustomerInUse(PortalError):
    code, status = "stripe_customer_in_use", 409
    title = "This organization has subscribed through Stripe already: its customer there cannot change"


@contextmanager
def customer_lock(organization_id: int) -> Iterator[None]:
    """A transaction in which nobody else acts on this organization at Stripe, nor reads what an event tells of it.

    Two events of one object, or an event and the act that caused it, would otherwise each store what they fetched, and the
    older may land last. Requests to Stripe are made under this lock, never under the organization's row.
    """
    with transaction.atomic():
        take_customer_lock(organization_id)
        yield


def take_customer_lock(organization_id: int) -> None:
    """`customer_lock` for the rest of the transaction that runs already."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCK_CLASS, organization_id])


def find_organization(customer_id: str) -> Organization | None:
    """Whose customer this is; None for one that is not ours."""
    row = StripeCustomer.objects.filter(stripe_id=customer_id).select_related("organization").first()
    return row.organization if row is not None else None


def ensure_customer(organization: Organization) -> StripeCustomer:
    """The organization's customer at Stripe, made once, and again where it was deleted there; its metadata holds our id, never
    a key. Raises stripe.StripeError."""
    row = StripeCustomer.objects.for_organization(organization).first()
    if row is None or row.deleted_at is not None:
        replaces = (row.stripe_id,) if row is not None else ()
        account = get_account(organization)
        name, email = account.legal_name or organization.name, customer_email(organization)
        made = stripe_client().v1.customers.create(
            {
                "name": name,
                "email": email,
                "metadata": {"farebox_organization": organization.public_id},
            },
            once("customer", organization.public_id, *replaces),
        )
        row, _ = StripeCustomer.objects.update_or_create(
            organization=organization,
            defaults={"stripe_id": made.id, "agreed": _same(name, email), "deleted_at": None},
        )
        if account.address:
            later("billing.stripe_customer", organization.pk)
    return row


def _same(name: str, email: str) -> dict[str, dict[str, str]]:
    """What both sides of a new customer agree on (billing/stripe/details.py)."""
    details = {"name": name, "email": email, "address": "", "tax_id": ""}
    return {"ours": details, "theirs": details}


@transaction.atomic
def link_customer(
    *, organization: Organization, stripe_id: str | None, by: User | None, at: datetime
) -> StripeCustomer | None:  # fmt: skip
    """Say which of Stripe's customers this organization is, or (None) that it is none yet. Stripe is not asked: one that is
    not there is found by the nightly comparison. Whoever has paid there stays who he is.

    Raises Forbidden, BadCustomerId, CustomerTaken, CustomerInUse.
    """
    check_can_sell(by)
    if stripe_id is not None and not _CUSTOMER_ID.fullmatch(stripe_id):
        raise BadCustomerId(field="stripe_customer_id")
    take_customer_lock(organization.pk)
    row = StripeCustomer.objects.for_organization(organization).first()
    if (row.stripe_id if row is not None else None) == stripe_id:
        return row
    if StripeSubscription.objects.for_organization(organization).exists():
        raise CustomerInUse
    before = row.stripe_id if row is not None else ""
    if row is not None:
        row.delete()
    linked = _linked(organization, stripe_id) if stripe_id is not None else None
    record_audit(
        organization=organization, by=by, action="billing.stripe_customer_linked", target=stripe_id or "", at=at,
        details={"before": before},
    )  # fmt: skip
    return linked


def _linked(organization: Organization, stripe_id: str) -> StripeCustomer:
    try:
        with transaction.atomic():
            return StripeCustomer.objects.create(organization=organization, stripe_id=stripe_id)
    except IntegrityError as error:
        raise CustomerTaken from error


def customer_email(organization: Organization) -> str:
    """Where Stripe sends receipts: the billing address, or the owner's."""
    account = BillingAccount.objects.for_organization(organization).first()
    if account is not None and account.email:
        return account.email
    owners = Membership.objects.for_organization(organization).filter(role=Role.OWNER, user__is_active=True)
    return owners.order_by("pk").values_list("user__email", flat=True).first() or ""


def card_words(payment_method: Any) -> str:
    """`Visa ending in 4242`; '' where there is none."""
    card = (payment_method or {}).get("card") if isinstance(payment_method, dict) else None
    return f"{str(card['brand']).title()} ending in {card['last4']}" if card else ""
