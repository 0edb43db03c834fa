"""What one customer was granted apart from its plan: limits, quotas and features, from a moment on. Staff decide.

Prices are never overridden here: a price belongs to a version that periods remember, so a customer's own prices are a
private plan (`clone_for_customer` in plans/publishing.py).
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet

from accounts.models import AuditEvent, Organization, User
from accounts.permissions import check_can_sell
from core.errors import PortalError
from plans.limit_checks import row_faults
from plans.limit_words import limit_words
from plans.limits import as_limit, is_limit
from plans.models import Counted, LanguageModel, LimitScope, Meter, Override, OverrideKind, Route
from plans.versions import raise_version

MOST_AGREED = 60  # limits of one customer (plans/limit_checks.py)
LIMITS = (OverrideKind.RATE_LIMIT, OverrideKind.CONCURRENCY)
_COUNTED = (OverrideKind.RATE_LIMIT, OverrideKind.CONCURRENCY, OverrideKind.QUOTA, OverrideKind.DAY_TOKENS)


class OverrideIncomplete(PortalError):
    code, status, title = "override_incomplete", 400, "This override does not say what it changes"


class OverrideOver(PortalError):
    code, status, title = "nothing_to_change", 409, "This override has ended already"


@dataclass(frozen=True, slots=True)
class Grant:
    """What an override says: a rate limit (whose, of what, window, amount), concurrency (whose, amount), quota (meter,
    amount), tokens of a day over all meters that count tokens (amount), or a feature."""

    kind: OverrideKind
    amount: Decimal | None = None
    window_seconds: int | None = None
    meter: Meter | None = None
    feature: str = ""
    scope: str = LimitScope.ORGANIZATION
    measure: str = Counted.CALLS
    route: Route | None = None
    model: LanguageModel | None = None


def active_overrides(organization: Organization, *, at: datetime) -> QuerySet[Override]:
    """Overrides that hold at this moment, the newest first: of two about the same thing the newer one holds."""
    return (
        Override.objects.for_organization(organization)
        .filter(Q(ends_at=None) | Q(ends_at__gt=at), starts_at__lte=at)
        .select_related("meter", "model", "route__product")
    )


def agreed_limits(organization: Organization, *, at: datetime) -> list[str]:
    """What this customer has in the place of its plan's limits, in words. One query."""
    found: list[str] = []
    for override in active_overrides(organization, at=at):
        if override.kind == OverrideKind.DAY_TOKENS:
            found.append(f"{override.amount or 0:,.0f} tokens a day (UTC)")
        elif override.kind in (OverrideKind.RATE_LIMIT, OverrideKind.CONCURRENCY):
            found.append(limit_words(as_limit(override)))
    return found


@transaction.atomic
def set_override(
    *,
    organization: Organization,
    grant: Grant,
    reason: str,
    by: User | None,
    at: datetime,
    ends_at: datetime | None = None,
) -> Override:
    """Grant something from now on, until `ends_at`. What was granted before about the same thing ends now.

    Raises OverrideIncomplete, or Forbidden unless staff asks.
    """
    check_can_sell(by)
    override = Override(
        organization=organization,
        kind=grant.kind,
        amount=grant.amount,
        window_seconds=grant.window_seconds,
        meter=grant.meter,
        feature=grant.feature,
        scope=grant.scope,
        measure=grant.measure,
        route=grant.route,
        model=grant.model,
        reason=reason,
        by=by,
        starts_at=at,
        ends_at=ends_at,
    )
    check_override(override)
    _same_thing(override, at).update(ends_at=at)
    override.save()
    raise_version(organization)
    _audit(override, "override.set", by, at)
    return override


@transaction.atomic
def end_override(*, override: Override, by: User | None, at: datetime) -> Override:
    """The plan's own terms hold again from now on. Raises OverrideOver, or Forbidden unless staff asks."""
    check_can_sell(by)
    override = Override.objects.select_for_update().select_related("organization").get(pk=override.pk)
    if override.ends_at is not None and override.ends_at <= at:
        raise OverrideOver
    override.ends_at = at
    override.save(update_fields=["ends_at"])
    raise_version(override.organization)
    _audit(override, "override.ended", by, at)
    return override


