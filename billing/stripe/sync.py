"""What Stripe says, made ours: subscriptions, invoices, payments. Stripe is the truth about what was paid, our rows about
what may pass (ADR 0006).

Every function takes the present object (fetched, never what an event carried along), under the customer's lock; repeating
it changes nothing, so any event may come any number of times in any order.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import stripe
import structlog
from django.db import transaction

from accounts.models import Organization
from billing.collection import after_payment, tell_payment
from billing.models import LineKind, StripeCustomer, StripeItem, StripePrice, StripeSubscription
from billing.states import PaymentEvent
from billing.stripe.client import moment as moment
from billing.stripe.client import once, once_at, plain, stripe_client, stripe_id_of
from billing.stripe.customers import card_words, find_organization, take_customer_lock
from billing.stripe.invoices import sync_invoice
from billing.stripe.later import later
from core.one_by_one import one_by_one
from plans.models import Period, PlanVersion, Subscription, SubscriptionStatus
from plans.paid import end_subscription, resume_subscription, subscribe_paid
from plans.services import NothingToChange, cancel_subscription, undo_cancellation

log = structlog.get_logger(__name__)
Json = Mapping[str, Any]

OVER = ("canceled", "incomplete_expired")
OWES = ("past_due", "unpaid")
PAYS = ("trialing", "active", "past_due", "unpaid", "paused")
# Metadata of the subscription that an upgrade made.
REPLACES, CREDIT_ITEM, CREDIT_AMOUNT = "farebox_replaces", "farebox_credit_item", "farebox_credit"
EXPAND = ["default_payment_method", "customer.invoice_settings.default_payment_method"]


def sync_subscription(stripe_id: str, *, at: datetime) -> StripeSubscription | None:
    """Fetch a subscription and make what it says ours; None for one that is not ours. Raises stripe.StripeError."""
    subscriptions = stripe_client().v1.subscriptions
    try:
        found = subscriptions.retrieve(stripe_id, {"expand": EXPAND})
    except stripe.InvalidRequestError:  # of a customer that was deleted there is nothing to expand
        found = subscriptions.retrieve(stripe_id)
    return apply_subscription(plain(found), at=at)


def apply_subscription(data: Json, *, at: datetime) -> StripeSubscription | None:
    """The subscription's present state. Under the customer's lock."""
    organization = find_organization(stripe_id_of(data["customer"]))
    version = _version(data)
    if organization is None or version is None:
        log.info("stripe_subscription_not_ours", subscription=data["id"])
        return None
    row = StripeSubscription.objects.filter(stripe_id=data["id"]).select_related("subscription").first()
    if row is None:
        row = _adopt(organization, version, data, at)
        if row is None:
            return None
    row.version = version  # a downgrade that waited has begun
    if row.next_version_id == version.pk:
        row.next_version = None
    _store(row, data, at)
    if row.ended_at is None:
        _follow_status(row, organization, data, at)
        _follow_cancellation(row, at)
    _store_card(organization, data)
    return row


def period_of(data: Json) -> tuple[datetime | None, datetime | None]:
    """The subscription's present period: since 2025 on its items; the usage items' where intervals differ."""
    items = sorted(data["items"]["data"], key=lambda item: item["current_period_end"])
    if not items:
        return None, None
    return moment(items[0]["current_period_start"]), moment(items[0]["current_period_end"])


def _adopt(
    organization: Organization, version: PlanVersion, data: Json, at: datetime
) -> StripeSubscription | None:
    """A subscription seen for the first time: ours is turned into it. One that is over, or not begun, leaves no trace."""
    if data["status"] not in PAYS:
        return None
    replaced = StripeSubscription.objects.for_organization(organization).filter(ended_at=None)
    begun = moment(data["start_date"]) or at
    replaces = data["metadata"].get(REPLACES, "")
    if other := replaced.exclude(stripe_id=replaces).first():
        log.warning("stripe_second_subscription", kept=other.stripe_id, refused=data["id"])
        later("billing.stripe_refuse_second", data["id"], stripe_id_of(data["latest_invoice"]))
        return None
    closed = replaced.select_related("version__plan").first()
    # Ended before the old one is cancelled at Stripe: its event then closes no door.
    if replaced.update(
        ended_at=begun
    ):  # its status is Stripe's word: until it is over there, beat asks again
        later("billing.stripe_end_replaced", replaces)
    subscription = subscribe_paid(
        organization=organization,
        version=version,
        starts_at=begun,
        trial_ends_at=moment(data["trial_end"]) if data["status"] in ("trialing", "paused") else None,
        by=None,
        at=at,
    )
    if closed is not None:
        remember_credit(closed, data, begun, at)
    return StripeSubscription(
        organization=organization,
        subscription=subscription,
        version=version,
        stripe_id=data["id"],
        started_at=begun,
    )


def remember_credit(closed: StripeSubscription, data: Json, begun: datetime, at: datetime) -> None:
    """The statement of the period that an upgrade closed says the same credit; what it says more or less goes as another item.
    Read from the subscription, so that it is known also where the act that made it crashed."""
    item_id = data["metadata"].get(CREDIT_ITEM)
    if not item_id:
        return
    # Not of the new list: the closed period may have begun in the same second.
    periods = Period.objects.filter(subscription_id=closed.subscription_id, starts_at__lte=begun).exclude(
        version=_version(data)
    )
    StripeItem.objects.create(
        organization_id=closed.organization_id, stripe_subscription=closed, period=periods.latest("starts_at"),
        kind=LineKind.FEE_CREDIT, text=credit_text(closed), amount_minor=-int(data["metadata"][CREDIT_AMOUNT]),
        currency=closed.version.currency, created_at=at, sent_at=at, stripe_id=item_id,
    )  # fmt: skip


def credit_text(row: StripeSubscription) -> str:
    """As on our statement."""
    return f"{row.version.plan.name}, unused part of the fee"


def end_at_stripe(stripe_id: str) -> None:
    """End a subscription that another one has replaced: nothing is prorated, nothing is billed. Repeating it changes nothing.

    When Stripe is away, it raises; `end_replaced` asks again."""
    try:
        stripe_client().v1.subscriptions.cancel(stripe_id)  # neither prorated nor billed, by default
    except stripe.InvalidRequestError:
        log.info("stripe_subscription_ended_already", subscription=stripe_id)
    StripeSubscription.objects.filter(stripe_id=stripe_id).exclude(ended_at=None).update(status="canceled")


def end_replaced(*, limit: int = 200) -> int:
    """End what was replaced here and is not known to be over at Stripe; how many. The rows are the queue: what fails is logged,
    and asked for again by the next beat."""
    waiting = StripeSubscription.objects.filter(ended_at__isnull=False).exclude(status__in=OVER)
    ids = waiting.order_by("ended_at").values_list("pk", flat=True)[:limit]
    return one_by_one(ids, _end_replaced, failed="stripe_subscription_not_ended")


def _end_replaced(pk: int) -> bool:
    organization_id, stripe_id = StripeSubscription.objects.values_list("organization_id", "stripe_id").get(
        pk=pk
    )
    with transaction.atomic():
        take_customer_lock(organization_id)
        end_at_stripe(stripe_id)
    return True


def refuse_second(stripe_id: str, invoice_id: str) -> None:
    """Two tabs, two Checkouts: the first one paid stands, what came second ends and its payment goes back. Repeating it changes
    nothing. It ends last: while it runs the nightly comparison finds it, and what was not given back yet with it."""
    client = stripe_client()
    payments = client.v1.invoice_payments.list({"invoice": invoice_id}) if invoice_id else None
    for payment in payments.auto_paging_iter() if payments else ():
        if intent := plain(payment)["payment"].get("payment_intent"):
            _give_back(stripe_id, stripe_id_of(intent))
    end_at_stripe(stripe_id)


def _give_back(stripe_id: str, intent: str) -> None:
    try:
        stripe_client().v1.refunds.create(
            {"payment_intent": intent, "reason": "duplicate"}, once("second", stripe_id, intent)
        )
    except stripe.InvalidRequestError as error:
        if error.code != "charge_already_refunded":  # Stripe has forgotten the key after a day
            raise


def _store(row: StripeSubscription, data: Json, at: datetime) -> None:
    row.status, row.synced_at = data["status"], at
    row.current_period_start, row.current_period_end = period_of(data)
    row.cancels_at = moment(data.get("cancel_at"))
    if row.cancels_at is None and data.get("cancel_at_period_end"):
        row.cancels_at = row.current_period_end
    was_open = row.ended_at is None
    if data["status"] in OVER and was_open:
        row.ended_at = moment(data.get("ended_at")) or at
    row.save()
    if was_open and row.ended_at is not None:
        end_subscription(subscription=row.subscription, by=None, at=min(row.ended_at, at))


def _follow_status(row: StripeSubscription, organization: Organization, data: Json, at: datetime) -> None:
    """docs/stripe.md has the table; where collection alone is paused (`pause_collection`), Stripe's status and ours stay."""
    if row.status == "paused":
        tell_payment(organization, PaymentEvent.PAUSED, by=None, at=_paused_since(row, data, at))
        return
    _resume(row, at)
    if row.status in OWES:
        if invoice := stripe_id_of(data["latest_invoice"]):
            sync_invoice(invoice, at=at)  # the mail about it says which invoice, whichever event comes first
        tell_payment(organization, PaymentEvent.OVERDUE, by=None, at=at)
    elif row.status in ("active", "trialing"):
        after_payment(organization, by=None, at=at)


