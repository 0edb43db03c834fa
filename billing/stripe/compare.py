"""Our statements are Stripe's invoices: every line of a finalised invoice is held against ours, tax apart.

Stripe bills a fee in advance and what its meters count in arrears, so a renewal's invoice belongs to two statements: its lines
are found by the period that they name. Items of ours are found by their ids. What differs is a finding with both sides and the
calls behind it, until a later comparison finds it equal. What ours have and Stripe's lack: billing/stripe/lacking.py.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q

from billing.models import (
    FindingKind,
    LineKind,
    Statement,
    StatementKind,
    StatementLine,
    StatementState,
    StripeFinding,
    StripeInvoice,
    StripeItem,
    StripeLine,
    StripeMeter,
    StripePrice,
)
from billing.stripe.behind import calls_behind
from billing.stripe.client import plain, stripe_client, stripe_id_of
from billing.stripe.findings import close_finding, open_finding
from billing.stripe.lacking import PATIENCE, check_statements
from billing.stripe.sides import Json, Pair, Side, net_minor, our_steps, their_side, whole_units
from billing.stripe.sync import moment
from core.one_by_one import one_by_one
from plans.dimensions import match_text
from plans.models import Period, PriceComponent
from plans.tiers import Tier

FINAL = ("open", "paid", "uncollectible")
SAME_SECOND = timedelta(seconds=2)


def compare_invoices(*, at: datetime, limit: int = 200) -> int:
    """Hold finalised invoices against our statements; how many were compared. Those that wait for a statement stay."""
    waiting = StripeInvoice.objects.filter(compared_at=None, state__in=FINAL).exclude(finalised_at=None)
    ids = waiting.order_by("created_at").values_list("pk", flat=True)[:limit]
    return one_by_one(ids, lambda pk: _compare(pk, at), failed="stripe_invoice_not_compared")


def compare_again(*, at: datetime, limit: int = 1_000) -> int:
    """Once a night: invoices with an open finding, which closes when both sides have become equal; how many were compared."""
    unlike = StripeInvoice.objects.filter(findings__closed_at=None, findings__kind=FindingKind.INVOICE)
    ids = unlike.order_by("created_at", "pk").distinct().values_list("pk", flat=True)[:limit]
    return one_by_one(ids, lambda pk: _compare(pk, at), failed="stripe_invoice_not_compared")


def compare_one(invoice: StripeInvoice, *, at: datetime) -> bool:
    """Hold one invoice against our statements now; whether everything of ours was known. Raises stripe.StripeError."""
    return _compare(invoice.pk, at)


def compare_invoice(invoice: StripeInvoice, *, at: datetime) -> list[Pair]:
    """Every pair of an invoice, equal or not. Raises stripe.StripeError."""
    found = stripe_client().v1.invoices.line_items.list(invoice.stripe_id, {"limit": 100})
    lines = [plain(line) for line in found.auto_paging_iter()]
    pairs = list(_pairs(invoice, lines))
    return pairs if all(pair.is_equal for pair in pairs) else _settled(invoice, pairs)


def _settled(invoice: StripeInvoice, pairs: Iterable[Pair]) -> list[Pair]:
    """The same, with what credit notes gave back of the lines that they name."""
    credited: Counter[str] = Counter()
    asked: Any = {"invoice": invoice.stripe_id, "limit": 100}
    for note in map(plain, stripe_client().v1.credit_notes.list(asked).auto_paging_iter()):
        if note["status"] == "issued":
            for line in note["lines"]["data"]:
                credited[line.get("invoice_line_item") or ""] += net_minor(line)
    return [
        replace(pair, credited_minor=sum(credited[line_id] for line_id in pair.theirs.lines))
        for pair in pairs
    ]


def _compare(pk: int, at: datetime) -> bool:
    invoice = StripeInvoice.objects.select_related("organization__stripe_customer").get(pk=pk)
    if invoice.state not in FINAL:  # void since: it asks for nothing
        invoice.findings.filter(kind=FindingKind.INVOICE, closed_at=None).update(closed_at=at)
        return True
    pairs = compare_invoice(invoice, at=at)
    is_late = invoice.finalised_at is not None and at - invoice.finalised_at > PATIENCE
    if any(pair.ours is None for pair in pairs) and not is_late:
        return False
    behind = {pair.subject: _behind(invoice, pair) for pair in pairs if not pair.is_equal}
    with transaction.atomic():
        StripeInvoice.objects.select_for_update(no_key=True).get(pk=pk)  # beat, and staff who compare again
        invoice.lines.all().delete()
        StripeLine.objects.bulk_create(_row(invoice, pair) for pair in pairs)
        for pair in pairs:
            _find(invoice, pair, behind.get(pair.subject, {}), at)
        gone = StripeFinding.objects.filter(invoice=invoice, kind=FindingKind.INVOICE, closed_at=None)
        gone.exclude(subject__in=[_subject(invoice, pair) for pair in pairs]).update(closed_at=at)
        StripeInvoice.objects.filter(pk=pk).update(compared_at=at)
        check_statements(invoice.organization, at=at)
    return True


def _subject(invoice: StripeInvoice, pair: Pair) -> str:
    return f"{invoice.stripe_id} {pair.subject}"


def _row(invoice: StripeInvoice, pair: Pair) -> StripeLine:
    return StripeLine(
        organization_id=invoice.organization_id, invoice=invoice, subject=pair.subject, period=pair.period,
        price=pair.price, item=pair.item, is_equal=pair.is_equal, theirs=pair.theirs.as_json(),
        ours=pair.ours.as_json() if pair.ours else {},
    )  # fmt: skip


def _find(invoice: StripeInvoice, pair: Pair, behind: dict[str, Any], at: datetime) -> None:
    subject = _subject(invoice, pair)
    if pair.is_equal:
        close_finding(kind=FindingKind.INVOICE, subject=subject, at=at)
        return
    open_finding(
        kind=FindingKind.INVOICE, subject=subject, text=_difference(invoice, pair), at=at, invoice=invoice,
        organization_id=invoice.organization_id, theirs=pair.theirs.as_json(),
        ours=pair.ours.as_json() if pair.ours else {}, behind=behind,
    )  # fmt: skip


def _difference(invoice: StripeInvoice, pair: Pair) -> str:
    """Amounts in minor units, quantities in Stripe's whole units."""
    theirs, ours = pair.theirs, pair.ours
    if ours is None:
        return f"{invoice}: {theirs.name}: Stripe charges {theirs.amount_minor}, we have no statement for it"
    said = f"Stripe charges {theirs.amount_minor}, we {ours.amount_minor} ({invoice.currency} minor units)"
    if "quantity" in pair.differs:
        said += f", for {theirs.quantity} and {ours.quantity} units"
    return f"{invoice}: {theirs.name}: other {', '.join(pair.differs)}: {said}"


