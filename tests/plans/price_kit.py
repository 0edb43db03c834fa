"""Published plan versions with any prices, and organizations that are on them without a trial."""

from itertools import count
from typing import Any

from accounts.models import Organization
from core.clock import now
from plans.models import (
    Meter,
    Period,
    Plan,
    PlanVersion,
    PriceComponent,
    RateLimit,
    Subscription,
    SubscriptionStatus,
)
from plans.publishing import publish_version
from plans.versions import raise_version

_number = count(1)


def meter(slug: str, **fields: Any) -> Meter:
    """A meter, made when it is missing."""
    return Meter.objects.get_or_create(
        slug=slug, defaults={"name": slug.capitalize(), "unit": "unit"} | fields
    )[0]


def component(meter: Meter, *, tiers: tuple[tuple[Any, Any, Any], ...] = (), **fields: Any) -> dict[str, Any]:
    """One price of a version; `tiers` are (up to, unit price, flat price)."""
    return {"meter": meter, "tiers": tiers} | fields


def version_of(
    *components: dict[str, Any],
    windows: tuple[tuple[int, int], ...] = ((60, 1_000_000),),
    token_windows: tuple[tuple[int, int], ...] = (),
    limits: tuple[dict[str, Any], ...] = (),
    **fields: Any,
) -> PlanVersion:
    """A published version of a plan of its own."""
    number = next(_number)
    plan = Plan.objects.create(slug=f"priced-{number}", name=f"Priced {number}", is_public=False)
    version = PlanVersion.objects.create(plan=plan, number=1, **({"fee_minor": 1000} | fields))
    for given in components:
        values = dict(given)
        tiers = values.pop("tiers")
        made = PriceComponent.objects.create(version=version, **values)
        for up_to, unit_price, flat_price in tiers:
            made.tiers.create(up_to=up_to, unit_price=unit_price, flat_price=flat_price)
    for seconds, calls in windows:
        RateLimit.objects.create(version=version, window_seconds=seconds, calls=calls)
    for seconds, tokens in token_windows:
        RateLimit.objects.create(version=version, window_seconds=seconds, calls=tokens, measure="tokens")
    for limit in limits:
        RateLimit.objects.create(version=version, **limit)
    return publish_version(version=version, by=None, at=now())


def put_on(organization: Organization, version: PlanVersion) -> None:
    """All its periods on this version, paid, as if it had always been so."""
    Subscription.objects.for_organization(organization).update(
        version=version, status=SubscriptionStatus.ACTIVE, trial_ends_at=None
    )
    Period.objects.for_organization(organization).update(version=version, is_trial=False)
    raise_version(organization)
