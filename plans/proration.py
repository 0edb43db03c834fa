"""What a period that was cut short owes: the credit of the fee at an upgrade, and the minimum's share. Pure and exact.

The credit is the fee times the smaller of the share of time and the share of included quantity left (ENGINE.md, section 9):
by time alone, whoever used a month's included quantity on its first day would pay a thirtieth of the fee.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from core.money import to_major
from plans.periods import fee_bounds, month_bounds, month_number
from plans.pricing import Line, Terms, Usage, rate_period
from plans.tiers import ZERO, Tier

NOTHING, ALL = Fraction(0), Fraction(1)
_MICROSECOND = timedelta(microseconds=1)


def upgrade_credit(fee_minor: int, *, time_left: Fraction, included_left: Iterable[Fraction] = ()) -> int:
    """Minor units of a fee that go back: its smallest share left, of time or of any included quantity; rounded once, half up."""
    return _half_up(fee_minor * max(NOTHING, min([time_left, *included_left, ALL])))


def time_left(starts_at: datetime, ends_at: datetime, at: datetime) -> Fraction:
    """The share of `[starts_at, ends_at)` that is left at `at`, counted in microseconds; 0 to 1."""
    whole, left = (ends_at - starts_at) // _MICROSECOND, (ends_at - at) // _MICROSECOND
    return min(ALL, max(NOTHING, Fraction(left, whole)))


def included_left(terms: Terms, usage: Usage) -> list[Fraction]:
    """The share of each included quantity of a usage month that this usage leaves; prices that include nothing have none."""
    lines = rate_period(terms, usage, charge_fee=False, charge_minimum=False).lines
    return [
        max(NOTHING, ALL - Fraction(line.quantity) / Fraction(price.included))
        for price, line in zip(terms.usage, lines, strict=False)  # lines of unpriced usage come after
        if price.included > ZERO
    ]


def credit_line(
    terms: Terms, usage: Usage, *, anchor: datetime, starts_at: datetime, at: datetime, months: int = 1
) -> Line | None:
    """The line that credits the fee of a period that an upgrade closed at `at`; None where nothing goes back.

    `usage` is that of the closed period, `months` the fee interval's length. Of a yearly fee the included quantity is that
    of twelve usage months: those after this one are untouched.
    """
    begin, end = fee_bounds(anchor, starts_at, months)
    after = months - 1 - month_number(anchor, starts_at) % months
    shares = [(share + after) / months for share in included_left(terms, usage)]
    credit = upgrade_credit(terms.fee_minor, time_left=time_left(begin, end, at), included_left=shares)
    if not credit:
        return None
    amount = -to_major(credit, terms.currency)
    tier = Tier(ZERO, None, ZERO, ZERO, amount, amount)
    return Line(f"{terms.name}, unused part of the fee", "", "", Decimal(1), -credit, (tier,), "fee_credit")


def shortened_minimum(minimum_minor: int, *, anchor: datetime, starts_at: datetime, ends_at: datetime) -> int:
    """The minimum spend of a period: its share of time where the period was closed before its usage month was over."""
    begin, end = month_bounds(anchor, starts_at)
    return (
        minimum_minor if ends_at >= end else _half_up(minimum_minor * (ALL - time_left(begin, end, ends_at)))
    )


def _half_up(amount: Fraction) -> int:
    return (2 * amount.numerator + amount.denominator) // (2 * amount.denominator)
