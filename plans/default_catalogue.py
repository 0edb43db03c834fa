"""The catalogue a new installation starts with: one meter and four plans (DESIGN.md, section 5)."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import transaction

from plans.models import Meter, Plan, PlanVersion, PriceComponent, RateLimit
from plans.publishing import publish_version

CALLS_METER = "api_calls"


@dataclass(frozen=True, slots=True)
class PlanOffer:
    """A plan as the catalogue writes it; `fee` and `overage` in US dollars, quantities in calls a month."""

    slug: str
    name: str
    description: str
    fee: Decimal
    included: int
    overage: Decimal | None
    per_minute: int
    trial_days: int
    features: tuple[str, ...]
    texts: tuple[str, ...]


OFFERS = (
    PlanOffer(
        "free", "Free", "To try it, and for small things", Decimal(0), 1_000, None, 10, 0,
        ("basic_endpoints",), ("Basic endpoints", "Community support"),
    ),
    PlanOffer(
        "starter", "Starter", "For a product with its first customers", Decimal(49), 50_000, Decimal("0.001"), 100, 14,
        ("basic_endpoints", "all_endpoints", "webhooks"), ("All endpoints", "Email support", "Webhooks"),
    ),
    PlanOffer(
        "professional", "Professional", "For steady traffic that has to be answered", Decimal(199), 500_000,
        Decimal("0.0005"), 500, 14, ("basic_endpoints", "all_endpoints", "webhooks", "custom_models"),
        ("All endpoints", "Email support", "Webhooks", "Priority support", "SLA 99.9%", "Custom models"),
    ),
    PlanOffer(
        "enterprise", "Enterprise", "For companies that build on it", Decimal(999), 5_000_000, Decimal("0.0002"), 2_000,
        30, ("basic_endpoints", "all_endpoints", "webhooks", "custom_models", "custom_endpoints"),
        ("Everything in Pro", "Dedicated support", "SLA 99.99%", "On-premise option", "Custom endpoints"),
    ),
)  # fmt: skip


@transaction.atomic
def install_default_catalogue(*, at: datetime) -> list[PlanVersion]:
    """Create and publish what is missing of the default meter and plans; what exists is left as it is."""
    meter, _ = Meter.objects.get_or_create(
        slug=CALLS_METER, defaults={"name": "API calls", "unit": "call", "aggregation": "sum", "decimals": 0}
    )
    return [_install(offer, position, meter, at) for position, offer in enumerate(OFFERS)]


def _install(offer: PlanOffer, position: int, meter: Meter, at: datetime) -> PlanVersion:
    plan, is_new = Plan.objects.get_or_create(
        slug=offer.slug, defaults={"name": offer.name, "description": offer.description, "position": position}
    )
    if not is_new:
        return plan.versions.latest("number")
    version = PlanVersion.objects.create(
        plan=plan,
        number=1,
        fee_minor=int(offer.fee * 100),
        trial_days=offer.trial_days,
        features=list(offer.features),
        texts=list(offer.texts),
    )
    PriceComponent.objects.create(
        version=version, meter=meter, included=offer.included, unit_price=offer.overage
    )
    RateLimit.objects.create(version=version, window_seconds=60, calls=offer.per_minute)
    return publish_version(version=version, by=None, at=at)
