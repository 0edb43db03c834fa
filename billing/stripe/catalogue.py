"""A plan version as Stripe's product, meters and prices; and which amounts Stripe cannot work out. Pure and exact.

Stripe counts whole numbers: one of its units is 10^-scale of the meter's unit. A component becomes a metered price only
when Stripe's arithmetic gives our line's amount for every whole quantity, whether Stripe rounds each tier's line by itself
or their sum (docs/stripe.md): so all closed tiers and flat prices have to be whole minor units. Every other component is
billed as an invoice item of ours, with the amount of our statement's line; the reason is given in words.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from core.money import exponent
from plans.dimensions import match_text
from plans.pricing import PriceModel, UsagePrice
from plans.tiers import EXACT, ZERO

Payload = dict[str, Any]

DECIMALS = 12  # of `unit_amount_decimal`, in minor units
EVENT_PREFIX = "farebox_"
CUSTOMER_KEY, VALUE_KEY = "stripe_customer_id", "value"
FEE = "fee"
NICKNAME_LENGTH = 500

# Where Stripe's smallest unit is not ISO 4217's (https://docs.stripe.com/currencies): ISK and UGX are told in hundredths
# that have to be 00, MGA in whole ariary; of the currencies with three decimals it takes these, in tens.
_STRIPE_EXPONENTS = {"ISK": 2, "UGX": 2, "MGA": 0}
_THREE_DECIMALS = ("BHD", "JOD", "KWD", "OMR", "TND")


@dataclass(frozen=True, slots=True)
class ComponentFacts:
    """One price component. `key` names it for good within its version; `scale` is of the Stripe meter that would count it,
    `decimals` and `is_fractional` are of our meter; `takes_the_rest`: a more specific price takes part of its usage."""

    key: str
    price: UsagePrice
    decimals: int
    scale: int
    is_fractional: bool = False
    takes_the_rest: bool = False


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """A published version: what its Stripe product and prices are made of."""

    plan: str
    plan_name: str
    description: str
    number: int
    currency: str
    interval: str
    fee_minor: int
    minimum_minor: int
    components: tuple[ComponentFacts, ...]

    @property
    def name(self) -> str:
        return f"{self.plan} v{self.number}"


@dataclass(frozen=True, slots=True)
class Offer:
    """What becomes of one component: `price` (without product and meter) where Stripe can count it, or else `reason`."""

    component: ComponentFacts
    price: Payload | None
    reason: str = ""


def obstacle(version: VersionFacts) -> str:
    """Why nothing of this version can be sold through Stripe, in words; empty when it can."""
    ours, theirs = exponent(version.currency), stripe_exponent(version.currency)
    if ours != theirs:
        return f"Stripe counts {version.currency} with {theirs} decimals, invoices here with {ours}: collect it by hand."
    if ours == 3 and version.fee_minor % 10:
        return (
            f"Stripe takes amounts in {version.currency} only when their last digit is 0; the fee's is not."
        )
    return ""


def stripe_exponent(currency: str) -> int:
    """Decimals of the amounts that Stripe's API takes in this currency."""
    if currency in _STRIPE_EXPONENTS:
        return _STRIPE_EXPONENTS[currency]
    return 3 if currency in _THREE_DECIMALS else 0 if exponent(currency) == 0 else 2


def offers(version: VersionFacts) -> tuple[Offer, ...]:
    """Each component, in the version's order, as Stripe's price or with the reason why it is billed as our item."""
    return tuple(_offer(version, component) for component in version.components)


def own_items(version: VersionFacts) -> tuple[str, ...]:
    """In words, what Stripe does not work out and our statement adds to its invoice."""
    found = [f"{offer.component.key}: {offer.reason}" for offer in offers(version) if offer.price is None]
    if version.minimum_minor:
        found.append("Minimum spend: Stripe has none; what is missing is an item.")
    return tuple(found)


def product_payload(version: VersionFacts) -> Payload:
    payload: Payload = {"name": version.plan_name, "metadata": {"farebox_plan": version.plan}}
    return payload | ({"description": version.description} if version.description else {})