def _behind(invoice: StripeInvoice, pair: Pair) -> dict[str, Any]:
    """The calls behind a line of usage."""
    if pair.period is None or pair.price is None or pair.price.meter is None:
        return {}
    line = StatementLine.objects.select_related("statement").filter(pk=pair.line_id or 0).first()
    return calls_behind(
        period=pair.period, meter=pair.price.meter, line=line, invoiced_at=invoice.finalised_at
    )


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
    theirs = their_side([line], where=item_id, is_metered=False)
    ours = Side("not one of ours", 0)
    if item is not None:
        ours = Side(item.text, item.amount_minor, None, str(item.statement or ""), item.currency)
    return Pair(item_id, theirs, ours, item=item)


def _priced_pair(invoice: StripeInvoice, price_id: str, start: int, lines: list[Json]) -> Pair:
    """Stripe has a line for each tier: together they are one of ours."""
    rows = StripePrice.objects.select_related("version__plan", "component__meter", "meter")
    price = rows.filter(stripe_id=price_id).first()
    subject = f"{price_id} {start}"
    is_metered = price is not None and price.component is not None
    theirs = their_side(lines, where=price_id, is_metered=is_metered)
    if price is None:
        return Pair(subject, theirs, Side("not a price of ours", 0))
    period = _period(invoice, moment(start))
    if period is None:
        return Pair(subject, theirs, Side("no period of ours begins then", 0), price=price)
    if price.component is None or price.meter is None:
        return Pair(subject, theirs, _fee(price, period), period, price)
    return _usage_pair(subject, theirs, price, price.component, price.meter, period)


def _period(invoice: StripeInvoice, start: datetime | None) -> Period | None:
    if start is None:
        return None
    rows = Period.objects.for_organization(invoice.organization).select_related("version", "organization")
    return rows.filter(starts_at__gte=start, starts_at__lt=start + SAME_SECOND).first()


def _fee(price: StripePrice, period: Period) -> Side:
    """In advance: what the period's statement will say, and says once it is there. A trial costs nothing."""
    line = _line(period, Q(kind=LineKind.FEE))
    currency = price.version.currency
    if line is not None:
        return Side(line.text, line.amount_minor, 1, str(line.statement), currency)
    amount = 0 if period.is_trial else price.version.fee_minor
    return Side(f"{price.version.plan.name}, fee", amount, 1, str(period), currency)


def _usage_pair(
    subject: str, theirs: Side, price: StripePrice, component: PriceComponent, meter: StripeMeter, period: Period
) -> Pair:  # fmt: skip
    """In arrears: known when the period's statement is final."""
    if not _statement(period).exists():
        return Pair(subject, theirs, None, period, price)
    dimension = match_text(component.match.items())
    line = _line(period, Q(kind=LineKind.USAGE, meter=component.meter, dimension=dimension))
    if line is None:
        return Pair(subject, theirs, Side(component.meter.name, 0, 0), period, price)
    currency = line.statement.currency
    tiers = [
        Tier(tier.start, tier.end, tier.quantity, tier.unit_price, tier.amount, tier.flat)
        for tier in line.tiers.all()
    ]
    together, apart = our_steps(tiers, meter, currency)
    ours = Side(
        line.text, line.amount_minor, whole_units(line.quantity, meter), f"{line.statement} line {line.position}",
        currency, together, apart,
    )  # fmt: skip
    return Pair(subject, theirs, ours, period, price, line_id=line.pk)


def _statement(period: Period) -> Any:
    return Statement.objects.filter(period=period, kind=StatementKind.PERIOD, state=StatementState.FINALISED)


def _line(period: Period, which: Q) -> StatementLine | None:
    rows = StatementLine.objects.filter(which, statement__in=_statement(period))
    return rows.select_related("statement").first()
