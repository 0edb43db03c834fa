"""Lines of statements that Stripe does not work out itself, as invoice items: written with the statement, then sent.

Of a period that ran to its end Stripe bills the fee and what its meters count. Ours are: what no price of Stripe's can say
(minimum, write-off above a cap, adjustments), and the usage of a period that was cut short, by an upgrade or an end at once.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import stripe
import structlog
from django.db import transaction

from billing.documents import Issued
from billing.drafts import DraftLine
from billing.models import (
    FindingKind,
    LineKind,
    Statement,
    StatementKind,
    StripeCustomer,
    StripeInvoice,
    StripeItem,
    StripePrice,
    StripeSubscription,
)
from billing.stripe.client import is_away, once, plain, stripe_client, stripe_id_of
from billing.stripe.customers import customer_lock
from billing.stripe.findings import open_finding
from billing.stripe.usage import fill_to_statements
from core.any_of import any_of
from core.one_by_one import one_by_one
from plans.dimensions import match_text

log = structlog.get_logger(__name__)
_OLDEST_FIRST = ("created_at", "pk")
TEXT_LENGTH = 250


def make_items(issued: Sequence[Issued], *, at: datetime) -> set[int]:
    """Items for the documents that are paid by card; the ids of these documents. In the transaction that issued them."""
    payers = _payers(one.draft.subscription_id for one in issued)
    found: list[StripeItem] = []
    by_card: set[int] = set()
    for one in issued:
        row = _payer(payers.get(one.draft.subscription_id, []), one.draft.starts_at)
        if row is None:
            continue
        by_card.add(one.statement_id)
        found += _items_of(one, row, cut=_is_cut(row, one.draft.ends_at, payers), at=at)
    StripeItem.objects.bulk_create(found)
    if by_card:
        transaction.on_commit(lambda: fill_to_statements(by_card, at=at), robust=True)
    return by_card


def is_by_card(statement: Statement) -> bool:
    """Whether Stripe charges what this document says; what it has charged is given back by a credit note only."""
    rows = _payers([statement.subscription_id]).get(statement.subscription_id, [])
    return _payer(rows, statement.starts_at) is not None


def is_cut_short(statement: Statement) -> bool:
    """Whether Stripe's subscription ended inside the period of this document, which is by card."""
    payers = _payers([statement.subscription_id])
    row = _payer(payers.get(statement.subscription_id, []), statement.starts_at)
    return row is not None and _is_cut(row, statement.ends_at, payers)


def send_items(*, at: datetime, limit: int = 500) -> int:
    """Tell Stripe of items that it does not have yet; how many. What fails is logged and tried again by the next beat. Customers
    without a subscription there get an invoice of them (`settle_pending`)."""
    ids = list(
        StripeItem.objects.filter(sent_at=None, error="")
        .order_by(*_OLDEST_FIRST)
        .values_list("pk", flat=True)[:limit]
    )
    sent = one_by_one(ids, lambda pk: send_item(pk, at), failed="stripe_item_not_sent")
    told = StripeItem.objects.filter(pk__in=ids).exclude(sent_at=None)
    owners = told.exclude(organization__stripe_subscriptions__ended_at=None)
    one_by_one(
        sorted(set(owners.values_list("organization_id", flat=True))),
        lambda pk: settle_pending(pk, at=at), failed="stripe_items_not_settled",
    )  # fmt: skip
    return sent


def settle_pending(organization_id: int, *, at: datetime) -> bool:
    """Make an invoice of what waits at Stripe for one that will not come, because no subscription is open there; whether one was
    made. Less than nothing becomes the customer's balance at Stripe, which later invoices are paid from (docs/stripe.md).
    Raises stripe.StripeError."""
    with customer_lock(organization_id):
        if StripeSubscription.objects.filter(organization_id=organization_id, ended_at=None).exists():
            return False
        customer = StripeCustomer.objects.get(organization_id=organization_id).stripe_id
        invoice_items = stripe_client().v1.invoice_items
        listed = invoice_items.list({"customer": customer, "pending": True, "limit": 100})
        waiting: dict[str, list[str]] = {}
        for one in listed.auto_paging_iter():
            waiting.setdefault(one.currency, []).append(one.id)
        for currency, ids in waiting.items():
            _settle(organization_id, customer, currency, ids)
    if waiting:
        log.info("stripe_items_settled", customer=customer, items=sum(map(len, waiting.values())))
    return bool(waiting)


