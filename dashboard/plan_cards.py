"""A plan as people read it: on the pricing page, at sign-up and on the plan page."""

from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlencode

from django.db.models import Prefetch, prefetch_related_objects
from django.urls import reverse

from core.money import exponent, format_money, format_price, format_quantity
from plans.cost_baselines import free_units
from plans.history import monthly_fee_minor
from plans.limit_words import limit_words
from plans.models import PlanVersion, PriceComponent, PricingModel
from plans.preview import asked_quantities, quantity_words, stops_at
from plans.pricing import rate_period
from plans.queries import LIMIT_ROWS, offer_key, terms_of

RECOMMENDED = "starter"
WINDOWS = {1: "second", 60: "minute", 3_600: "hour", 86_400: "day", 604_800: "week", 2_592_000: "month"}


@dataclass(frozen=True, slots=True)
class PlanCard:
    """Texts and figures of one price list; `overage` says what happens above the included quantity of the first meter.

    `is_current` is the customer's own list; `keeps_terms` where it is on an earlier version of it. `key` names the list
    in addresses and forms.
    """

    name: str
    slug: str
    key: str
    description: str
    fee: str
    interval: str
    trial_days: int
    included: int
    overage: str
    extras: list[str]
    rate_per_minute: int
    windows: list[str]
    texts: list[str]
    example: str
    is_current: bool
    keeps_terms: bool
    recommended: bool
    cta_label: str
    cta_url: str


def plan_card(
    version: PlanVersion, *, current: PlanVersion | None = None, signed_in: bool = False
) -> PlanCard:
    """The card of a published version; the button leads to sign-up, or to the plan page for members."""
    components = sorted(version.components.all(), key=lambda c: (c.position, c.pk))
    first = next(iter(components), None)
    prefetch_related_objects([version], Prefetch("rate_limits", LIMIT_ROWS.all()))
    limits = version.rate_limits.all()
    calls = [limit for limit in limits if limit.of_calls]
    is_current = current is not None and _same_list(version, current)
    return PlanCard(
        name=version.plan.name,
        slug=version.plan.slug,
        key=offer_key(version),
        description=version.plan.description,
        fee=_short_money(version.fee_minor, version.currency),
        interval=version.interval,
        trial_days=version.trial_days,
        included=int(free_units(first)) if first else 0,
        overage=_above(first, version.currency) if first else "then refused",
        extras=[_price_words(component, version.currency) for component in components[1:]],
        rate_per_minute=next((int(r.calls) for r in calls if r.window_seconds == 60), 0),
        windows=[_window(f"{int(limit.calls):,}", limit.window_seconds) for limit in calls],
        texts=[*(f"Up to {limit_words(limit)}" for limit in limits if not limit.of_calls), *version.texts],
        example=_example(version, components),
        is_current=is_current,
        keeps_terms=is_current and current is not None and current.pk != version.pk,
        recommended=version.plan.slug == RECOMMENDED,
        cta_label=_label(version, is_current=is_current, signed_in=signed_in),
        cta_url=_url(version, signed_in=signed_in),
    )


def _same_list(one: PlanVersion, other: PlanVersion) -> bool:
    return (one.plan_id, one.currency, one.interval) == (other.plan_id, other.currency, other.interval)


def _short_money(amount_minor: int, currency: str) -> str:
    """Whole amounts without cents: prices of plans are read, not added."""
    text = format_money(amount_minor, currency)
    whole = "." + "0" * exponent(currency)
    return text.replace(whole, "") if exponent(currency) else text


def _above(component: PriceComponent, currency: str) -> str:
    """What units above the free ones cost: `then $0.001 a call`."""
    if not component.sells_more:
        return "then refused"
    return f"then {_selling(component, currency)}"


def _price_words(component: PriceComponent, currency: str) -> str:
    """A further meter: `Storage: 5 GB-month included, then $0.10 a GB-month`."""
    name = component.text or " ".join([component.meter.name, *map(str, component.match.values())])
    free = free_units(component)
    if not component.sells_more:
        return f"{name}: {quantity_words(free, component.meter.unit)} included, then refused"
    selling = _selling(component, currency)
    return (
        f"{name}: {quantity_words(free, component.meter.unit)} included, then {selling}"
        if free
        else f"{name}: {selling}"
    )


def _selling(component: PriceComponent, currency: str) -> str:
    unit = component.meter.unit
    if component.model in (PricingModel.GRADUATED, PricingModel.VOLUME):
        return _stepped(component, currency)
    if not component.unit_price:
        return "free"
    price = format_price(component.unit_price, currency)
    if component.model == PricingModel.PACKAGE:
        return f"{price} for each {quantity_words(component.package_size, unit)} begun"
    return f"{price} a {unit}"


def _stepped(component: PriceComponent, currency: str) -> str:
    """`$0.001 a call, $0.0008 above 100,000`; of a volume price every unit has the price of the step reached."""
    tiers = sorted(component.tiers.all(), key=lambda t: (t.up_to is None, t.up_to or 0))
    words: list[str] = []
    start = Decimal(0)
    for tier in tiers:
        if tier.unit_price or tier.flat_price:
            each = format_price(tier.unit_price, currency)
            above = (
                f" above {format_quantity(start + component.included)}"
                if words
                else f" a {component.meter.unit}"
            )
            once = f" and {format_price(tier.flat_price, currency)} once" if tier.flat_price else ""
            words.append(f"{each}{above}{once}")
        start = tier.up_to or start
    whole = " for all of them" if component.model == PricingModel.VOLUME and len(words) > 1 else ""
    return (", ".join(words) or "free") + whole


def _window(many: str, seconds: int) -> str:
    return f"{many} a {WINDOWS[seconds]}" if seconds in WINDOWS else f"{many} in {seconds:,} seconds"


def _example(version: PlanVersion, components: list[PriceComponent]) -> str:
    """What 120,000 of the first meter in a month cost, worked out by the rating that bills them; a twelfth of a year's fee."""
    asked = asked_quantities(components, {})
    stop = next(iter(stops_at(version, asked).values()), None)
    if stop is not None:
        return f"stops at {quantity_words(stop, components[0].meter.unit)}"
    rated = rate_period(
        terms_of(version), {one.measured: one.quantity for one in asked[:1]}, charge_fee=False
    )
    return format_money(rated.total_minor + monthly_fee_minor(version), rated.currency)


def _label(version: PlanVersion, *, is_current: bool, signed_in: bool) -> str:
    if is_current:
        return "Your plan"
    if signed_in:
        return f"Choose {version.plan.name}"
    return f"Start {version.trial_days}-day trial" if version.trial_days else "Start free"


def _url(version: PlanVersion, *, signed_in: bool) -> str:
    if signed_in:
        address = reverse("dashboard:plan-change", args=[version.plan.slug])
        return f"{address}?{urlencode({'currency': version.currency, 'interval': version.interval})}"
    return f"{reverse('account_signup')}?{urlencode({'plan': offer_key(version)})}"
