"""What Stripe has beside what we have, from auto-paged lists; each difference with the act that mends it, if there is one.

Nothing is written here. Usage alone is asked for one by one (Stripe has no list of summaries over customers): of periods
that run or have just ended.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.db.models import Q, Sum

from accounts.models import Organization
from billing.models import (
    FindingKind,
    StripeCustomer,
    StripeInvoice,
    StripeItem,
    StripeMeter,
    StripePrice,
    StripeSubscription,
    StripeUsage,
    UsageState,
)
from billing.stripe.behind import calls_behind
from billing.stripe.changes import follow_at_stripe
from billing.stripe.client import once_at, plain, stripe_client, stripe_id_of
from billing.stripe.details import differs, tell_customer
from billing.stripe.invoices import sync_invoice
from billing.stripe.items import send_item
from billing.stripe.sink import StripeSink
from billing.stripe.sync import PAYS, REPLACES, end_at_stripe, moment, period_of, sync_subscription
from plans.models import Period

Json = dict[str, Any]
LOOK_BACK = timedelta(days=40)  # invoices that are neither drafts nor open
UNSENT_FOR = timedelta(days=1)
QUIET = timedelta(minutes=30)  # Stripe counts usage with delay
USAGE_BACK = timedelta(days=3)
MINUTE = timedelta(minutes=1)
_PAGE = 100
_ADVICE = {
    "more": "Somebody else sends to this meter: cancel that event at Stripe within a day, else credit what it costs.",
    "less": "Look for usage that Stripe refused later; send those rows again, or bill the rest by hand.",
}


@dataclass(frozen=True, slots=True)
class Unlike:
    """One difference in words. `mend` is carried out under the customer's lock; None: only people can, and `text` says what.
    `behind`: of usage, the hours that differ."""

    what: str
    kind: FindingKind
    subject: str
    text: str
    organization_id: int | None = None
    mend: Callable[[datetime], object] | None = field(default=None, compare=False)
    behind: Json = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"{self.what}: {self.text}"


class Look:
    """One look at Stripe's account and our rows, of all customers or of one. Raises stripe.StripeError."""

    def __init__(self, *, at: datetime, organization: Organization | None = None) -> None:
        self.at = at
        self.api = stripe_client().v1
        rows = StripeCustomer.objects.select_related("organization")
        if organization is not None:
            rows = rows.for_organization(organization)
        self.organization = organization
        self.ours = {row.stripe_id: row for row in rows}
        self.scope = Q() if organization is None else Q(organization=organization)

    def listed(self, service: Any, **params: Any) -> dict[str, Json]:
        """All objects of our customers by id, page by page."""
        if self.organization is not None and service is not self.api.customers:
            params["customer"] = next(iter(self.ours), "")
            if not params["customer"]:
                return {}
        found = (plain(one) for one in service.list({"limit": _PAGE, **params}).auto_paging_iter())
        return {
            one["id"]: one
            for one in found
            if service is self.api.customers or stripe_id_of(one["customer"]) in self.ours
        }

    @cached_property
    def subscriptions(self) -> dict[str, Json]:
        """Those that are not over."""
        found = self.listed(self.api.subscriptions, expand=["data.schedule"])
        return {stripe_id: data for stripe_id, data in found.items() if data["status"] in PAYS}

    def owner(self, data: Json) -> int:
        return self.ours[stripe_id_of(data["customer"])].organization_id


def customers(look: Look) -> Iterator[Unlike]:
    there = look.listed(look.api.customers)
    for stripe_id, row in look.ours.items():
        name, wanted = row.organization.name, row.organization.public_id
        found = there.get(stripe_id)
        if found is None:
            text = f"{name} ({stripe_id}) was deleted at Stripe, which cannot be undone: speak with them; they pay anew, as a new customer."
            yield _customer(row, text, None)
        elif (found.get("metadata") or {}).get("farebox_organization") != wanted:

            def mend(at: datetime, stripe_id: str = stripe_id, wanted: str = wanted) -> None:
                sent: Any = {"metadata": {"farebox_organization": wanted}}
                look.api.customers.update(stripe_id, sent, once_at("customer", stripe_id, at=at))

            yield _customer(row, f"{name} ({stripe_id}) does not carry {wanted} in its metadata.", mend)
        elif unlike := differs(row, found):
            text = f"{name} ({stripe_id}) has another {' and '.join(unlike)}."

            def agree(at: datetime, organization: Organization = row.organization) -> None:
                tell_customer(organization, at=at)

            yield _customer(row, text, agree)


def _customer(row: StripeCustomer, text: str, mend: Callable[[datetime], object] | None) -> Unlike:
    return Unlike("customer", FindingKind.CUSTOMER, row.stripe_id, text, row.organization_id, mend)


