"""The local truth of what is sold, to whom, on which terms."""

from plans.models.catalogue import (
    ADDITIVE,
    CAPPABLE,
    Aggregation,
    Dialect,
    Measure,
    Meter,
    OnLeaving,
    Product,
    Route,
    TimeUnit,
    WebSocketBilling,
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
from plans.models.language import LanguageModel, LanguageUpstream, ModelPrice, RouteCharge
from plans.models.limits import OF_TOKENS, Counted, LimitScope, RateLimit
from plans.models.plan import (
    Interval,
    OverCap,
    Plan,
    PlanVersion,
    PriceComponent,
    PriceTier,
    PricingModel,
    VersionState,
)
from plans.models.subscription import (
    Period,
    StatePush,
    Subscription,
    SubscriptionStatus,
)
from plans.models.upstreams import ServerOfPool, UpstreamServer

__all__ = [
    "ADDITIVE",
    "CAPPABLE",
    "Aggregation",
    "CapSide",
    "CostPrices",
    "Dialect",
    "Interval",
    "LanguageModel",
    "LanguageUpstream",
    "LimitScope",
    "Measure",
    "Meter",
    "ModelPrice",
    "OF_TOKENS",
    "OnLeaving",
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
    "Counted",
    "RateLimit",
    "Restriction",
    "RestrictionKind",
    "Route",
    "RouteCharge",
    "RouteCost",
    "ServerOfPool",
    "SpendCap",
    "StatePush",
    "Subscription",
    "SubscriptionEvent",
    "SubscriptionEventKind",
    "SubscriptionStatus",
    "TimeUnit",
    "UpstreamServer",
    "VersionState",
    "WebSocketBilling",
]
