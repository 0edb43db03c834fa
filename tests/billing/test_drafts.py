"""An adjustment and what was billed before add up to what the period costs now: lines, tiers and cents."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from billing.drafts import DraftLine, difference, draft_lines
from plans.pricing import PriceModel, PriceStep, Terms, UsagePrice, rate_period

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
STEPS = (PriceStep(Decimal(100), Decimal("0.013"), Decimal(1)), PriceStep(None, Decimal("0.007")))
TERMS = Terms(
    "Basic",
    "USD",
    4_900,
    (
        UsagePrice("included", "call", Decimal(50), Decimal("0.0015")),
        UsagePrice("graduated", "call", Decimal(0), None, PriceModel.GRADUATED, STEPS),
        UsagePrice("volume", "call", Decimal(10), None, PriceModel.VOLUME, STEPS),
        UsagePrice("package", "call", Decimal(0), Decimal(3), PriceModel.PACKAGE, package_size=Decimal(25)),
        UsagePrice("capped", "call", Decimal(0), Decimal("0.5"), PriceModel.PER_UNIT, maximum_minor=2_000),
    ),
    minimum_minor=3_000,
)
USAGE = st.fixed_dictionaries({(price.meter, ""): st.integers(0, 400).map(Decimal) for price in TERMS.usage})


def amounts(lines: list[DraftLine]) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in lines:
        found[line.meter or line.text] += line.amount_minor
    return found


def tiers(lines: list[DraftLine]) -> dict[object, tuple[Decimal, Decimal]]:
    """Quantity and exact amount by line, range and price; what comes to nothing is left out."""
    found: dict[object, tuple[Decimal, Decimal]] = {}
    for line in lines:
        for tier in line.tiers:
            key = (line.meter or line.text, tier.start, tier.end, tier.unit_price)
            quantity, amount = found.get(key, (Decimal(0), Decimal(0)))
            found[key] = quantity + tier.quantity, amount + tier.amount
    return {key: value for key, value in found.items() if any(value)}


@given(USAGE, USAGE)
def test_before_and_difference_are_after(
    earlier: dict[tuple[str, str], Decimal], later: dict[tuple[str, str], Decimal]
) -> None:
    before, after = rate_period(TERMS, earlier), rate_period(TERMS, later)

    added = difference(before, after, of_period_id=7, since=SINCE)

    billed = draft_lines(before) + added
    assert sum(line.amount_minor for line in billed) == after.total_minor
    assert +amounts(billed) == +amounts(draft_lines(after))
    assert tiers(billed) == tiers(draft_lines(after))
    assert {line.kind for line in added} <= {"adjustment"}
    assert added == [] or earlier != later
