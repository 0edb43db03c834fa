"""The banner over every page of the portal while calls are refused, or will be, with the link that mends it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.urls import reverse

from accounts.models import Membership, Organization, OrganizationStatus, Role
from billing.collection import failed_invoices
from billing.models import Invoice, InvoiceState
from core.money import format_money
from plans.models import Subscription, SubscriptionStatus
from plans.queries import find_subscription
from plans.standing import grace_end

PAYERS = (Role.OWNER, Role.ADMIN, Role.BILLING)
REFUSED = "Calls are refused with 402"


@dataclass(frozen=True, slots=True)
class DoorNotice:
    """`kind` warn or bad; `until` is when calls begin to be refused; without `url` the reader's role cannot mend it."""

    kind: str
    title: str
    text: str
    until: datetime | None = None
    url: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class _Remedy:
    url: str
    action: str


def find_notice(membership: Membership, *, at: datetime) -> DoorNotice | None:
    """What everybody of this organization has to know about its door now; None while it is simply open. One query; more
    only while something is wrong."""
    organization = membership.organization
    if organization.status == OrganizationStatus.SUSPENDED:
        return DoorNotice("bad", "This organization is suspended.", f"{REFUSED}. Write to support.")
    subscription = find_subscription(organization, at=at)
    found = _notice(subscription, at) if subscription is not None else None
    if found is None:
        return None
    notice, remedy = found
    if membership.role not in PAYERS:
        return DoorNotice(
            notice.kind, notice.title, f"{notice.text} Owners, admins and billing members can mend it.", notice.until
        )  # fmt: skip
    mended = remedy(organization)
    return DoorNotice(notice.kind, notice.title, notice.text, notice.until, mended.url, mended.action)


def _notice(
    subscription: Subscription, at: datetime
) -> tuple[DoorNotice, Callable[[Organization], _Remedy]] | None:
    if subscription.ended_at is not None and subscription.ended_at <= at:
        return DoorNotice("bad", "Your plan has ended.", f"{REFUSED}."), _choose_plan
    if subscription.status == SubscriptionStatus.SUSPENDED:
        return DoorNotice("bad", "A payment is overdue.", f"{REFUSED} until it is made."), _pay
    if subscription.status == SubscriptionStatus.PAST_DUE:
        ends = grace_end(subscription)
        if ends is not None and ends <= at:
            return DoorNotice("bad", "A payment is overdue.", f"{REFUSED} until it is made."), _pay
        return DoorNotice("warn", "A payment is overdue.", "Your calls pass until", ends), _pay
    trial_end = subscription.trial_ends_at
    is_over = trial_end is not None and trial_end <= at
    if subscription.status == SubscriptionStatus.TRIALING and is_over:
        after = subscription.next_version or subscription.version
        if not after.is_free:
            return DoorNotice("bad", "Your trial is over.", f"{REFUSED}."), _choose_plan
    return None


def _choose_plan(organization: Organization) -> _Remedy:
    return _Remedy(reverse("dashboard:plan"), "Choose a plan")


def _pay(organization: Organization) -> _Remedy:
    """The page where it is paid: Stripe's of the one invoice, or ours with the account to pay to; the list of several."""
    by_card = list(failed_invoices(organization)[:2])
    by_hand = Invoice.objects.for_organization(organization).filter(state=InvoiceState.PAST_DUE)
    unpaid = list(by_hand.select_related("statement").order_by("due_at", "pk")[:2])
    if len(by_card) + len(unpaid) > 1:
        return _Remedy(reverse("dashboard:invoice-list"), "See what is to be paid")
    for one in by_card:
        if one.hosted_url:
            return _Remedy(one.hosted_url, f"Pay {format_money(one.due_minor, one.currency)}")
    for invoice in unpaid:
        due = format_money(invoice.due_minor, invoice.currency)
        return _Remedy(reverse("dashboard:invoice", args=[invoice.statement.public_id]), f"How to pay {due}")
    return _Remedy(
        reverse("dashboard:plan"), "See your plan"
    )  # nothing is open: a trial that ended without a card