def fee_payload(version: VersionFacts, *, product: str) -> Payload:
    """The fee, in advance for each interval; also a fee of nothing, so that every subscription has this item."""
    return {
        "product": product,
        "currency": version.currency.lower(),
        "nickname": f"{version.name}: {FEE}",
        "tax_behavior": "exclusive",
        "billing_scheme": "per_unit",
        "unit_amount": version.fee_minor,
        "recurring": {"interval": version.interval, "usage_type": "licensed"},
        "metadata": price_metadata(version, FEE),
    }


def usage_payload(version: VersionFacts, offer: Offer, *, product: str, meter: str) -> Payload:
    """The price of a component that Stripe can count. Usage is settled every month, also of yearly plans."""
    if offer.price is None:
        raise ValueError(f"{offer.component.key} is billed as an item: {offer.reason}")
    return {
        "product": product,
        "currency": version.currency.lower(),
        "nickname": f"{version.name}: {offer.component.price.text or offer.component.key}"[:NICKNAME_LENGTH],
        "tax_behavior": "exclusive",
        "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
        "metadata": price_metadata(version, offer.component.key),
        **offer.price,
    }


def price_metadata(version: VersionFacts, key: str) -> dict[str, str]:
    return {
        "farebox_plan": version.plan,
        "farebox_version": str(version.number),
        "farebox_component": key[:NICKNAME_LENGTH],
    }


def component_key(meter: str, match: Sequence[tuple[str, str]]) -> str:
    """`api_calls`, `storage;region=eu`: unique in a version."""
    return ";".join(filter(None, [meter, match_text(match)]))


def event_name(meter: str, match: Mapping[str, str], scale: int) -> str:
    """Of the Stripe meter that counts this part of a meter in this scale; at most 100 characters."""
    values = match_text(sorted(match.items()))
    digest = hashlib.sha256(values.encode()).hexdigest()[:12] if values else ""
    return EVENT_PREFIX + "_".join(filter(None, [meter, digest, f"e{scale}" if scale else ""]))


def meter_payload(name: str, *, event: str, unit: str, scale: int) -> Payload:
    """A meter that adds up what it is told: differences, so that it fits every aggregation of ours."""
    counted = unit if scale == 0 else f"10^-{scale} {unit}"
    return {
        "display_name": f"{name} ({counted})"[:250],
        "event_name": event,
        "default_aggregation": {"formula": "sum"},
        "customer_mapping": {"type": "by_id", "event_payload_key": CUSTOMER_KEY},
        "value_settings": {"event_payload_key": VALUE_KEY},
    }


def takes_the_rest(prices: Sequence[UsagePrice]) -> tuple[bool, ...]:
    """Of each price: whether another one takes a part of the usage that matches it (the order of `Terms.taker`)."""
    return tuple(
        any(_goes_before(other, number, price, own) for number, other in enumerate(prices) if number != own)
        for own, price in enumerate(prices)
    )


def _goes_before(other: UsagePrice, number: int, price: UsagePrice, own: int) -> bool:
    if other.meter != price.meter:
        return False
    values = dict(price.match)
    if any(values.get(name, value) != value for name, value in other.match):
        return False  # nothing matches both
    return (-len(other.match), number) < (-len(price.match), own)


class _NotExact(Exception):
    """The reason why Stripe cannot work out a component, in words."""


def _offer(version: VersionFacts, component: ComponentFacts) -> Offer:
    try:
        _check_countable(component)
        return Offer(component, _Amounts(version.currency, component.scale).price(component.price))
    except _NotExact as reason:
        return Offer(component, None, str(reason))


def _check_countable(component: ComponentFacts) -> None:
    price = component.price
    if component.takes_the_rest:
        raise _NotExact("It takes what more specific prices of its meter leave; a Stripe meter has no rest.")
    if component.is_fractional:
        raise _NotExact("A time-weighted sum ends in any fraction; Stripe counts whole numbers.")
    if component.decimals > component.scale:
        raise _NotExact(
            f"Its meter now counts {component.decimals} decimals, its Stripe meter {component.scale}."
        )
    if price.maximum_minor is not None:
        raise _NotExact("Stripe has no most that a line costs.")
    if price.included and price.model in (PriceModel.VOLUME, PriceModel.PACKAGE):
        raise _NotExact(f"Stripe has no {price.model} price with an included quantity.")


