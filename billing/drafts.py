"""Documents before they have a number: lines and tiers as they will be stored, made from what rating says."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from billing.models import LineKind, Statement, StatementLine
from plans.pricing import Line, Rated, Tier

ZERO = Decimal(0)


class DraftLine(NamedTuple):
    """A row of StatementLine, with the meter's slug in place of its id."""

    kind: str
    text: str
    meter: str
    unit: str
    dimension: str
    quantity: Decimal
    amount_minor: int
    tiers: tuple[Tier, ...] = ()
    of_period_id: int | None = None
    since: datetime | None = None


@dataclass(slots=True)
class Draft:
    """A document to be issued. `kind` as of StatementKind; ids of what it belongs to."""

    kind: str
    organization_id: int
    subscription_id: int
    period_id: int
    version_id: int
    currency: str
    starts_at: datetime
    ends_at: datetime
    cut_at: datetime
    lines: list[DraftLine]
    note: str = ""
    corrects_id: int | None = None
    replaces_id: int | None = None

    @property
    def total_minor(self) -> int:
        return sum(line.amount_minor for line in self.lines)


def draft_lines(rated: Rated) -> list[DraftLine]:
    """The lines of a rated period as they are stored and shown."""
    return [_draft_line(line) for line in rated.lines]


def stored_lines(statement: Statement) -> list[DraftLine]:
    """The lines of a document as they were drafted: what pages show and what is compared with the ledger."""
    rows = statement.lines.select_related("meter").prefetch_related("tiers")
    return [_stored_line(line) for line in rows]


def _stored_line(line: StatementLine) -> DraftLine:
    tiers = tuple(
        Tier(tier.start, tier.end, tier.quantity, tier.unit_price, tier.amount, tier.flat)
        for tier in line.tiers.all()
    )
    meter = line.meter.slug if line.meter else ""
    return DraftLine(
        line.kind, line.text, meter, line.unit, line.dimension, line.quantity, line.amount_minor, tiers,
        line.of_period_id, line.since,
    )  # fmt: skip


def difference(before: Rated, after: Rated, *, of_period_id: int, since: datetime) -> list[DraftLine]:
    """What has to be billed of an earlier period, because usage came late or was corrected: a line for each that differs,
    with the difference of quantity, of amount, and of each tier."""
    old = {_key(line): line for line in before.lines}
    new = {_key(line): line for line in after.lines}
    lines = []
    for key in dict.fromkeys([*new, *old]):
        was, now = old.get(key), new.get(key)
        line = now or was
        assert line is not None  # noqa: S101  # the key came from one of them
        quantity = (now.quantity if now else ZERO) - (was.quantity if was else ZERO)
        amount = (now.amount_minor if now else 0) - (was.amount_minor if was else 0)
        if quantity or amount:
            tiers = _tier_difference(was.tiers if was else (), now.tiers if now else ())
            drafted = _draft_line(line)
            lines.append(
                drafted._replace(
                    kind=LineKind.ADJUSTMENT.value,
                    quantity=quantity,
                    amount_minor=amount,
                    tiers=tiers,
                    of_period_id=of_period_id,
                    since=since,
                )
            )
    return lines


def _draft_line(line: Line) -> DraftLine:
    return DraftLine(
        line.kind,
        line.text,
        line.meter,
        line.unit,
        line.dimension,
        line.quantity,
        line.amount_minor,
        line.tiers,
    )


def _key(line: Line) -> tuple[str, str, str]:
    return line.kind, line.meter, line.dimension


def _tier_difference(before: Iterable[Tier], after: Iterable[Tier]) -> tuple[Tier, ...]:
    """Tiers of the same range and price are subtracted; what is left over of either stays."""
    changes: dict[tuple[Decimal, Decimal | None, Decimal], tuple[Decimal, Decimal, Decimal]] = {}
    for sign, tiers in ((-1, before), (1, after)):
        for tier in tiers:
            key = (tier.start, tier.end, tier.unit_price)
            quantity, flat, amount = changes.get(key, (ZERO, ZERO, ZERO))
            changes[key] = (
                quantity + sign * tier.quantity,
                flat + sign * tier.flat,
                amount + sign * tier.amount,
            )
    return tuple(
        Tier(start, end, quantity, price, amount, flat)
        for (start, end, price), (quantity, flat, amount) in changes.items()
        if quantity or flat or amount
    )