def subscriptions(look: Look) -> Iterator[Unlike]:
    """In the order in which they are to be mended: what ended without a follower, what began, what goes on."""
    there = look.subscriptions
    scoped = StripeSubscription.objects.filter(look.scope).select_related("subscription")
    rows = {row.stripe_id: row for row in scoped.filter(Q(ended_at=None) | Q(stripe_id__in=there))}
    unknown = sorted(
        (data for key, data in there.items() if key not in rows), key=lambda one: one["start_date"]
    )
    replaced = {data["metadata"].get(REPLACES) for data in unknown}
    ended = [row for key, row in rows.items() if key not in there]
    for row in ended:
        if row.stripe_id not in replaced:
            yield _subscription(row.stripe_id, row.organization_id, "is open here and ended at Stripe")
    for data in unknown:
        text = "is open at Stripe and unknown here"
        yield _subscription(data["id"], look.owner(data), text)
    for row in ended:
        if row.stripe_id in replaced:
            text = "ended at Stripe for another one, and is open here"
            yield _subscription(row.stripe_id, row.organization_id, text)
    for key, row in rows.items():
        if key in there:
            yield from _going_on(row, there[key])


def _subscription(stripe_id: str, organization_id: int, text: str) -> Unlike:
    return Unlike(
        "subscription", FindingKind.SUBSCRIPTION, stripe_id, f"{stripe_id} {text}.", organization_id,
        lambda at: sync_subscription(stripe_id, at=at),
    )  # fmt: skip


def _going_on(row: StripeSubscription, data: Json) -> Iterator[Unlike]:
    key, owner = row.stripe_id, row.organization_id
    if row.ended_at is not None:

        def end(at: datetime) -> None:
            end_at_stripe(key)
            sync_subscription(key, at=at)

        text = f"{key} ended here and still runs at Stripe."
        yield Unlike("subscription", FindingKind.SUBSCRIPTION, key, text, owner, end)
        return
    start, until = period_of(data)
    cancels = until if data.get("cancel_at_period_end") else moment(data.get("cancel_at"))
    items = {item["price"]["id"] for item in data["items"]["data"]}
    listed = dict(StripePrice.objects.filter(stripe_id__in=items).values_list("stripe_id", "version_id"))
    pairs = {
        "status": (row.status, data["status"]),
        "period": ((row.current_period_start, row.current_period_end), (start, until)),
        "cancellation": (row.cancels_at, cancels),
        "plan": ({row.version_id}, set(listed.values())),
    }
    if names := [name for name, (ours, theirs) in pairs.items() if ours != theirs]:
        yield _subscription(key, owner, f"has another {', '.join(names)} at Stripe")
    wanted = set(StripePrice.objects.filter(version=row.version).values_list("stripe_id", flat=True))
    if set(listed.values()) == {row.version_id} and items != wanted:
        text = (
            f"{key} has other items at Stripe than its plan: {len(items)}, here {len(wanted)}. Put them back there, or"
            " move the customer to another plan here."
        )
        yield Unlike("subscription", FindingKind.SUBSCRIPTION, f"{key}:items", text, owner)
    for name, wrong in _changed_by_hand(data):
        yield Unlike("subscription", FindingKind.SUBSCRIPTION, f"{key}:{name}", f"{key} {wrong}", owner)
    if (reason := _schedule_differs(row, data)) and not names:
        yield Unlike(
            "subscription", FindingKind.SUBSCRIPTION, f"{key}:schedule", f"{key} {reason}.", owner,
            lambda at: follow_at_stripe(row.subscription, row, at=at),
        )  # fmt: skip


def _changed_by_hand(data: Json) -> Iterator[tuple[str, str]]:
    """What we never set, and what makes Stripe bill something else or nothing."""
    if any((item.get("quantity") or 1) != 1 for item in data["items"]["data"]):
        yield "quantity", "has its fee more than once. Set the quantity to 1 in Stripe."
    if data.get("pause_collection"):
        yield (
            "pause",
            "does not collect: its payments are paused there. Resume them in Stripe, or suspend the customer here.",
        )
    if data.get("collection_method") == "send_invoice":
        yield (
            "collection",
            "sends invoices instead of charging the card. Set it to charge automatically in Stripe.",
        )


def _schedule_differs(row: StripeSubscription, data: Json) -> str:
    schedule, waits = data.get("schedule"), row.subscription.next_version_id
    if not schedule or not waits:
        if bool(schedule) == bool(waits):
            return ""
        return "has no schedule for its change of plan" if waits else "has a schedule that nobody asked for"
    prices = {stripe_id_of(item["price"]) for item in schedule["phases"][-1]["items"]}
    wanted = set(StripePrice.objects.filter(version_id=waits).values_list("stripe_id", flat=True))
    return "" if prices == wanted else "will change to another plan at Stripe"