def _paused_since(row: StripeSubscription, data: Json, at: datetime) -> datetime:
    """A trial that ended without a card is paused since that second: what began then costs nothing."""
    trial_end = moment(data["trial_end"])
    return trial_end if trial_end is not None and trial_end <= at and is_unpaid_trial(row) else at


def is_unpaid_trial(row: StripeSubscription) -> bool:
    """Whether it has never gone past its trial: an invoice of a renewal would be here otherwise."""
    return not row.invoices.filter(billing_reason="subscription_cycle").exists()


def _resume(row: StripeSubscription, at: datetime) -> None:
    subscription = Subscription.objects.get(pk=row.subscription_id)
    if subscription.status == SubscriptionStatus.PAUSED:
        starts_at = row.current_period_start or at
        resume_subscription(subscription=subscription, starts_at=starts_at, by=None, at=at)


def resume_with_card(stripe_id: str, *, at: datetime) -> bool:
    """A trial that ended without a card goes on when one is there, with months that begin now; whether it did. What somebody
    paused for another reason stays paused. Under the customer's lock. Raises stripe.StripeError, also for a declined card."""
    row = StripeSubscription.objects.filter(stripe_id=stripe_id, ended_at=None).first()
    subscriptions = stripe_client().v1.subscriptions
    data = plain(subscriptions.retrieve(stripe_id, {"expand": EXPAND}))
    if row is None or data["status"] != "paused" or not _default_card(data) or not is_unpaid_trial(row):
        return False
    subscriptions.resume(stripe_id, {"billing_cycle_anchor": "now"}, once_at("resume", stripe_id, at=at))
    sync_subscription(stripe_id, at=at)
    return True


