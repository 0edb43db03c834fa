"""How documents are worded: one form of lines and tiers for page, PDF, CSV, API and command, of drafts as of final ones."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from billing.drafts import DraftLine, stored_lines
from billing.models import LineKind, Statement, StatementKind
from core.money import exponent, format_money, format_price, format_quantity
from plans.dimensions import in_words
from plans.models import Period
from plans.tiers import Tier

CSV_HEAD = (
    "document", "kind", "period_start", "period_end", "line", "text", "detail", "unit", "quantity", "unit_price",
    "flat", "amount", "currency", "rounded",
)  # fmt: skip
_UNCOUNTED = (LineKind.FEE, LineKind.FEE_CREDIT, LineKind.MINIMUM, LineKind.WRITE_OFF, LineKind.CREDIT)


@dataclass(frozen=True, slots=True)
class DisplayTier:
    """A tier in words: `10,000 to 12,500`, `2,500 calls`, `$0.001`, `$2.50`; what is not charged by is empty."""

    range: str
    quantity: str
    unit_price: str
    flat: str
    amount: str
    is_free: bool

    @property
    def price_words(self) -> str:
        """`at $0.001`, `at $0.001 + $5.00`, `included`, or the flat price alone."""
        if self.is_free:
            return "included"
        parts = (f"at {self.unit_price}" if self.unit_price else "", self.flat)
        return " + ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class DisplayLine:
    """A line in words. `quantity` is empty where nothing is counted; `position` counts from 1."""

    position: int
    kind: str
    text: str
    detail: str
    quantity: str
    amount: str
    amount_minor: int
    tiers: tuple[DisplayTier, ...]


def display_lines(lines: Iterable[DraftLine], *, currency: str) -> list[DisplayLine]:
    """The lines of a document, final or draft, in words."""
    lines = list(lines)
    periods = Period.objects.in_bulk({line.of_period_id for line in lines if line.of_period_id is not None})
    return [
        DisplayLine(
            position,
            line.kind,
            line.text,
            _detail(line, periods.get(line.of_period_id or 0)),
            "" if line.kind in _UNCOUNTED else quantity_words(line.quantity, line.unit),
            format_money(line.amount_minor, currency),
            line.amount_minor,
            tuple(_tier(tier, line.unit, currency) for tier in line.tiers),
        )
        for position, line in enumerate(lines, 1)
    ]


def statement_lines(statement: Statement) -> list[DisplayLine]:
    """A final document's lines in words."""
    return display_lines(stored_lines(statement), currency=statement.currency)


def title(statement: Statement) -> str:
    """`Invoice ACME-0007` where something is to be paid by it, else what the document is: what is paid by card has Stripe's
    invoice, and our statement explains it."""
    kind = StatementKind(statement.kind)
    is_invoice = (
        kind != StatementKind.CREDIT_NOTE and statement.total_minor > 0 and hasattr(statement, "invoice")
    )
    return f"{'Invoice' if is_invoice else kind.label} {statement.number}"


def period_words(starts_at: datetime, ends_at: datetime) -> str:
    """`10 Feb to 10 Mar 2026`: the end is the first moment of the next period."""
    year = "" if starts_at.year == ends_at.year else f" {starts_at:%Y}"
    return f"{starts_at:%-d %b}{year} to {ends_at:%-d %b %Y}"


def quantity_words(quantity: Decimal, unit: str) -> str:
    """`12,500 calls`, `1 call`, `3.5 GB`."""
    plural = "" if not unit or abs(quantity) == 1 or unit[-1].isupper() or unit.endswith("s") else "s"
    return f"{format_quantity(quantity)} {unit}{plural}".strip()


def statement_as_text(statement: Statement) -> str:
    """A document for the terminal."""
    rows = [f"{title(statement)} · {statement.organization} · {statement.state}"]
    rows.append(
        f"{period_words(statement.starts_at, statement.ends_at)} UTC, usage stored up to {statement.cut_at}"
    )
    for line in statement_lines(statement):
        rows.append(f"{line.text:<48} {line.quantity:>20} {line.amount:>14}")
        rows += [f"  {tier.range:<46} {tier.quantity:>20} {tier.amount:>14}" for tier in line.tiers]
    return "\n".join([*rows, f"{'Total':<69} {format_money(statement.total_minor, statement.currency):>14}"])


def csv_rows(statement: Statement, lines: Sequence[DraftLine] | None = None) -> Iterator[tuple[str, ...]]:
    """The head, then each line with its tiers below it; the `rounded` column adds up to the total."""
    lines = stored_lines(statement) if lines is None else lines
    display, digits = display_lines(lines, currency=statement.currency), exponent(statement.currency)
    start = (
        statement.number,
        statement.kind,
        statement.starts_at.isoformat(),
        statement.ends_at.isoformat(),
    )
    yield CSV_HEAD
    for line, words in zip(lines, display, strict=True):
        rounded = f"{Decimal(line.amount_minor).scaleb(-digits):f}"
        quantity = "" if line.kind in _UNCOUNTED else plain(line.quantity)
        head = (*start, str(words.position), words.text)
        yield (*head, words.detail, line.unit, quantity, "", "", "", statement.currency, rounded)
        for tier, tier_words in zip(line.tiers, words.tiers, strict=True):
            prices = plain(tier.unit_price), plain(tier.flat), plain(tier.amount)
            yield (*head, tier_words.range, line.unit, plain(tier.quantity), *prices, statement.currency, "")


def plain(value: Decimal) -> str:
    """A number for programs: no grouping, no exponent, no zeros behind the last digit that counts."""
    return format(value.normalize() if value else Decimal(0), "f")


def _detail(line: DraftLine, of_period: Period | None) -> str:
    words = ["plan fee"] if line.kind == LineKind.FEE else []
    if line.dimension and in_words(line.dimension) not in line.text:
        words.append(in_words(line.dimension))
    if of_period is not None:
        words.append(f"reported late, for {period_words(of_period.starts_at, of_period.ends_at)}")
    return ", ".join(words)


def _tier(tier: Tier, unit: str, currency: str) -> DisplayTier:
    return DisplayTier(
        _range(tier),
        quantity_words(tier.quantity, unit) if tier.quantity or not tier.flat else "",
        format_price(tier.unit_price, currency) if tier.unit_price else "",
        format_price(tier.flat, currency) if tier.flat else "",
        format_price(tier.amount, currency),
        not (tier.unit_price or tier.flat),
    )


def _range(tier: Tier) -> str:
    if tier.flat and not tier.quantity and not tier.start:
        return "at most" if tier.flat < 0 else ""
    if tier.end is None:
        return f"above {format_quantity(tier.start)}" if tier.start else "all"
    return f"{format_quantity(tier.start)} to {format_quantity(tier.end)}"
