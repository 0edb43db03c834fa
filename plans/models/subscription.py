"""Who is on which plan, and the billing periods that tile the time since."""

from typing import ClassVar

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import (
    DateTimeRangeField,
    RangeBoundary,
    RangeOperators,
)
from django.db import models
from django.db.models import F, Func, Q

from accounts.models import Organization
from core.ids import public_id
from core.tenancy import TenantQuerySet
from plans.models.plan import PlanVersion


class SubscriptionStatus(models.TextChoices):
    TRIALING = "trialing", "Trial"
    ACTIVE = "active", "Active"
    PAST_DUE = "past_due", "Past due"
    PAUSED = "paused", "Paused"
    SUSPENDED = "suspended", "Suspended"
    CANCELLED = "cancelled", "Cancelled"


class TimeRange(Func):
    """`[start, end)` as PostgreSQL's tstzrange; a NULL end is open."""

    function = "TSTZRANGE"
    output_field = DateTimeRangeField()


def subscription_public_id() -> str:
    return public_id("sub")


class Subscription(models.Model):
    """An organization's stay with Farebox; at most one at any time. The plan version of now stands in its open period."""

    public_id = models.CharField(max_length=40, unique=True, default=subscription_public_id, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="subscriptions")
    version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="subscriptions")
    next_version = models.ForeignKey(
        PlanVersion,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Takes effect at the period's end.",
    )
    status = models.CharField(max_length=10, choices=SubscriptionStatus.choices)
    started_at = models.DateTimeField()
    trial_ends_at = models.DateTimeField(null=True, blank=True)
    past_due_since = models.DateTimeField(null=True, blank=True)
    cancels_at = models.DateTimeField(
        null=True, blank=True, help_text="Cancelled for this moment; can be undone until then."
    )
    ended_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[TenantQuerySet["Subscription"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            ExclusionConstraint(
                name="subscription_one_at_a_time",
                expressions=[
                    ("organization", RangeOperators.EQUAL),
                    (
                        TimeRange("started_at", "ended_at", RangeBoundary()),
                        RangeOperators.OVERLAPS,
                    ),
                ],
            ),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gte=F("started_at")),
                name="subscription_ends_after_start",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.organization} on {self.version}"


class Period(models.Model):
    """A billing period `[starts_at, ends_at)`: one plan version, one set of counters, one statement.

    Its months run from `anchor` (the start of the subscription or of the last immediate plan change).
    """

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="periods")
    subscription = models.ForeignKey(Subscription, models.PROTECT, related_name="periods")
    version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="+")
    anchor = models.DateTimeField()
    is_trial = models.BooleanField(default=False)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()

    objects: ClassVar[TenantQuerySet["Period"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            ExclusionConstraint(
                name="period_no_overlap",
                expressions=[
                    ("organization", RangeOperators.EQUAL),
                    (
                        TimeRange("starts_at", "ends_at", RangeBoundary()),
                        RangeOperators.OVERLAPS,
                    ),
                ],
            ),
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="period_ends_after_start"),
        ]
        indexes = [
            models.Index(fields=["organization", "-starts_at"], name="period_organization_start"),
            models.Index(
                fields=["ends_at"], name="period_end"
            ),  # what has just ended is looked for every minute
        ]

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d} to {self.ends_at:%Y-%m-%d}"


class StatePush(models.Model):
    """Outbox: this organization's version still has to reach Redis. One row each, deleted when Redis confirmed it."""

    organization = models.OneToOneField(Organization, models.CASCADE, primary_key=True, related_name="+")
    version = models.BigIntegerField()
    is_new = models.BooleanField(
        default=False, help_text="Redis has never known it: its state may be created there."
    )

    objects: ClassVar[TenantQuerySet["StatePush"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    def __str__(self) -> str:
        return f"{self.organization_id} at {self.version}"
