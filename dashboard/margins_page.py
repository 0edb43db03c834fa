"""What the staff page "Margins" shows: the choice in the address, rows in text with their warning, pages, and CSV."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from urllib.parse import urlencode

from django.utils.dateparse import parse_date

from billing.margin_report import MarginReport, NamedMargin
from billing.margins import Margin, RouteMargin
from billing.revenue_report import Choices
from core.money import format_price
from dashboard.revenue_page import NONE, percent

RUNNING = "running"
PER_PAGE = 25
CALL_DIGITS = 4  # that count, of prices of one call
SORTS: Mapping[str, tuple[str, Callable[[NamedMargin], Decimal]]] = {
    "margin": ("Margin", lambda row: row.margin.margin),
    "revenue": ("Revenue", lambda row: -row.margin.revenue),
    "cost": ("Cost", lambda row: -row.margin.cost),
    "calls": ("Calls", lambda row: -Decimal(row.margin.calls.all)),
}
PARTS = ("plan", "customer", "route")
FIGURES = (
    "calls_charged",
    "calls_not_charged",
    "calls_test",
    "cost",
    "cost_not_charged",
    "revenue",
    "margin",
    "margin_rate",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """The choice, kept in every link of the page. `month` None: running now."""

    month: date | None
    currency: str
    sort: str = "margin"
    page: int = 1

    @property
    def month_text(self) -> str:
        return f"{self.month:%Y-%m}" if self.month else RUNNING

    def address(self, **more: str) -> str:
        """The query of this choice; the month and the currency are always said."""
        kept = {"month": self.month_text, "currency": self.currency}
        kept |= {"sort": self.sort} if self.sort != "margin" else {}
        return "?" + urlencode(kept | more)


@dataclass(frozen=True, slots=True)
class Row:
    """A plan, customer or route in text."""

    name: str
    public_id: str
    margin: Margin
    rate: str
    is_thin: bool
    is_loss: bool


@dataclass(frozen=True, slots=True)
class RouteRow:
    """A route with its figures for one call; a dash where there are none."""

    row: Row
    is_measured: bool
    is_calls: bool
    cost_per_call: str
    cost_per_charged: str
    revenue_per_call: str


@dataclass(frozen=True, slots=True)
class SortLink:
    label: str
    address: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class CustomerPage:
    """One page of the customers, with the ways to others."""

    rows: list[Row]
    shown: str
    newer: str
    older: str
    sorts: list[SortLink]


def ask(query: Mapping[str, str], choices: Choices) -> Asked:
    """What is not there is "running now", the first currency, the least margin first, page one."""
    try:
        month = parse_date(f"{query.get('month', '')}-01")
    except ValueError:
        month = None
    currency, sort, page = query.get("currency", ""), query.get("sort", ""), query.get("page", "")
    return Asked(
        month if month in choices.months else None,
        currency if currency in choices.currencies else choices.currencies[0],
        sort if sort in SORTS else "margin",
        max(int(page[:9]), 1) if page.isascii() and page.isdigit() else 1,
    )


def plan_rows(report: MarginReport, *, factor: Decimal | int) -> list[Row]:
    return [_row(one, factor) for one in report.plans]


def customer_page(report: MarginReport, asked: Asked, *, factor: Decimal | int) -> CustomerPage:
    """The customers of the page asked for, or of the last one."""
    found = sorted(report.customers, key=lambda row: (SORTS[asked.sort][1](row), row.name))
    last = max(1, -(-len(found) // PER_PAGE))
    page = min(asked.page, last)
    first = (page - 1) * PER_PAGE
    rows = [_row(one, factor) for one in found[first : first + PER_PAGE]]
    return CustomerPage(
        rows,
        f"{first + 1:,} to {first + len(rows):,} of {len(found):,}" if last > 1 else "",
        asked.address(page=str(page - 1)) + "#customers" if page > 1 else "",
        asked.address(page=str(page + 1)) + "#customers" if page < last else "",
        [
            SortLink(label, replace(asked, sort=slug).address() + "#customers", slug == asked.sort)
            for slug, (label, _) in SORTS.items()
        ],
    )


def route_rows(report: MarginReport, *, factor: Decimal | int) -> list[RouteRow]:
    return [_route_row(one, factor) for one in report.routes]


def csv_rows(report: MarginReport, part: str) -> Iterator[list[str]]:
    """A head and a row for each plan, customer or route; exact costs in major units with a point, rates as parts of one."""
    month = f"{report.month:%Y-%m}" if report.month else RUNNING
    yield ["month", "currency", *_heads(part), *FIGURES]
    rows: Sequence[tuple[list[str], Margin]]
    if part == "route":
        rows = [(_route_cells(one), one.margin) for one in report.routes]
    else:
        found = report.plans if part == "plan" else report.customers
        rows = [([one.name, one.public_id], one.margin) for one in found]
    for cells, margin in rows:
        yield [month, report.currency, *cells, *_figures(margin)]


def call_price(amount: Decimal | None, currency: str) -> str:
    """A price of one call with four digits that count, and at least two decimals."""
    if amount is None:
        return NONE
    places = max(2, CALL_DIGITS - 1 - amount.adjusted())
    return format_price(amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP), currency)


def _heads(part: str) -> tuple[str, ...]:
    if part == "route":
        return ("route", "as_measured", "cost_per_call", "cost_per_charged_call", "revenue_per_charged_call")
    return (part, "slug" if part == "plan" else "id")


def _route_cells(one: RouteMargin) -> list[str]:
    amounts = (one.call.total if one.is_calls else None, one.cost_per_charged, one.revenue_per_call)
    return [one.label, "yes" if one.is_measured else "no", *("" if a is None else _plain(a) for a in amounts)]


def _figures(margin: Margin) -> list[str]:
    calls = margin.calls
    return [
        str(calls.charged), str(calls.uncharged), str(calls.test), _plain(margin.cost), _plain(margin.free_cost),
        f"{margin.revenue:f}", _plain(margin.margin), "" if margin.rate is None else f"{margin.rate:.4f}",
    ]  # fmt: skip


def _plain(amount: Decimal) -> str:
    return f"{amount.quantize(Decimal('1E-12'), ROUND_HALF_UP).normalize():f}"


def _row(one: NamedMargin, factor: Decimal | int) -> Row:
    return _text(one.name, one.public_id, one.margin, factor)


def _text(name: str, public_id: str, margin: Margin, factor: Decimal | int) -> Row:
    return Row(name, public_id, margin, percent(margin.rate), margin.is_thin(factor), margin.margin < 0)


def _route_row(one: RouteMargin, factor: Decimal | int) -> RouteRow:
    currency = one.margin.currency
    return RouteRow(
        _text(one.label, "", one.margin, factor),
        one.is_measured,
        one.is_calls,
        call_price(one.call.total if one.is_calls else None, currency),
        call_price(one.cost_per_charged, currency),
        call_price(one.revenue_per_call, currency),
    )


def price_words(report: MarginReport) -> str:
    """The prices that the costs were counted with."""
    prices, currency = report.prices, report.currency
    if prices is None:
        return ""
    parts = (
        (prices.per_compute_ms, "a compute ms"),
        (prices.per_memory_gb_second, "a GB-second of memory"),
        (prices.per_kb_out, "a kB out"),
        (prices.per_third_party_call, "a third-party call"),
    )
    return ", ".join(f"{format_price(price, currency)} {what}" for price, what in parts)
