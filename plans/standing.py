"""What an organization may do now: its plan's entitlements with what was agreed (overrides), asked for (caps) and imposed
(restrictions) on top. The doors read it through keys/records.py; every change of it raises the organization's version.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property

from django.conf import settings
from django.db.models import Prefetch, prefetch_related_objects

from accounts.models import Organization, OrganizationStatus
from plans.cap_table import SpendLimit
from plans.caps import lower_cap, newest_caps
from plans.door import FOREVER_US, PERIODS_AHEAD, DoorFacts, PeriodFacts, QuotaTerms, Span, door_table
from plans.limits import LimitRule, agreed_rules, plan_rules
from plans.models import (
    OF_TOKENS,
    CapSide,
    LimitScope,
    Meter,
    Override,
    OverrideKind,
    Period,
    PlanVersion,
    PriceComponent,
    PricingModel,
    Restriction,
    RestrictionKind,
    SpendCap,
    Subscription,
    SubscriptionStatus,
)
from plans.overrides import active_overrides
from plans.price_tables import price_tables
from plans.queries import LIMIT_ROWS, find_subscription, newest_version, token_meters

# After a subscription has ended there are no periods ahead: the door says why.
CLOSED_FOR_EVER = (Span(0, FOREVER_US, 0, "subscription_cancelled"),)
ANY_NUMBER = -1  # of calls at the same time
THROTTLE_SECONDS = 60
Windows = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class DayTokens:
    """At most `limit` tokens in a UTC day, over all these meters: (id, decimals of its smallest unit)."""

    limit: int
    meters: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Standing:
    """An organization's subscription with its present and next periods, and what differs from its plan; read together."""

    organization: Organization
    subscription: Subscription | None
    periods: tuple[Period, ...]
    overrides: tuple[Override, ...] = ()
    restrictions: tuple[Restriction, ...] = ()
    caps: tuple[SpendCap, ...] = ()
    token_meters: tuple[Meter, ...] = ()  # read only where tokens of a day are limited

    @property
    def version(self) -> PlanVersion | None:
        return self.periods[0].version if self.periods else None

    @cached_property
    def needs_payment(self) -> bool:
        """A trial without a way to pay, on a plan that costs something."""
        if self.subscription is None or self.subscription.status != SubscriptionStatus.TRIALING:
            return False
        after = self.subscription.next_version or self.subscription.version
        return not after.is_free

    @property
    def throttles(self) -> list[int]:
        """Calls a minute that alerts left for the present period."""
        return [
            r.calls_per_minute
            for r in self.restrictions
            if r.kind == RestrictionKind.THROTTLE
            and r.calls_per_minute
            and self.periods
            and r.period_id == self.periods[0].pk
        ]

    def newest_override(self, kind: OverrideKind) -> Override | None:
        """The override of this kind that began last."""
        return next((o for o in self.overrides if o.kind == kind), None)


@dataclass(frozen=True, slots=True)
class ModeTerms:
    """What one mode (live or test) of an organization may do."""

    plan_slug: str
    plan_name: str
    features: frozenset[str]
    windows: Windows
    spans: tuple[Span, ...]
    concurrency: int = ANY_NUMBER
    day_tokens: DayTokens | None = None
    token_windows: Windows = ()
    limits: tuple[LimitRule, ...] = ()  # all others: of keys, routes, models, units
    token_meters: tuple[tuple[int, int], ...] = ()  # (id, decimals), where tokens are limited


