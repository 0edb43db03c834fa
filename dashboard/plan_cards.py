"""A plan as people read it: on the pricing page, at sign-up and on the plan page."""

from dataclasses import dataclass
from decimal import Decimal

from django.urls import reverse

from core.money import exponent, format_money
from plans.models import PlanVersion
from plans.pricing import rate_period
from plans.queries import terms_of

RECOMMENDED = "starter"
EXAMPLE_CALLS = Decimal(120_000)


@dataclass(frozen=True, slots=True)
class PlanCard:
    """Texts and figures of one plan version; `overage` says what happens above the included quantity."""

    name: str
    slug: str
    description: str
    fee: str
    interval: str
    trial_days: int
    included: int
    overage: str
    rate_per_minute: int
    texts: list[str]
    example: str
    is_current: bool
    recommended: bool
    cta_label: str
    cta_url: str


def plan_card(version: PlanVersion, *, current_slug: str | None = None, signed_in: bool = False) -> PlanCard:
    """The card of a published version; the button leads to sign-up, or to the plan page for members."""
    component = next(iter(version.components.all()), None)
    is_current = version.plan.slug == current_slug
    return PlanCard(
        name=version.plan.name,
        slug=version.plan.slug,
        description=version.plan.description,
        fee=_short_money(version.fee_minor, version.currency),
        interval=version.interval,
        trial_days=version.trial_days,
        included=int(component.included) if component else 0,
        overage=_overage(version),
        rate_per_minute=min((limit.calls for limit in version.rate_limits.all()), default=0),
        texts=list(version.texts),
        example=_example(version),
        is_current=is_current,
        recommended=version.plan.slug == RECOMMENDED,
        cta_label=_label(version, is_current=is_current, signed_in=signed_in),
        cta_url=_url(version, signed_in=signed_in),
    )


def _short_money(amount_minor: int, currency: str) -> str:
    """Whole amounts without cents: prices of plans are read, not added."""
    text = format_money(amount_minor, currency)
    whole = "." + "0" * exponent(currency)
    return text.removesuffix(whole) if exponent(currency) else text


def _overage(version: PlanVersion) -> str:
    component = next(iter(version.components.all()), None)
    if component is None or component.unit_price is None:
        return "then refused"
    price = component.unit_price.normalize()
    return f"then {_symbol(version.currency)}{price:f} a {component.meter.unit}"


def _symbol(currency: str) -> str:
    return "$" if currency == "USD" else currency + " "


def _example(version: PlanVersion) -> str:
    """What 120,000 calls in a month cost, worked out by the rating that bills them."""
    terms = terms_of(version)
    if any(price.unit_price is None and price.included < EXAMPLE_CALLS for price in terms.usage):
        return f"stops at {int(terms.usage[0].included):,} calls"
    rated = rate_period(terms, {(price.meter, ""): EXAMPLE_CALLS for price in terms.usage[:1]})
    return format_money(rated.total_minor, rated.currency)


def _label(version: PlanVersion, *, is_current: bool, signed_in: bool) -> str:
    if is_current:
        return "Your plan"
    if signed_in:
        return f"Change to {version.plan.name}"
    return f"Start {version.trial_days}-day trial" if version.trial_days else "Start free"


def _url(version: PlanVersion, *, signed_in: bool) -> str:
    if signed_in:
        return reverse("dashboard:plan-change", args=[version.plan.slug])
    return f"{reverse('account_signup')}?plan={version.plan.slug}"
