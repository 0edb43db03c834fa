"""The local truth of what is sold, to whom, on which terms."""

from plans.models.catalogue import (
    ADDITIVE,
    CAPPABLE,
    Aggregation,
    Meter,
    Product,
    Route,
    TimeUnit,
)
from plans.models.controls import (
    CapSide,
    Override,
    OverrideKind,
    Restriction,
    RestrictionKind,
    SpendCap,
)
from plans.models.costs import CostPrices, RouteCost
from plans.models.history import SubscriptionEvent, SubscriptionEventKind
from plans.models.plan import (
    Interval,
    OverCap,
    Plan,
    PlanVersion,
    PriceComponent,
    PriceTier,
    PricingModel,
    RateLimit,
    VersionState,
)
from plans.models.subscription import (
    Period,
    StatePush,
    Subscription,
    SubscriptionStatus,
)

__all__ = [
    "ADDITIVE",
    "CAPPABLE",
    "Aggregation",
    "CapSide",
    "CostPrices",
    "Interval",
    "Meter",
    "OverCap",
    "Override",
    "OverrideKind",
    "Period",
    "Plan",
    "PlanVersion",
    "PriceComponent",
    "PriceTier",
    "PricingModel",
    "Product",
    "RateLimit",
    "Restriction",
    "RestrictionKind",
    "Route",
    "RouteCost",
    "SpendCap",
    "StatePush",
    "Subscription",
    "SubscriptionEvent",
    "SubscriptionEventKind",
    "SubscriptionStatus",
    "TimeUnit",
    "VersionState",
]
