"""The local truth of what is sold, to whom, on which terms."""

from plans.models.catalogue import Aggregation, Meter, Product, Route
from plans.models.plan import (
    Interval,
    Plan,
    PlanVersion,
    PriceComponent,
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
    "Aggregation",
    "Interval",
    "Meter",
    "Period",
    "Plan",
    "PlanVersion",
    "PriceComponent",
    "Product",
    "RateLimit",
    "Route",
    "StatePush",
    "Subscription",
    "SubscriptionStatus",
    "VersionState",
]