def _settle(organization_id: int, customer: str, currency: str, ids: list[str]) -> None:
    client = stripe_client()
    alone: Any = {
        "customer": customer,
        "currency": currency,
        "auto_advance": True,
        "pending_invoice_items_behavior": "include",
    }
    last = StripeSubscription.objects.filter(organization_id=organization_id).order_by("started_at").last()
    if last is not None:
        # Checkout sets the card on the subscription, which has ended, not on the customer.
        ended = plain(client.v1.subscriptions.retrieve(last.stripe_id))
        if card := stripe_id_of(ended.get("default_payment_method")):
            alone["default_payment_method"] = card
    digest = hashlib.sha256(" ".join(sorted(ids)).encode()).hexdigest()
    client.v1.invoices.create(alone, once("alone", customer, digest))


def _payers(subscription_ids: Iterable[int]) -> dict[int, list[StripeSubscription]]:
    rows = StripeSubscription.objects.filter(subscription_id__in=any_of(set(subscription_ids)))
    found: dict[int, list[StripeSubscription]] = {}
    for row in rows.order_by("started_at"):
        found.setdefault(row.subscription_id, []).append(row)
    return found


def _payer(rows: Sequence[StripeSubscription], starts_at: datetime) -> StripeSubscription | None:
    """Stripe's subscription that this period belongs to: the last one that had begun with it."""
    begun = [row for row in rows if row.started_at.replace(microsecond=0) <= starts_at]
    return next((row for row in reversed(begun) if row.ended_at is None or row.ended_at > starts_at), None)


def _is_cut(row: StripeSubscription, ends_at: datetime, payers: dict[int, list[StripeSubscription]]) -> bool:
    """Whether Stripe's subscription ended before its own period did, with an upgrade or at once: what its meters counted since
    is on no invoice of Stripe's then."""
    if row.ended_at is None or row.ended_at > ends_at:
        return False
    at_once = row.current_period_end is not None and row.ended_at < row.current_period_end
    return at_once or _has_follower(row, payers)


def _has_follower(row: StripeSubscription, payers: dict[int, list[StripeSubscription]]) -> bool:
    return any(
        other.started_at == row.ended_at for other in payers[row.subscription_id] if other.pk != row.pk
    )


def _items_of(one: Issued, row: StripeSubscription, *, cut: bool, at: datetime) -> list[StripeItem]:
    metered = set() if cut else metered_lines(one.draft.version_id)
    items = []
    for line in one.draft.lines:
        amount = _our_amount(line, metered, row, one.draft.period_id)
        if amount:
            items.append(
                StripeItem(
                    organization_id=one.draft.organization_id, stripe_subscription=row, statement_id=one.statement_id,
                    period_id=line.of_period_id or one.draft.period_id, kind=line.kind, text=_text(line),
                    amount_minor=amount, currency=one.draft.currency, created_at=at,
                )
            )  # fmt: skip
    if one.draft.kind == StatementKind.PERIOD and (item := _taken_back(one, row, at)):
        items.append(item)
    return items


def _taken_back(one: Issued, row: StripeSubscription, at: datetime) -> StripeItem | None:
    """What an upgrade gave back of the fee, where the statement gives nothing: calls that came after the upgrade was priced
    have used up the rest."""
    given = _given_back(row, one.draft.period_id)
    if not given or any(line.kind == LineKind.FEE_CREDIT for line in one.draft.lines):
        return None
    return StripeItem(
        organization_id=one.draft.organization_id, stripe_subscription=row, statement_id=one.statement_id,
        period_id=one.draft.period_id, kind=LineKind.FEE_CREDIT, text="Unused part of the fee: used meanwhile",
        amount_minor=-given, currency=one.draft.currency, created_at=at,
    )  # fmt: skip