def check_override(override: Override) -> None:
    """Each kind says what it needs and nothing else; whole numbers where calls are counted. Raises OverrideIncomplete."""
    kind = OverrideKind(override.kind)
    needs = {
        "amount": kind in _COUNTED,
        "window_seconds": kind == OverrideKind.RATE_LIMIT,
        "meter": kind == OverrideKind.QUOTA
        or (kind == OverrideKind.RATE_LIMIT and override.measure == Counted.UNITS),
        "feature": kind not in _COUNTED,
        "route": _is_limit_of(override, LimitScope.ROUTE),
        "model": _is_limit_of(override, LimitScope.MODEL),
    }
    for name, needed in needs.items():
        if (getattr(override, name) not in (None, "")) != needed:
            raise OverrideIncomplete(
                f"{kind.label}: {name} {'is missing' if needed else 'has no meaning'}.", field=name
            )
    if override.kind not in (OverrideKind.RATE_LIMIT, OverrideKind.CONCURRENCY) and (
        override.scope != LimitScope.ORGANIZATION or override.measure != Counted.CALLS
    ):
        raise OverrideIncomplete("Only rate limits and calls at the same time have these.", field="scope")
    _check_amount(override, kind)
    _check_room(override)
    if override.ends_at is not None and override.ends_at <= override.starts_at:
        raise OverrideIncomplete("It would end before it begins.", field="ends_at")
    try:
        override.clean_fields(exclude=["organization", "by", "meter", "route", "model"])
    except ValidationError as error:
        raise OverrideIncomplete(" ".join(error.messages)) from error


def _is_limit_of(override: Override, scope: LimitScope) -> bool:
    return override.scope == scope and override.kind in (OverrideKind.RATE_LIMIT, OverrideKind.CONCURRENCY)


def _check_amount(override: Override, kind: OverrideKind) -> None:
    amount, meter = override.amount, override.meter
    if amount is None:
        return
    if meter is not None and not meter.is_additive:
        raise OverrideIncomplete(f"{meter} cannot have a quota: the door cannot bound it.", field="meter")
    scaled = amount.scaleb(meter.decimals) if meter is not None else amount
    if scaled != scaled.to_integral_value():
        raise OverrideIncomplete(f"{amount} has more decimals than can be counted.", field="amount")
    if kind != OverrideKind.QUOTA and scaled < 1:
        raise OverrideIncomplete("At least one.", field="amount")
    if is_limit(override) and (fault := next(row_faults(as_limit(override)), "")):
        raise OverrideIncomplete(fault, field="amount")


def _check_room(override: Override) -> None:
    """A call is held against all limits at once, and those of a plan are bounded as well."""
    held = active_overrides(override.organization, at=override.starts_at).filter(kind__in=LIMITS)
    same = _same_thing(override, override.starts_at).values("pk")
    if override.kind in LIMITS and held.exclude(pk__in=same).count() >= MOST_AGREED:
        raise OverrideIncomplete(f"A customer has at most {MOST_AGREED} limits of its own.", field="kind")


def _same_thing(override: Override, at: datetime) -> QuerySet[Override]:
    same = active_overrides(override.organization, at=at)
    if override.feature:
        return same.filter(feature=override.feature)
    return same.filter(
        kind=override.kind, window_seconds=override.window_seconds, meter=override.meter, scope=override.scope,
        measure=override.measure, route=override.route, model=override.model,
    )  # fmt: skip


def _audit(override: Override, action: str, by: User | None, at: datetime) -> None:
    AuditEvent.objects.create(
        organization=override.organization,
        by=by,
        action=action,
        target=override.public_id,
        at=at,
        details={"kind": override.kind, "reason": override.reason},
    )