def find_standing(organization: Organization, *, at: datetime) -> Standing:
    """Subscription, this period and the next two, with their versions' prices and limits; overrides, restrictions, caps."""
    subscription = find_subscription(organization, at=at)
    if subscription is None:
        return Standing(organization, None, ())
    periods = (
        Period.objects.for_organization(organization)
        .filter(subscription=subscription, ends_at__gt=at)
        .select_related("version__plan")
        .prefetch_related("version__components__meter", Prefetch("version__rate_limits", LIMIT_ROWS.all()))
        .order_by("starts_at")[: PERIODS_AHEAD + 1]
    )
    caps = newest_caps(organization, at=at)
    if any(
        cap.amount_minor is not None for cap in caps.values()
    ):  # prices matter to the door under a cap only
        prefetch_related_objects([period.version for period in periods], "components__tiers")
    restrictions = Restriction.objects.for_organization(organization).filter(
        lifted_at=None, period__ends_at__gt=at
    )
    overrides = tuple(active_overrides(organization, at=at))
    limits_tokens = any(override.kind == OverrideKind.DAY_TOKENS for override in overrides)
    return Standing(
        organization,
        subscription,
        tuple(periods),
        overrides,
        tuple(restrictions),
        tuple(caps.values()),
        tuple(token_meters()) if limits_tokens else (),
    )


def mode_terms(standing: Standing, *, mode: str, test_plan: str) -> ModeTerms:
    """The plan's terms for live keys; for test keys the plan's features at the test plan's limits."""
    version = standing.version or (standing.subscription.version if standing.subscription else None)
    limits = newest_version(test_plan) if mode == "test" or version is None else version
    named = version or limits
    prefetch_related_objects([limits], Prefetch("rate_limits", LIMIT_ROWS.all()))
    rules = plan_rules(limits)
    concurrency = limits.concurrency if limits.concurrency is not None else ANY_NUMBER
    if mode == "live":
        rules, concurrency = _live_rules(standing, rules), _live_concurrency(standing, concurrency)
    return ModeTerms(
        plan_slug=named.plan.slug,
        plan_name=named.plan.name,
        features=_features(named, standing.overrides),
        windows=tuple(sorted((rule.seconds, rule.limit) for rule in rules if rule.is_plain)),
        spans=door_table(_door_facts(standing, limits), _period_facts(standing), mode=mode)
        or _closed(standing),
        concurrency=concurrency,
        day_tokens=_day_tokens(standing) if mode == "live" else None,
        token_windows=tuple(sorted((rule.seconds, rule.limit) for rule in rules if rule.is_of_all_tokens)),
        limits=tuple(rule for rule in rules if not rule.is_plain and not rule.is_of_all_tokens),
        token_meters=_token_meters(standing, rules),
    )


def _day_tokens(standing: Standing) -> DayTokens | None:
    override = standing.newest_override(OverrideKind.DAY_TOKENS)
    if override is None or override.amount is None:
        return None
    return DayTokens(int(override.amount), tuple((m.pk, m.decimals) for m in standing.token_meters))


def _token_meters(standing: Standing, rules: tuple[LimitRule, ...]) -> tuple[tuple[int, int], ...]:
    """Those whose units a limit of tokens counts; read where there is one."""
    found = standing.token_meters
    if not found and any(rule.measure in OF_TOKENS for rule in rules):
        found = tuple(token_meters())
    return tuple((meter.pk, meter.decimals) for meter in found)


def _live_rules(standing: Standing, rules: tuple[LimitRule, ...]) -> tuple[LimitRule, ...]:
    """Overrides take a rule's place; a throttle can only narrow what is left."""
    rules = agreed_rules(rules, standing.overrides)
    if not standing.throttles:
        return rules
    narrow = LimitRule(seconds=THROTTLE_SECONDS)
    present = [rule.limit for rule in rules if rule.subject == narrow]
    narrow = replace(narrow, limit=min([*standing.throttles, *present]))
    return (*(rule for rule in rules if rule.subject != narrow.subject), narrow)


def _live_concurrency(standing: Standing, concurrency: int) -> int:
    whole = [o for o in standing.overrides if o.scope == LimitScope.ORGANIZATION]
    override = next((o for o in whole if o.kind == OverrideKind.CONCURRENCY), None)
    return int(override.amount) if override is not None and override.amount else concurrency


