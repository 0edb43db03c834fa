"""What narrows or widens one organization's terms: spend caps, restrictions made by alerts, overrides by staff."""

from typing import ClassVar

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from accounts.models import Organization, User
from core.ids import public_id
from core.tenancy import TenantQuerySet
from plans.models.catalogue import FEATURE, Meter, Route
from plans.models.language import LanguageModel
from plans.models.limits import PLACES, Counted, LimitScope
from plans.models.subscription import Period


class CapSide(models.TextChoices):
    OWNER = "owner", "Set by the provider"
    CUSTOMER = "customer", "Set by the customer"


class SpendCap(models.Model):
    """ "Never more than this for usage in a period". Rows are added, never edited: the newest of each side holds, and the
    lower of the two sides. `amount_minor` empty takes the side's cap away.

    `spent_minor`: usage charges of the period at that moment; a cap set below them binds from there on.
    """

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="spend_caps")
    side = models.CharField(max_length=8, choices=CapSide.choices)
    amount_minor = models.BigIntegerField(null=True, blank=True, validators=[MinValueValidator(0)])
    currency = models.CharField(max_length=3)
    spent_minor = models.BigIntegerField(default=0)
    by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    at = models.DateTimeField()

    objects: ClassVar[TenantQuerySet["SpendCap"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [models.Index(fields=["organization", "side", "-at"], name="spend_cap_newest")]
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_minor=None) | Q(amount_minor__gte=0), name="spend_cap_amount"
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_side_display()}: {self.amount_minor} {self.currency}"


class RestrictionKind(models.TextChoices):
    THROTTLE = "throttle", "Throttled"
    BLOCK = "block", "Blocked"


class Restriction(models.Model):
    """A hard action of an alert: fewer calls a minute, or none, for the rest of a period or until it is lifted."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="restrictions")
    period = models.ForeignKey(Period, models.PROTECT, related_name="restrictions")
    kind = models.CharField(max_length=8, choices=RestrictionKind.choices)
    calls_per_minute = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    cause = models.CharField(max_length=120, help_text="The alert that asked for it, in words.")
    at = models.DateTimeField()
    lifted_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[TenantQuerySet["Restriction"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["-at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="block") | Q(calls_per_minute__gte=1), name="restriction_throttle_has_rate"
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.cause}"


class OverrideKind(models.TextChoices):
    RATE_LIMIT = "rate_limit", "Rate limit"
    CONCURRENCY = "concurrency", "Calls at the same time"
    QUOTA = "quota", "Quota"
    DAY_TOKENS = "day_tokens", "Tokens per UTC day"
    FEATURE_ON = "feature_on", "Feature added"
    FEATURE_OFF = "feature_off", "Feature taken away"


def override_public_id() -> str:
    return public_id("ovr")


class Override(models.Model):
    """One customer's entitlement that differs from the plan's, from `starts_at` until `ends_at`. Prices are overridden by a
    private plan instead, because a price belongs to a version that periods remember."""

    public_id = models.CharField(max_length=40, unique=True, default=override_public_id, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="overrides")
    kind = models.CharField(max_length=11, choices=OverrideKind.choices)
    scope = models.CharField(
        "for",
        max_length=12,
        choices=LimitScope.choices,
        default=LimitScope.ORGANIZATION,
        db_default=LimitScope.ORGANIZATION,
        help_text="Rate limits and calls at the same time: whose calls count together.",
    )
    route = models.ForeignKey(Route, models.PROTECT, null=True, blank=True, related_name="+")
    model = models.ForeignKey(LanguageModel, models.PROTECT, null=True, blank=True, related_name="+")
    measure = models.CharField(
        "of",
        max_length=13,
        choices=[choice for choice in Counted.choices if choice[0] != Counted.CONCURRENCY],
        default=Counted.CALLS,
        db_default=Counted.CALLS,
        help_text="Rate limits: what is counted.",
    )
    window_seconds = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    meter = models.ForeignKey(
        Meter, models.PROTECT, null=True, blank=True, related_name="+", help_text="Of a quota, and of units."
    )
    amount = models.DecimalField(
        max_digits=24,
        decimal_places=9,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="Calls, tokens or units for a rate limit, calls for concurrency, units for a quota, tokens for a day.",
    )
    feature = models.CharField(max_length=60, blank=True, validators=[FEATURE])
    reason = models.CharField(max_length=200)
    by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[TenantQuerySet["Override"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["-starts_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=(Q(kind="rate_limit", window_seconds__gte=1, amount__gt=0))
                | Q(kind__in=("concurrency", "day_tokens"), amount__gte=1)
                | Q(kind="quota", meter__isnull=False, amount__gte=0)
                | (Q(kind__in=("feature_on", "feature_off")) & ~Q(feature="")),
                name="override_is_whole",
            ),
            models.CheckConstraint(condition=PLACES, name="override_scope"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.organization}"
