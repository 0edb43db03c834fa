"""Money that moved at Stripe beside what we know of it: refunds, disputes, credit notes, credits of upgrades, items that wait.

Read from Stripe's lists, as billing/stripe/reconcile_checks.py; nothing is written but by the acts that mend.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from accounts.models import Organization
from billing.models import FindingKind, PaymentEntry, PaymentKind, StripeItem, StripeSubscription
from billing.stripe.client import plain, stripe_client, stripe_id_of
from billing.stripe.invoices import DECIDED, apply_dispute, apply_refunds
from billing.stripe.items import settle_pending
from billing.stripe.reconcile_checks import LOOK_BACK, Json, Look, Unlike
from billing.stripe.sync import CREDIT_ITEM, REPLACES, moment, remember_credit

DISPUTES_BACK = timedelta(days=120)  # a bank takes its time
SETTLES_BY_ITSELF = timedelta(hours=1)  # an act that made an item may still be under way


def refunds(look: Look) -> Iterator[Unlike]:
    """Refunds that are in nobody's timeline, such as one made by hand whose event was lost."""
    found = list(_of_charges(look, look.api.refunds, LOOK_BACK))
    known = _entered(PaymentKind.REFUNDED, (refund["id"] for refund, _, _ in found))
    for refund, charge, owner in found:
        if refund["id"] not in known and refund["amount"]:

            def enter(at: datetime, charge: Json = charge) -> None:
                apply_refunds(charge, at=at)

            yield _payment("refund", refund, owner, "of {amount} is not in the timeline of payments.", enter)


def disputes(look: Look) -> Iterator[Unlike]:
    """Disputes that are in nobody's timeline, or are over without its saying so."""
    found = list(_of_charges(look, look.api.disputes, DISPUTES_BACK))
    ids = [dispute["id"] for dispute, _, _ in found]
    opened, closed = _entered(PaymentKind.DISPUTED, ids), _entered(PaymentKind.DISPUTE_CLOSED, ids)
    for dispute, _, owner in found:
        key = dispute["id"]
        is_over = dispute["status"] in DECIDED
        if not dispute["amount"] or (key in opened and (key in closed or not is_over)):
            continue

        def enter(at: datetime, key: str = key) -> None:
            apply_dispute(plain(stripe_client().v1.disputes.retrieve(key)), at=at)

        what = "was decided" if key in opened else "is not in the timeline of payments"
        yield _payment("dispute", dispute, owner, f"of {{amount}} {what} ({dispute['status']}).", enter)


def credit_notes(look: Look) -> Iterator[Unlike]:
    """Credit notes made by hand at Stripe: they are in the timeline, not in our documents."""
    since = int((look.at - LOOK_BACK).timestamp())
    found = look.listed(look.api.credit_notes, created={"gte": since})
    known = _entered(PaymentKind.CREDITED, found)
    for key, note in found.items():
        if note["status"] == "issued" and note["total"] and key not in known:
            owner = look.ours[stripe_id_of(note["customer"])].organization

            def enter(at: datetime, note: Json = note, owner: Organization = owner) -> None:
                _enter_credit_note(note, owner, at)

            yield _payment(
                "credit note", note, owner.pk, "of {amount} is not in the timeline of payments.", enter
            )


def upgrade_credits(look: Look) -> Iterator[Unlike]:
    """Upgrades whose credit of the old fee is not known here: its statement would give it again."""
    with_credit = {
        data["metadata"][CREDIT_ITEM]: data
        for data in look.subscriptions.values()
        if data["metadata"].get(CREDIT_ITEM)
    }
    known = set(StripeItem.objects.filter(stripe_id__in=with_credit).values_list("stripe_id", flat=True))
    for item_id, data in with_credit.items():
        row = StripeSubscription.objects.filter(stripe_id=data["id"]).first()
        closed = (
            StripeSubscription.objects.select_related("version__plan")
            .filter(stripe_id=data["metadata"].get(REPLACES, ""))
            .first()
        )
        if item_id in known or row is None or closed is None:  # one that is unknown here brings it along
            continue

        def remember(
            at: datetime,
            closed: StripeSubscription = closed,
            data: Json = data,
            begun: datetime = row.started_at,
        ) -> None:
            remember_credit(closed, data, begun, at)

        text = f"{item_id}, the credit of the upgrade to {data['id']}, is not known here."
        yield Unlike("item", FindingKind.INVOICE, item_id, text, row.organization_id, remember)


