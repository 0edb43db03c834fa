"""The line of advice above the usage page. Reading it weighs months of usage, so it is kept for the hour."""

from dataclasses import astuple, dataclass
from datetime import datetime

from django.core.cache import cache

from accounts.models import Organization
from billing.adviser import find_advice
from plans.models import Period

HOUR = 3_600


@dataclass(frozen=True, slots=True)
class AdviceLine:
    """What `plan_name` would have saved over the last closed months; minor units."""

    plan_name: str
    months: int
    saved_minor: int
    currency: str


def advice_line(organization: Organization, *, period: Period, at: datetime) -> AdviceLine | None:
    """The advice of this hour to who is in this period, with its subscription. Acts on the plan raise the organization's
    version: then it is weighed anew at once. In the first month of a stay there is none. Without a cache it is weighed
    each time."""
    if period.starts_at <= period.subscription.started_at:
        return None
    key = f"advice:{organization.pk}:{organization.version}:{period.pk}:{at:%Y%m%d%H}"
    kept = cache.get(key)
    if kept is None:
        kept = _weigh(organization, at)
        cache.set(key, kept, HOUR)
    return AdviceLine(*kept) if kept else None


def _weigh(organization: Organization, at: datetime) -> tuple[object, ...]:
    """Empty where there is nothing to say, which is kept as well."""
    found = find_advice(organization, at=at)
    if found is None:
        return ()
    return astuple(
        AdviceLine(found.version.plan.name, found.months, found.saved_minor, found.version.currency)
    )
