"""What a version would charge: for the preview beside a draft, and what staff is warned of before it goes on sale."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.conf import settings

from core.money import format_money, format_price, format_quantity
from plans.cost_baselines import version_warnings
from plans.dimensions import match_text
from plans.models import Plan, PlanVersion, PriceComponent
from plans.pricing import Line, Measured, Tier, rate_period
from plans.queries import hard_quotas, terms_of
from plans.version_checks import version_faults

MOST_PUBLIC_PLANS = 4
EXAMPLE = Decimal(120_000)
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Asked:
    """One quantity of the preview: a price's meter and values, and what a customer is supposed to use."""

    measured: Measured
    label: str
    unit: str
    quantity: Decimal

    @property
    def value(self) -> str:
        """As a field shows it."""
        return f"{self.quantity:f}"


@dataclass(frozen=True, slots=True)
class BillLine:
    text: str
    quantity: str
    amount: str
    tiers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PreviewBill:
    """`sentence`: "A customer with 120,000 calls pays $119.00 a month." with the lines of its statement."""

    sentence: str
    lines: tuple[BillLine, ...]
    refused: tuple[str, ...]


def asked_quantities(components: Sequence[PriceComponent], given: Mapping[int, Decimal]) -> list[Asked]:
    """A quantity for each price, in order; `given` by number of the price, else 120,000 of the first and none of the others."""
    return [
        Asked(
            measured=(
                c.meter.slug,
                match_text(sorted((name, str(value)) for name, value in c.match.items())),
            ),
            label=c.text or " ".join([c.meter.name, *map(str, c.match.values())]),
            unit=c.meter.unit,
            quantity=given.get(number, EXAMPLE if number == 0 else ZERO),
        )
        for number, c in enumerate(components)
    ]


def preview_bill(version: PlanVersion, asked: Sequence[Asked]) -> PreviewBill:
    """A month's statement with this usage, worked out by the rating that bills it; what a hard quota refuses is not on it."""
    rated = rate_period(terms_of(version), _let_through(version, asked))
    used = [quantity_words(one.quantity, one.unit) for one in asked if one.quantity]
    who = f"A customer with {_listed(used)}" if used else "A customer without usage"
    total = format_money(rated.total_minor, rated.currency)
    when = "in the first month of a year" if version.interval == "year" else "a month"
    return PreviewBill(
        sentence=f"{who} pays {total} {when}.",
        lines=tuple(_bill_line(line, rated.currency) for line in rated.lines),
        refused=tuple(_refusals(version, asked)),
    )


def version_notes(version: PlanVersion, *, at: datetime) -> list[str]:
    """What staff should know before this goes on sale, though nothing forbids it: margins, and many public plans."""
    notes = version_warnings(version, factor=settings.COST_MARGIN_FACTOR, at=at)
    note = public_plans_note(version.plan)
    return [note, *notes] if note else notes


def public_plans_note(plan: Plan) -> str:
    """From the fifth public plan on: people do not compare so many."""
    others = Plan.objects.filter(is_public=True, archived_at=None).exclude(pk=plan.pk).count()
    if not plan.is_public or plan.archived_at is not None or others < MOST_PUBLIC_PLANS:
        return ""
    return (
        f"With {plan.name} there are {others + 1} public plans. Customers compare three or four well; "
        "think of archiving one, or of making this one private."
    )


def can_be_rated(version: PlanVersion) -> bool:
    """Whether a preview makes sense: prices with faults cannot be worked out."""
    return not version_faults(version)


def quantity_words(quantity: Decimal, unit: str) -> str:
    plural = "" if quantity == 1 or unit[-1:].isupper() or unit.endswith("s") else "s"
    return f"{format_quantity(quantity)} {unit}{plural}"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _bill_line(line: Line, currency: str) -> BillLine:
    quantity = quantity_words(line.quantity, line.unit) if line.unit else ""
    tiers = (
        tuple(_tier_words(tier, line.unit, currency) for tier in line.tiers) if len(line.tiers) > 1 else ()
    )
    return BillLine(line.text, quantity, format_money(line.amount_minor, currency), tiers)


def _tier_words(tier: Tier, unit: str, currency: str) -> tuple[str, str]:
    """`10,000 calls at $0.001` and `$10.00`; what a maximum takes off has no quantity."""
    if not tier.quantity:
        return "Above the line's maximum" if tier.amount < 0 else "Once", format_price(tier.amount, currency)
    words = quantity_words(tier.quantity, unit)
    if tier.unit_price or not tier.flat:
        words += f" at {format_price(tier.unit_price, currency)}" if tier.unit_price else " included or free"
    if tier.flat:
        words += (
            f", {format_price(tier.flat, currency)} for {'packages' if not tier.unit_price else 'the tier'}"
        )
    return words, format_price(tier.amount, currency)


def stops_at(version: PlanVersion, asked: Sequence[Asked]) -> dict[str, Decimal]:
    """By meter, the hard quota that this usage passes: there calls are refused, not charged."""
    quotas = hard_quotas(version.components.all())
    used: dict[str, Decimal] = {}
    for one in asked:
        used[one.measured[0]] = used.get(one.measured[0], ZERO) + one.quantity
    return {
        slug: quota for slug, quota in quotas.items() if quota is not None and used.get(slug, ZERO) > quota
    }


def _let_through(version: PlanVersion, asked: Sequence[Asked]) -> dict[Measured, Decimal]:
    left, usage = stops_at(version, asked), dict[Measured, Decimal]()
    for one in asked:
        meter = one.measured[0]
        passing = min(one.quantity, left.get(meter, one.quantity))
        if meter in left:
            left[meter] -= passing
        usage[one.measured] = usage.get(one.measured, ZERO) + passing
    return usage


def _refusals(version: PlanVersion, asked: Sequence[Asked]) -> list[str]:
    units = {one.measured[0]: one.unit for one in asked}
    return [
        f"The hard quota lets {quantity_words(quota, units[slug])} through: calls above it are refused with 429"
        " quota_exceeded and cost nothing."
        for slug, quota in stops_at(version, asked).items()
    ]