def pending(look: Look) -> Iterator[Unlike]:
    """Items that wait at Stripe: the credit of an upgrade that was not carried out, and those of customers whose
    subscription has ended, which no invoice would take."""
    waiting: dict[int, list[Json]] = {}
    for item in look.listed(look.api.invoice_items, pending=True).values():
        if (moment(item["date"]) or look.at) <= look.at - SETTLES_BY_ITSELF:
            waiting.setdefault(look.owner(item), []).append(item)
    paying = set(
        StripeSubscription.objects.filter(organization_id__in=waiting, ended_at=None).values_list(
            "organization_id", flat=True
        )
    )
    for owner, items in waiting.items():
        left = [item for item in items if not _is_orphan(item)]
        yield from (_orphan(item, owner) for item in items if item not in left)
        ours = [item for item in left if "farebox_item" in (item.get("metadata") or {})]
        if ours and owner not in paying:
            customer, total = stripe_id_of(ours[0]["customer"]), sum(item["amount"] for item in left)
            text = f"{len(left)} items of {customer} ({total} minor units together) wait, and no invoice of a subscription comes."

            def settle(at: datetime, owner: int = owner) -> None:
                settle_pending(owner, at=at)

            yield Unlike("item", FindingKind.INVOICE, f"{customer} pending", text, owner, settle)


def _is_orphan(item: Json) -> bool:
    """The credit of an upgrade is on its first invoice, or the upgrade was never made."""
    metadata = item.get("metadata") or {}
    is_credit = "farebox_credit_of" in metadata
    return is_credit and not StripeItem.objects.filter(stripe_id=item["id"]).exists()


def _orphan(item: Json, owner: int) -> Unlike:
    def take_back(at: datetime) -> None:
        service = stripe_client().v1.invoice_items
        if not plain(service.retrieve(item["id"])).get("invoice"):
            service.delete(item["id"])

    text = f"{item['id']} gives {-item['amount']} minor units back for an upgrade that was not carried out."
    return Unlike("item", FindingKind.INVOICE, item["id"], text, owner, take_back)


def _entered(kind: PaymentKind, keys: Iterable[str]) -> set[str]:
    """Which of these are in a timeline."""
    found = PaymentEntry.objects.filter(kind=kind, reference__in=list(keys))
    return set(found.values_list("reference", flat=True))


def _of_charges(look: Look, service: Any, back: timedelta) -> Iterator[tuple[Json, Json, int]]:
    """Objects that know their customer by a charge only, with that charge and whose it is; of all customers or of one."""
    since = int((look.at - back).timestamp())
    params: Any = {"created": {"gte": since}, "expand": ["data.charge"], "limit": 100}
    for one in map(plain, service.list(params).auto_paging_iter()):
        charge = one.get("charge")
        customer = stripe_id_of(charge.get("customer")) if isinstance(charge, Mapping) else ""
        if customer in look.ours:
            yield one, dict(charge or {}), look.ours[customer].organization_id


def _payment(
    what: str, data: Json, owner: int, words: str, mend: Callable[[datetime], object]
) -> Unlike:  # fmt: skip
    amount = f"{data.get('total', data['amount'])} {data['currency'].upper()} minor units"
    text = f"{data['id']} {words.format(amount=amount)}"
    return Unlike(what, FindingKind.PAYMENT, data["id"], text, owner, mend)


def _enter_credit_note(note: Json, organization: Organization, at: datetime) -> None:
    PaymentEntry.objects.get_or_create(
        kind=PaymentKind.CREDITED,
        reference=note["id"],
        defaults={
            "organization": organization,
            "invoice": organization.stripe_invoices.filter(stripe_id=stripe_id_of(note["invoice"])).first(),
            "amount_minor": note["total"],
            "currency": note["currency"].upper(),
            "text": (note.get("memo") or note.get("reason") or "")[:300],
            "at": moment(note["created"]) or at,
        },
    )
