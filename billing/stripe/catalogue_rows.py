"""Our side of the catalogue: versions as facts, and which of them Stripe has to know. No request to Stripe is made here."""

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Q, prefetch_related_objects

from billing.models import StripeMeter, StripePrice, StripeSubscription
from billing.stripe.catalogue import (
    ComponentFacts,
    VersionFacts,
    component_key,
    obstacle,
    offers,
    takes_the_rest,
)
from plans.models import Aggregation, PlanVersion, PriceComponent, Subscription, VersionState
from plans.queries import usage_price


def wanted_versions(*, at: datetime) -> list[PlanVersion]:
    """What is on sale, and what somebody is still on or will be: their prices have to be usable at Stripe."""
    is_sold = Q(state=VersionState.PUBLISHED, plan__archived_at=None)
    is_used = Q(pk__in=_used(at)) & ~Q(state=VersionState.DRAFT)
    return loaded(PlanVersion.objects.filter(is_sold | is_used))


def unused_versions(*, at: datetime) -> list[PlanVersion]:
    """What has prices at Stripe, is no longer on sale, and nobody is on."""
    wanted = [version.pk for version in wanted_versions(at=at)]
    return loaded(PlanVersion.objects.exclude(pk__in=wanted).exclude(stripe_prices=None).distinct())


def incomplete_versions(*, at: datetime) -> list[PlanVersion]:
    """Wanted versions that could be sold through Stripe and lack a price there, as far as our rows say."""
    return [
        version
        for version in wanted_versions(at=at)
        if not obstacle(facts_of(version)) and not is_complete(version)
    ]


def loaded(versions: Iterable[PlanVersion]) -> list[PlanVersion]:
    """With everything that the functions below read, in the order of plans and numbers."""
    found = sorted(versions, key=lambda version: (version.plan_id, version.number))
    prefetch_related_objects(
        found,
        "plan__stripe_product",
        "stripe_prices",
        "components__meter__stripe_meters",
        "components__tiers",
    )
    return found


def has_customers_at_stripe(version: PlanVersion) -> bool:
    return StripeSubscription.objects.filter(version=version, ended_at=None).exists()


def is_complete(version: PlanVersion) -> bool:
    """Whether our rows have every price that Stripe can count."""
    there = {row.component_id for row in version.stripe_prices.all()}
    found = zip(components_of(version), offers(facts_of(version)), strict=True)
    needed = {None, *(component.pk for component, offer in found if offer.price is not None)}
    return needed <= there


def facts_of(version: PlanVersion) -> VersionFacts:
    """The pure side of a version. Three queries, or none after the loaders above."""
    components = components_of(version)
    prices = [usage_price(component) for component in components]
    rest = takes_the_rest(prices)
    return VersionFacts(
        plan=version.plan.slug,
        plan_name=version.plan.name,
        description=version.plan.description,
        number=version.number,
        currency=version.currency,
        interval=version.interval,
        fee_minor=version.fee_minor,
        minimum_minor=version.minimum_minor,
        components=tuple(
            ComponentFacts(
                component_key(price.meter, price.match),
                price,
                component.meter.decimals,
                scale_of(component),
                component.meter.aggregation == Aggregation.TIME_WEIGHTED,
                is_rest,
            )
            for component, price, is_rest in zip(components, prices, rest, strict=True)
        ),
    )


def components_of(version: PlanVersion) -> list[PriceComponent]:
    """In the order of the statement's lines."""
    prefetch_related_objects([version], "components__meter__stripe_meters", "components__tiers")
    return sorted(version.components.all(), key=lambda component: (component.position, component.pk))


def meter_row(component: PriceComponent) -> StripeMeter | None:
    rows = component.meter.stripe_meters.all()
    return next((row for row in rows if row.match == component.match), None)


def scale_of(component: PriceComponent) -> int:
    """Of the Stripe meter that there is, or that would be made."""
    row = meter_row(component)
    return component.meter.decimals if row is None else row.scale


def price_rows(versions: Iterable[PlanVersion]) -> dict[tuple[int, int | None], StripePrice]:
    """By version and component (None: the fee)."""
    rows = StripePrice.objects.filter(version__in=list(versions)).select_related("version__plan")
    return {(row.version_id, row.component_id): row for row in rows}


def _used(at: datetime) -> set[int]:
    """Versions that somebody is on, here or at Stripe, or goes to at the end of the period."""
    running = Subscription.objects.filter(Q(ended_at=None) | Q(ended_at__gt=at))
    here = running.values_list("version_id", "next_version_id").distinct()
    there = StripeSubscription.objects.filter(ended_at=None).values_list("version_id", flat=True).distinct()
    return {pk for pair in here for pk in pair if pk is not None} | set(there)