def _features(version: PlanVersion, overrides: Iterable[Override]) -> frozenset[str]:
    """Newest first: what an override of a feature says last holds."""
    features, decided = set(version.features), set[str]()
    for override in overrides:
        if override.feature and override.feature not in decided:
            decided.add(override.feature)
            (features.add if override.kind == OverrideKind.FEATURE_ON else features.discard)(override.feature)
    return frozenset(features)


def _closed(standing: Standing) -> tuple[Span, ...]:
    """An ended subscription closes the door for ever; periods that were not laid yet are no reason to."""
    has_ended = standing.subscription is None or standing.subscription.ended_at is not None
    return CLOSED_FOR_EVER if has_ended else ()


def _door_facts(standing: Standing, test_version: PlanVersion) -> DoorFacts:
    subscription = standing.subscription
    if subscription is None:
        return DoorFacts(False, "", None, None, None, True, None, ())
    return DoorFacts(
        suspended=standing.organization.status == OrganizationStatus.SUSPENDED,
        status=subscription.status,
        ended_at=subscription.ended_at,
        cancels_at=subscription.cancels_at,
        trial_ends_at=subscription.trial_ends_at,
        pays_after_trial=not standing.needs_payment,
        refused_from=grace_end(subscription),
        test_quotas=_quotas(test_version),
    )


def grace_end(subscription: Subscription) -> datetime | None:
    """When the door closes over an overdue payment; None while nothing is overdue."""
    if subscription.status != SubscriptionStatus.PAST_DUE or subscription.past_due_since is None:
        return None
    return subscription.past_due_since + timedelta(days=settings.PAST_DUE_GRACE_DAYS)


def _period_facts(standing: Standing) -> list[PeriodFacts]:
    blocked = {r.period_id for r in standing.restrictions if r.kind == RestrictionKind.BLOCK}
    return [
        PeriodFacts(
            p.pk, p.starts_at, p.ends_at, p.is_trial, _live_quotas(standing, p.version), _spend(standing, p), p.pk in blocked
        )
        for p in standing.periods
    ]  # fmt: skip


def _quotas(version: PlanVersion) -> tuple[QuotaTerms, ...]:
    """Of meters that the doors can count: others have alerts instead (ENGINE.md, section 4)."""
    return tuple(
        QuotaTerms(c.meter_id, c.meter.decimals, free_quantity(c), c.hard_quota)
        for c in version.components.all()
        if c.meter.is_additive
    )


def free_quantity(component: PriceComponent) -> Decimal:
    """What costs nothing: the included quantity, and first tiers at no price."""
    free = component.included
    if component.model in (PricingModel.GRADUATED, PricingModel.VOLUME):
        for tier in component.tiers.all():
            if tier.unit_price or tier.flat_price or tier.up_to is None:
                break
            free = component.included + tier.up_to
    return free


def _live_quotas(standing: Standing, version: PlanVersion) -> tuple[QuotaTerms, ...]:
    """The plan's quotas; an override takes the place of all that the plan says about its meter."""
    agreed: dict[int, QuotaTerms] = {}
    for o in standing.overrides:
        if o.kind == OverrideKind.QUOTA and o.meter is not None and o.meter.is_additive:
            amount = o.amount if o.amount is not None else Decimal(0)
            agreed.setdefault(o.meter.pk, QuotaTerms(o.meter.pk, o.meter.decimals, amount, amount))
    return (*(q for q in _quotas(version) if q.meter_id not in agreed), *agreed.values())


def _spend(standing: Standing, period: Period) -> SpendLimit | None:
    """The cap of a period with its version's prices; none in a trial, where nothing is charged."""
    cap = lower_cap({CapSide(c.side): c for c in standing.caps}, period.version.currency)
    if cap is None or period.is_trial:
        return None
    return SpendLimit(cap.amount_minor, price_tables(period.version))
