"""The append-only log of subscriptions: what revenue figures are computed from, so that a past month stays as it was."""

from typing import ClassVar

from django.db import models

from accounts.models import Organization
from core.tenancy import TenantQuerySet
from plans.models.plan import PlanVersion
from plans.models.subscription import Subscription


class SubscriptionEventKind(models.TextChoices):
    TRIAL_STARTED = "trial_started", "Trial started"
    STARTED = "started", "Started"
    TRIAL_CONVERTED = "trial_converted", "Trial converted"
    TRIAL_ENDED = "trial_ended", "Trial ended without payment"
    PLAN_CHANGED = "plan_changed", "Plan changed"
    CANCELLATION_PLANNED = "cancellation_planned", "Cancellation planned"
    CANCELLATION_UNDONE = "cancellation_undone", "Cancellation undone"
    PAST_DUE = "past_due", "Payment past due"
    PAID = "paid", "Paid again"
    SUSPENDED = "suspended", "Suspended for payment"
    PAUSED = "paused", "Paused"
    RESUMED = "resumed", "Resumed"
    ENDED = "ended", "Ended"


class SubscriptionEvent(models.Model):
    """Something that happened to a subscription at `at`. `mrr_minor` is the organization's monthly recurring revenue from
    then on, `previous_mrr_minor` before; a trigger refuses changes."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="subscription_events")
    subscription = models.ForeignKey(Subscription, models.PROTECT, related_name="events")
    kind = models.CharField(max_length=21, choices=SubscriptionEventKind.choices)
    at = models.DateTimeField()
    recorded_at = models.DateTimeField(auto_now_add=True)
    version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="+")
    previous_version = models.ForeignKey(PlanVersion, models.PROTECT, null=True, related_name="+")
    currency = models.CharField(max_length=3)
    mrr_minor = models.BigIntegerField()
    previous_mrr_minor = models.BigIntegerField()

    objects: ClassVar[TenantQuerySet["SubscriptionEvent"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["at", "pk"]
        indexes = [
            models.Index(fields=["at"], name="subscription_event_at"),
            models.Index(fields=["organization", "at"], name="subscription_event_org"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} at {self.at:%Y-%m-%d}"
