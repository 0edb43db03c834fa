"""Our statements are Stripe's invoices: every line of a finalised invoice is held against ours, tax apart.

Stripe bills a fee in advance and what its meters count in arrears, so a renewal's invoice belongs to two statements: its lines
are found by the period that they name. Items of ours are found by their ids. What differs is a finding with both sides, until
a later comparison finds it equal.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from billing.models import (
    FindingKind,
    LineKind,
    Statement,
    StatementKind,
    StatementLine,
    StatementState,
    StripeInvoice,
    StripeItem,
    StripePrice,
)
from billing.stripe.client import plain, stripe_client, stripe_id_of
from billing.stripe.findings import close_finding, open_finding
from billing.stripe.sync import moment
from core.one_by_one import one_by_one
from plans.dimensions import match_text
from plans.models import Period

FINAL = ("open", "paid", "uncollectible")
# Without a statement that long after the invoice, something is wrong on our side.
PATIENCE = timedelta(days=2)
SAME_SECOND = timedelta(seconds=2)
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Side:
    """A line as one side has it. `where` says where it can be looked at; amounts in minor units."""

    name: str
    amount_minor: int
    quantity: str = ""
    where: str = ""

    def as_json(self) -> dict[str, str | int]:
        return {
            "line": self.name,
            "amount_minor": self.amount_minor,
            "quantity": self.quantity,
            "where": self.where,
        }


@dataclass(frozen=True, slots=True)
class Pair:
    """What should be equal: Stripe's lines of one price and period, or of one item, and ours. None: not known yet."""

    subject: str
    theirs: Side
    ours: Side | None

    @property
    def is_equal(self) -> bool:
        return self.ours is not None and self.ours.amount_minor == self.theirs.amount_minor


def compare_invoices(*, at: datetime, limit: int = 200) -> int:
    """Hold finalised invoices against our statements; how many were compared. Those that wait for a statement stay."""
    waiting = StripeInvoice.objects.filter(compared_at=None, state__in=FINAL).exclude(finalised_at=None)
    ids = waiting.order_by("created_at").values_list("pk", flat=True)[:limit]
    return one_by_one(ids, lambda pk: _compare(pk, at), failed="stripe_invoice_not_compared")


def compare_invoice(invoice: StripeInvoice, *, at: datetime) -> list[Pair]:
    """Every pair of an invoice, equal or not. Raises stripe.StripeError."""
    found = stripe_client().v1.invoices.line_items.list(invoice.stripe_id, {"limit": 100})
    return list(_pairs(invoice, [plain(line) for line in found.auto_paging_iter()]))


def _compare(pk: int, at: datetime) -> bool:
    invoice = StripeInvoice.objects.select_related("organization").get(pk=pk)
    pairs = compare_invoice(invoice, at=at)
    is_late = invoice.finalised_at is not None and at - invoice.finalised_at > PATIENCE
    if any(pair.ours is None for pair in pairs) and not is_late:
        return False
    for pair in pairs:
        subject = f"{invoice.stripe_id} {pair.subject}"
        if pair.is_equal:
            close_finding(kind=FindingKind.INVOICE, subject=subject, at=at)
        else:
            open_finding(
                kind=FindingKind.INVOICE, subject=subject, text=_difference(invoice, pair), at=at,
                organization_id=invoice.organization_id, theirs=pair.theirs.as_json(),
                ours=pair.ours.as_json() if pair.ours else {},
            )  # fmt: skip
    invoice.compared_at = at
    invoice.save(update_fields=["compared_at"])
    return True


def _difference(invoice: StripeInvoice, pair: Pair) -> str:
    ours = f"{pair.ours.amount_minor}" if pair.ours else "nothing"
    return f"{invoice}: {pair.theirs.name}: Stripe charges {pair.theirs.amount_minor}, we {ours} ({invoice.currency} minor units)"


def _pairs(invoice: StripeInvoice, lines: Iterable[Json]) -> Iterator[Pair]:
    priced: dict[tuple[str, int], list[Json]] = {}
    for line in lines:
        parent = line.get("parent") or {}
        if item := (parent.get("invoice_item_details") or {}).get("invoice_item"):
            yield _item_pair(line, stripe_id_of(item))
        else:
            price = ((line.get("pricing") or {}).get("price_details") or {}).get("price")
            priced.setdefault((stripe_id_of(price), line["period"]["start"]), []).append(line)
    for (price_id, start), same in priced.items():
        yield _priced_pair(invoice, price_id, start, same)


def _item_pair(line: Json, item_id: str) -> Pair:
    item = StripeItem.objects.filter(stripe_id=item_id).select_related("statement").first()
    theirs = Side(line["description"] or "", line["amount"], where=item_id)
    ours = Side("not one of ours", 0)
    if item is not None:
        ours = Side(item.text, item.amount_minor, where=str(item.statement or ""))
    return Pair(item_id, theirs, ours)


def _priced_pair(invoice: StripeInvoice, price_id: str, start: int, lines: list[Json]) -> Pair:
    """Stripe has a line for each tier: together they are one of ours."""
    quantity = sum(line["quantity"] or 0 for line in lines)
    theirs = Side(
        str(lines[0]["description"]), sum(line["amount"] for line in lines), str(quantity), where=price_id
    )
    price = (
        StripePrice.objects.filter(stripe_id=price_id).select_related("version", "component__meter").first()
    )
    if price is None:
        return Pair(f"{price_id} {start}", theirs, Side("not a price of ours", 0))
    period = _period(invoice, moment(start))
    if period is None:
        return Pair(f"{price_id} {start}", theirs, Side("no period of ours begins then", 0))
    ours = _fee(price, period) if price.component is None else _usage(price, period)
    return Pair(f"{price_id} {start}", theirs, ours)


def _period(invoice: StripeInvoice, start: datetime | None) -> Period | None:
    if start is None:
        return None
    rows = Period.objects.for_organization(invoice.organization).select_related("version")
    return rows.filter(starts_at__gte=start, starts_at__lt=start + SAME_SECOND).first()


def _fee(price: StripePrice, period: Period) -> Side:
    """In advance: what the period's statement will say, and says once it is there. A trial costs nothing."""
    line = _line(period, Q(kind=LineKind.FEE))
    if line is not None:
        return Side(line.text, line.amount_minor, where=str(line.statement))
    amount = 0 if period.is_trial else price.version.fee_minor
    return Side(f"{price.version.plan.name}, fee", amount, where=str(period))


def _usage(price: StripePrice, period: Period) -> Side | None:
    """In arrears: known when the period's statement is final."""
    component = price.component
    if component is None or not _statement(period).exists():
        return None
    wanted = Q(kind=LineKind.USAGE, meter=component.meter, dimension=match_text(component.match.items()))
    line = _line(period, wanted)
    if line is None:
        return Side(component.meter.name, 0, "0")
    return Side(
        line.text,
        line.amount_minor,
        f"{line.quantity.normalize():f}",
        where=f"{line.statement} line {line.position}",
    )


def _statement(period: Period) -> Any:
    return Statement.objects.filter(period=period, kind=StatementKind.PERIOD, state=StatementState.FINALISED)


def _line(period: Period, which: Q) -> StatementLine | None:
    rows = StatementLine.objects.filter(which, statement__in=_statement(period))
    return rows.select_related("statement").first()