def _our_amount(
    line: DraftLine, metered: set[tuple[str, str]], row: StripeSubscription, period_id: int
) -> int:
    """What of a line is not charged by Stripe itself, minor units."""
    if line.kind == LineKind.FEE:
        return 0  # Stripe's, in advance
    if line.kind == LineKind.USAGE and (line.meter, line.dimension) in metered:
        return 0
    if line.kind == LineKind.FEE_CREDIT:
        return line.amount_minor - _given_back(row, period_id)
    return line.amount_minor


def _given_back(row: StripeSubscription, period_id: int) -> int:
    """What an upgrade has given back of this period's fee, minor units, below zero."""
    given = StripeItem.objects.filter(stripe_subscription=row, kind=LineKind.FEE_CREDIT, period_id=period_id)
    return sum(given.values_list("amount_minor", flat=True))


def metered_lines(version_id: int) -> set[tuple[str, str]]:
    """What Stripe itself charges of a period: meter and dimension of the lines. By the period's version: the subscription
    may be on the next one already when the statement is made."""
    prices = StripePrice.objects.filter(version_id=version_id).exclude(meter=None)
    return {
        (price.component.meter.slug, match_text(price.component.match.items()))
        for price in prices.select_related("component__meter")
        if price.component is not None
    }


def _text(line: DraftLine) -> str:
    return (f"{line.text} ({line.dimension})" if line.dimension else line.text)[:TEXT_LENGTH]


def send_item(pk: int, at: datetime) -> bool:
    """Tell Stripe of one item, once; whether it was told now. Raises stripe.StripeError when Stripe is away."""
    organization_id = StripeItem.objects.values_list("organization_id", flat=True).get(pk=pk)
    with customer_lock(organization_id):
        item = StripeItem.objects.select_related("stripe_subscription", "organization").get(pk=pk)
        if item.sent_at is not None:
            return False
        try:
            item.stripe_id = _create(item)
        except stripe.StripeError as error:
            if is_away(error):
                raise
            item.error = str(error)[:300]
            item.save(update_fields=["error"])
            open_finding(
                kind=FindingKind.INVOICE, subject=f"item {item.pk}", at=at, organization_id=item.organization_id,
                text=f"Stripe refused an item of ours, bill it by hand: {item.text}: {error}",
                ours={"line": item.text, "amount_minor": item.amount_minor}, theirs={"error": item.error},
            )  # fmt: skip
            return False
        item.sent_at = at
        item.save(update_fields=["stripe_id", "sent_at"])
    return True


def _create(item: StripeItem) -> str:
    """On the draft of the period's own invoice; else on the customer's next one."""
    client = stripe_client()
    customer = StripeCustomer.objects.get(organization_id=item.organization_id).stripe_id
    params: Any = {
        "customer": customer,
        "amount": item.amount_minor,
        "currency": item.currency.lower(),
        "description": item.text,
        "metadata": {"farebox_item": str(item.pk)},
    }
    if there := _already_there(client, customer, item):
        return there
    draft = _draft(item)
    # Keys are known to the whole account, which installations may share: numbers of rows alone are not ours alone.
    key = ("item", item.organization.public_id, item.pk)
    try:
        on_draft = params | ({"invoice": draft.stripe_id} if draft is not None else {})
        made = client.v1.invoice_items.create(on_draft, once(*key, draft.stripe_id if draft else "next"))
    except stripe.InvalidRequestError:
        if draft is None:
            raise
        draft = None  # it was finalised just now
        made = client.v1.invoice_items.create(params, once(*key, "next"))
    return made.id


def _already_there(client: stripe.StripeClient, customer: str, item: StripeItem) -> str:
    """The id of an item that Stripe has although we did not get its answer; '' where there is none."""
    since = {"gte": int(item.created_at.timestamp()) - 3600}
    listed: Any = {"customer": customer, "created": since, "limit": 100}
    for one in client.v1.invoice_items.list(listed).auto_paging_iter():
        if (plain(one).get("metadata") or {}).get("farebox_item") == str(item.pk):
            return one.id
    return ""


def _draft(item: StripeItem) -> StripeInvoice | None:
    """The draft of its own subscription, else of the one that followed it."""
    rows = StripeInvoice.objects.filter(organization_id=item.organization_id, state="draft")
    own = rows.filter(stripe_subscription=item.stripe_subscription)
    return own.order_by("-created_at").first() or rows.order_by("-created_at").first()
