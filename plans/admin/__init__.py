"""Staff lists of the catalogue and of subscriptions. Buttons call acts; published versions cannot be edited."""

from plans.admin.customers import (
    OverrideAdmin,
    RestrictionAdmin,
    SpendCapAdmin,
    SubscriptionAdmin,
    SubscriptionEventAdmin,
)
from plans.admin.language import LanguageModelAdmin
from plans.admin.plans import PlanAdmin, PlanVersionAdmin
from plans.admin.products import CostPricesAdmin, MeterAdmin, ProductAdmin, RouteAdmin, RouteCostAdmin

__all__ = [
    "CostPricesAdmin",
    "LanguageModelAdmin",
    "MeterAdmin",
    "OverrideAdmin",
    "PlanAdmin",
    "PlanVersionAdmin",
    "ProductAdmin",
    "RestrictionAdmin",
    "RouteAdmin",
    "RouteCostAdmin",
    "SpendCapAdmin",
    "SubscriptionAdmin",
    "SubscriptionEventAdmin",
]