def _follow_cancellation(row: StripeSubscription, at: datetime) -> None:
    """Cancelled, or kept after all, in Stripe's own customer portal."""
    subscription = Subscription.objects.get(pk=row.subscription_id)
    try:
        if row.cancels_at is not None and subscription.cancels_at is None:
            cancel_subscription(subscription=subscription, by=None, at=at)
        elif row.cancels_at is None and subscription.cancels_at is not None:
            undo_cancellation(subscription=subscription, by=None, at=at)
    except NothingToChange:
        return


def _default_card(data: Json) -> Any:
    """What pays the subscription: its own payment method, or the customer's."""
    customer = data["customer"] if isinstance(data["customer"], Mapping) else {}
    settings = customer.get("invoice_settings") or {}
    return data.get("default_payment_method") or settings.get("default_payment_method")


def _store_card(organization: Organization, data: Json) -> None:
    if isinstance(data["customer"], Mapping):  # not expanded: of a deleted customer
        words = card_words(_default_card(data))
        StripeCustomer.objects.for_organization(organization).exclude(card=words).update(card=words)


def sync_card(organization: Organization) -> None:
    """The card of a customer whose subscription does not run: the customer's default. Raises stripe.StripeError."""
    row = StripeCustomer.objects.for_organization(organization).filter(deleted_at=None).first()
    if row is not None:
        expand = ["invoice_settings.default_payment_method"]
        found = plain(stripe_client().v1.customers.retrieve(row.stripe_id, {"expand": expand}))
        if not found.get("deleted"):
            _store_card(organization, {"customer": found})


def _version(data: Json) -> PlanVersion | None:
    """Which list it is on, by the prices of its items."""
    prices = [item["price"]["id"] for item in data["items"]["data"]]
    found = StripePrice.objects.filter(stripe_id__in=prices).select_related("version__plan").first()
    return found.version if found is not None else None