@dataclass(frozen=True, slots=True)
class _Amounts:
    """Prices and quantities in Stripe's units: minor units of the currency, 10^-scale of the meter's unit."""

    currency: str
    scale: int

    def price(self, price: UsagePrice) -> Payload:
        if price.model in (PriceModel.GRADUATED, PriceModel.VOLUME):
            return self._stepped(price)
        if price.model == PriceModel.PACKAGE:
            return self._package(price)
        return self._per_unit(price)

    def _per_unit(self, price: UsagePrice) -> Payload:
        each = price.unit_price or ZERO
        if not each or not price.included:
            return {"billing_scheme": "per_unit", "unit_amount_decimal": self._each(each)}
        free = {"up_to": self._whole(price.included, "The included quantity"), "unit_amount_decimal": "0"}
        return _tiered("graduated", [free, {"up_to": "inf", "unit_amount_decimal": self._each(each)}])

    def _package(self, price: UsagePrice) -> Payload:
        size = self._whole(price.package_size, "The package")
        minor = self._minor(price.unit_price or ZERO)
        return {
            "billing_scheme": "per_unit",
            "unit_amount_decimal": _text(minor),
            "transform_quantity": {"divide_by": size, "round": "up"},
        }

    def _stepped(self, price: UsagePrice) -> Payload:
        tiers = [{"up_to": self._whole(price.included, "The included quantity"), "unit_amount_decimal": "0"}]
        tiers = tiers if price.included else []
        if not price.included and price.steps and price.steps[0].flat_price:
            raise _NotExact("Stripe charges the first tier's flat price also without usage.")
        below = ZERO
        for step, is_last in _marked(price):
            end = None if is_last else step.up_to
            tier: Payload = {"up_to": "inf", "unit_amount_decimal": self._each(step.unit_price)}
            if end is not None:
                tier["up_to"] = self._whole(EXACT.add(price.included, end), "A tier's end")
                if price.model == PriceModel.GRADUATED:
                    part = EXACT.multiply(EXACT.subtract(end, below), step.unit_price)
                    self._check_whole(self._minor(part), "A full tier")
                below = end
            if step.flat_price:
                flat = self._minor(step.flat_price)
                self._check_whole(flat, "A flat price")
                tier["flat_amount_decimal"] = _text(flat)
            tiers.append(tier)
        return _tiered(str(price.model), tiers)

    def _each(self, unit_price: Decimal) -> str:
        """Of one Stripe unit."""
        return _text(self._minor(unit_price).scaleb(-self.scale, EXACT))

    def _minor(self, amount: Decimal) -> Decimal:
        return amount.scaleb(exponent(self.currency), EXACT)

    def _whole(self, quantity: Decimal, what: str) -> int:
        units = quantity.scaleb(self.scale, EXACT)
        if units != units.to_integral_value():
            raise _NotExact(f"{what} is no whole number of Stripe's units ({self.scale} decimals).")
        return int(units)

    def _check_whole(self, minor: Decimal, what: str) -> None:
        if minor != minor.to_integral_value():
            raise _NotExact(f"{what} costs a fraction of the smallest unit; Stripe may round it by itself.")


def _marked(price: UsagePrice) -> Iterator[tuple[Any, bool]]:
    last = len(price.steps) - 1
    for number, step in enumerate(price.steps):
        yield step, number == last


def _tiered(mode: str, tiers: list[Payload]) -> Payload:
    return {"billing_scheme": "tiered", "tiers_mode": mode, "tiers": tiers}


def _text(minor: Decimal) -> str:
    """Plain digits, no exponent. Raises _NotExact for more decimals than Stripe keeps."""
    if minor != minor.quantize(Decimal(1).scaleb(-DECIMALS), context=EXACT):
        raise _NotExact(f"The price of one of Stripe's units has more than {DECIMALS} decimals.")
    text = f"{minor:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"
