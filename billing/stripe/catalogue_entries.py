"""The prices that a version has at Stripe: its fee, and each component that Stripe can count."""

from collections.abc import Iterator
from dataclasses import dataclass

from billing.stripe.catalogue import (
    FEE,
    Offer,
    Payload,
    VersionFacts,
    event_name,
    fee_payload,
    offers,
    usage_payload,
)
from billing.stripe.catalogue_rows import components_of, meter_row, scale_of
from plans.models import PlanVersion, PriceComponent


@dataclass(frozen=True, slots=True)
class Entry:
    """One price. `component` and `offer` are None for the fee."""

    facts: VersionFacts
    component: PriceComponent | None
    offer: Offer | None

    @property
    def key(self) -> str:
        return FEE if self.offer is None else self.offer.component.key

    @property
    def name(self) -> str:
        return f"{self.facts.name}: {self.key}"

    @property
    def subject(self) -> str:
        """Of a finding while the price has no id."""
        return f"price {self.name}"

    @property
    def component_id(self) -> int | None:
        return None if self.component is None else self.component.pk

    def payload(self, *, product: str, meter: str | None) -> Payload:
        if self.offer is None:
            return fee_payload(self.facts, product=product)
        return usage_payload(self.facts, self.offer, product=product, meter=meter or "")


def entries_of(version: PlanVersion, facts: VersionFacts) -> Iterator[Entry]:
    yield Entry(facts, None, None)
    for component, offer in zip(components_of(version), offers(facts), strict=True):
        if offer.price is not None:
            yield Entry(facts, component, offer)


def product_subject(plan: str) -> str:
    """Of a finding about a product that has no id yet."""
    return f"product {plan}"


def meter_subject(component: PriceComponent) -> str:
    """Stripe's id of the meter that counts this component, or its event name while it has none."""
    row = meter_row(component)
    return row.stripe_id if row else f"meter {meter_event(component)}"


def meter_event(component: PriceComponent) -> str:
    """The event name of the Stripe meter that counts this component, or would."""
    row = meter_row(component)
    return row.event_name if row else event_name(component.meter.slug, component.match, scale_of(component))
