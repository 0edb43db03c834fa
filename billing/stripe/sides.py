"""A line as each side has it, and whether they say the same: quantity, tiers, amount, currency; without tax. Pure and exact.

Quantities are Stripe's whole units (10^-scale of the meter's unit). Stripe writes a line for each tier that is reached, and
one of its own for a tier's flat price; what is free may come in one line or several.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any, NamedTuple

from billing.models import StripeItem, StripeMeter, StripePrice
from core.money import to_minor
from plans.models import Period
from plans.tiers import Tier

Json = Mapping[str, Any]


class Step(NamedTuple):
    """Whole units of one tier and what they cost, minor units."""

    quantity: int
    amount_minor: int

    def as_json(self) -> dict[str, int]:
        return {"quantity": self.quantity, "amount_minor": self.amount_minor}


@dataclass(frozen=True, slots=True)
class Side:
    """A line as one side has it. `where` says where it can be looked at; `quantity` None: not counted (items). `others` are
    steps that mean the same as `steps`, written otherwise; `lines` Stripe's ids of the lines."""

    name: str
    amount_minor: int
    quantity: int | None = None
    where: str = ""
    currency: str = ""
    steps: tuple[Step, ...] = ()
    others: tuple[Step, ...] = ()
    lines: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "line": self.name,
            "amount_minor": self.amount_minor,
            "quantity": "" if self.quantity is None else str(self.quantity),
            "where": self.where,
            "currency": self.currency,
            "tiers": [step.as_json() for step in self.steps],
        }


@dataclass(frozen=True, slots=True)
class Pair:
    """What should be equal: Stripe's lines of one price and period, or of one item, and ours. `ours` None: not known yet.
    The rest names what the pair is about, where that is known."""

    subject: str
    theirs: Side
    ours: Side | None
    period: Period | None = None
    price: StripePrice | None = None
    item: StripeItem | None = None
    line_id: int | None = None  # of our statement
    credited_minor: int = 0  # by credit notes of Stripe's for these lines, before tax

    @property
    def differs(self) -> tuple[str, ...]:
        """In words, what is not equal."""
        if self.ours is None:
            return ("amount",)
        ours, theirs, found = self.ours, self.theirs, []
        if self.credited_minor and ours.amount_minor == theirs.amount_minor - self.credited_minor:
            return ()  # settled: what was charged too much went back
        if ours.currency and theirs.currency and ours.currency != theirs.currency:
            found.append("currency")
        if None not in (ours.quantity, theirs.quantity) and ours.quantity != theirs.quantity:
            found.append("quantity")
        if ours.amount_minor != theirs.amount_minor:
            found.append("amount")
        if theirs.steps and _told(theirs.steps) not in (_told(ours.steps), _told(ours.others)):
            found.append("tiers")
        return tuple(found)

    @property
    def is_equal(self) -> bool:
        return not self.differs


def their_side(lines: Sequence[Json], *, where: str, is_metered: bool) -> Side:
    """Stripe's lines of one price and period, or of one item, together. A discount is less money; tax that is included in
    a price is no part of it."""
    steps = tuple(Step(int(line["quantity"] or 0), net_minor(line)) for line in lines)
    return Side(
        str(lines[0].get("description") or ""),
        sum(step.amount_minor for step in steps),
        sum(step.quantity for step in steps),
        where,
        str(lines[0]["currency"]).upper(),
        steps if is_metered else (),
        lines=tuple(str(line.get("id") or "") for line in lines),
    )


def net_minor(line: Json) -> int:
    """What a line of Stripe's takes before tax, minor units."""
    off = sum(each["amount"] for each in line.get("discount_amounts") or ())
    taxes = line.get("taxes") or ()
    included = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "inclusive")
    return int(line["amount"] - off - included)


def our_steps(
    tiers: Iterable[Tier], meter: StripeMeter, currency: str
) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """A statement line's tiers in Stripe's units: each with its flat price, and with flat prices apart."""
    together: list[Step] = []
    apart: list[Step] = []
    for tier in tiers:
        units, whole = whole_units(tier.quantity, meter), to_minor(tier.amount, currency)
        flat = to_minor(tier.flat, currency)
        together.append(Step(units, whole))
        apart += [Step(units, whole - flat), Step(0, flat)]
    return tuple(together), tuple(apart)


def whole_units(quantity: Decimal, meter: StripeMeter) -> int:
    """A quantity of ours as Stripe counts it; what is begun is left out, as the outbox does."""
    return int(quantity.scaleb(meter.scale).to_integral_value(ROUND_FLOOR))


def _told(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Steps in one order, all that is free in one."""
    found = list(steps)
    free = sum(step.quantity for step in found if not step.amount_minor)
    paid = sorted(step for step in found if step.amount_minor)
    return tuple([Step(free, 0), *paid] if free else paid)