def invoices(look: Look) -> Iterator[Unlike]:
    """Oldest first; all that are drafts or open on either side, others of forty days."""
    service = look.api.invoices
    there = look.listed(service, created={"gte": int((look.at - LOOK_BACK).timestamp())})
    there |= look.listed(service, status="open") | look.listed(service, status="draft")
    scoped = StripeInvoice.objects.filter(look.scope)
    rows = {
        row.stripe_id: row for row in scoped.filter(Q(stripe_id__in=there) | Q(state__in=("draft", "open")))
    }
    for data in sorted(there.values(), key=lambda one: (one["created"], one["id"])):
        row = rows.get(data["id"])
        if row is None:
            yield _invoice(
                data["id"], look.owner(data), f"of {data['total']} ({data['status']}) is missing here"
            )
        elif names := _unlike_fields(row, data):
            yield _invoice(row.stripe_id, row.organization_id, f"has another {', '.join(names)} at Stripe")
    for key, row in rows.items():
        if key not in there:
            yield _invoice(key, row.organization_id, f"is {row.state} here and not so at Stripe")


def _unlike_fields(row: StripeInvoice, data: Json) -> list[str]:
    times = data["status_transitions"]
    pairs = {
        "state": (row.state, data["status"]),
        "number": (row.number, data.get("number") or ""),
        "total": (row.total_minor, data["total"]),
        "amount due": (row.due_minor, data["amount_remaining"]),
        "number of attempts": (row.attempts, data["attempt_count"]),
        "next attempt": (row.next_attempt_at, moment(data.get("next_payment_attempt"))),
        "time of payment": (row.paid_at, moment(times["paid_at"])),
    }
    return [name for name, (ours, theirs) in pairs.items() if ours != theirs]


def _invoice(stripe_id: str, organization_id: int, text: str) -> Unlike:
    return Unlike(
        "invoice", FindingKind.INVOICE, stripe_id, f"{stripe_id} {text}.", organization_id,
        lambda at: sync_invoice(stripe_id, at=at),
    )  # fmt: skip


def items(look: Look) -> Iterator[Unlike]:
    """Items of ours that Stripe should have since a day: its idempotency keys are forgotten, so its list is read first."""
    late = list(StripeItem.objects.filter(look.scope, sent_at=None, created_at__lte=look.at - UNSENT_FOR))
    if not late:
        return
    since = int((min(item.created_at for item in late) - UNSENT_FOR).timestamp())
    listed = look.listed(look.api.invoice_items, created={"gte": since}).values()
    there = {(one.get("metadata") or {}).get("farebox_item"): one["id"] for one in listed}
    for item in late:
        found = there.get(str(item.pk), "")
        text = f"{item.pk} ({item.text}) " + (
            "is there, its answer was lost." if found else f"waits. {item.error}"
        )
        if item.error and not found:
            text += " Stripe refused it: bill it by hand."

        def mend(at: datetime, pk: int = item.pk, found: str = found) -> None:
            if found:
                StripeItem.objects.filter(pk=pk, sent_at=None).update(stripe_id=found, sent_at=at, error="")
            else:
                send_item(pk, at)

        act = mend if found or not item.error else None
        yield Unlike("item", FindingKind.INVOICE, f"item {item.pk}", text.strip(), item.organization_id, act)


def usage(look: Look) -> Iterator[Unlike]:
    """What Stripe counted beside the rows that it took, in whole minutes before the first row that is not settled."""
    groups = StripeUsage.objects.filter(look.scope, period__ends_at__gt=look.at - USAGE_BACK).order_by()
    found = groups.values_list(
        "organization_id", "meter_id", "period_id", "meter__stripe_id", "meter__event_name",
        "organization__stripe_customer__stripe_id", "period__starts_at", "period__ends_at",
    ).distinct()  # fmt: skip
    for owner, meter_id, period_id, meter, name, customer, starts_at, ends_at in found:
        rows = StripeUsage.objects.filter(organization_id=owner, meter_id=meter_id)
        start, end = _minute(starts_at), min(_minute(ends_at + MINUTE), _minute(look.at - QUIET))
        moving = ~Q(state__in=(UsageState.SENT, UsageState.REFUSED)) | Q(sent_at__gt=look.at - QUIET)
        first = rows.filter(moving, stamped_at__gte=start).order_by("stamped_at").first()
        end = min(end, _minute(first.stamped_at)) if first is not None else end
        if end <= start or customer is None:
            continue
        settled = rows.filter(state=UsageState.SENT, stamped_at__gte=start, stamped_at__lt=end)
        told = settled.aggregate(told=Sum("value"))["told"] or 0
        counted = StripeSink().summary(meter=meter, customer=customer, start=start, end=end)
        if counted is not None and counted != told:
            behind = _behind(period_id, meter_id)
            text = (
                f"{name} of {customer} until {end:%Y-%m-%d %H:%M}: Stripe counted {counted}, told were {told}{_hours(behind)}."
                f" {_ADVICE['more' if counted > told else 'less']}"
            )
            subject = f"{customer} {meter} {period_id}"
            yield Unlike("usage", FindingKind.USAGE, subject, text, owner, behind=behind)


def _behind(period_id: int, meter_id: int) -> Json:
    period = Period.objects.select_related("organization__stripe_customer").get(pk=period_id)
    return calls_behind(period=period, meter=StripeMeter.objects.get(pk=meter_id))


def _hours(behind: Json) -> str:
    named = ", ".join(one["hour"] for one in behind["hours"][:3])
    return f" (hour {named})" if named else ""


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)
