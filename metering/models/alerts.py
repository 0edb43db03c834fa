"""Alerts: a threshold on usage or spend of a period, what crossed it when, and who was told."""

from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from accounts.models import Membership, Organization, User
from core.crypto import EncryptedTextField
from core.ids import public_id
from core.tenancy import TenantQuerySet
from plans.models import Meter, Period, Restriction

MOST_CALLS_PER_MINUTE = 1_000_000


def alert_public_id() -> str:
    return public_id("alr")


def delivery_public_id() -> str:
    return public_id("ntf")


class AlertKind(models.TextChoices):
    METER = "meter", "Quantity of a meter"
    SPEND = "spend", "Amount spent on usage"
    INCLUDED = "included", "Per cent of the included quantity"
    QUOTA = "quota", "Per cent of the quota"
    CAP = "cap", "Per cent of the spend cap"


class AlertAction(models.TextChoices):
    NOTIFY = "notify", "Notify"
    THROTTLE = "throttle", "Throttle"
    BLOCK = "block", "Block"


class Alert(models.Model):
    """One threshold in every period. `meter` empty: the plan's main meter, whichever plan that is. A removed alert stays,
    because its history does."""

    public_id = models.CharField(max_length=40, unique=True, default=alert_public_id, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="alerts")
    kind = models.CharField(max_length=8, choices=AlertKind.choices)
    meter = models.ForeignKey(Meter, models.PROTECT, null=True, blank=True, related_name="+")
    threshold = models.DecimalField(
        max_digits=24,
        decimal_places=9,
        validators=[MinValueValidator(0)],
        help_text="Units of the meter, major currency units, or per cent.",
    )
    currency = models.CharField(
        max_length=3, blank=True, help_text="Of an amount; it rests under a plan in another."
    )
    action = models.CharField(max_length=8, choices=AlertAction.choices, default=AlertAction.NOTIFY)
    calls_per_minute = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(MOST_CALLS_PER_MINUTE)]
    )
    by_mail = models.BooleanField(default=True)
    by_webhook = models.BooleanField(default=False)
    enabled = models.BooleanField(default=True)
    is_default = models.BooleanField(default=False, editable=False)
    created_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField()
    removed_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[TenantQuerySet["Alert"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        db_table = "usage_alert"
        ordering = ["threshold", "pk"]
        constraints = [
            models.CheckConstraint(condition=Q(threshold__gt=0), name="usage_alert_threshold"),
            models.CheckConstraint(
                condition=~Q(action="throttle") | Q(calls_per_minute__gte=1, calls_per_minute__isnull=False),
                name="usage_alert_throttle_has_rate",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.threshold.normalize():f}"


class AlertFiring(models.Model):
    """An alert crossed its threshold in a period. It is open until it went back below or the period is over; only one of a
    period can be open, so each crossing is told once."""

    alert = models.ForeignKey(Alert, models.PROTECT, related_name="firings")
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    period = models.ForeignKey(Period, models.PROTECT, related_name="+")
    crossing = models.PositiveIntegerField(help_text="1 for the first of its period.")
    value = models.DecimalField(max_digits=38, decimal_places=12)
    threshold_value = models.DecimalField(max_digits=38, decimal_places=12, help_text="In the value's unit.")
    text = models.CharField(max_length=300, help_text="What happened, as it was told.")
    fired_at = models.DateTimeField()
    recovered_at = models.DateTimeField(null=True, blank=True)
    recovered_value = models.DecimalField(max_digits=38, decimal_places=12, null=True, blank=True)
    restriction = models.ForeignKey(Restriction, models.PROTECT, null=True, blank=True, related_name="+")

    objects: ClassVar[TenantQuerySet["AlertFiring"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        db_table = "usage_alert_firing"
        ordering = ["-fired_at", "-pk"]
        constraints = [
            models.UniqueConstraint("alert", "period", "crossing", name="usage_alert_firing_once"),
            models.UniqueConstraint(
                fields=["alert", "period"], condition=Q(recovered_at=None), name="usage_alert_firing_open"
            ),
        ]
        indexes = [models.Index(fields=["organization", "-fired_at"], name="usage_alert_firing_newest")]

    def __str__(self) -> str:
        return self.text


class AlertSettings(models.Model):
    """An organization's webhook, and that it has had its default alerts: they can be removed for good."""

    organization = models.OneToOneField(Organization, models.PROTECT, primary_key=True, related_name="+")
    webhook_url = EncryptedTextField(blank=True, default="")
    defaults_at = models.DateTimeField()

    objects: ClassVar[TenantQuerySet["AlertSettings"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        db_table = "usage_alert_settings"
        verbose_name_plural = "alert settings"

    def __str__(self) -> str:
        return f"Alerts of {self.organization}"


class AlertPreference(models.Model):
    """Whether a member wants an alert's mails; without a row the role decides."""

    alert = models.ForeignKey(Alert, models.CASCADE, related_name="preferences")
    membership = models.ForeignKey(Membership, models.CASCADE, related_name="+")
    by_mail = models.BooleanField()

    class Meta:
        db_table = "usage_alert_preference"
        constraints = [models.UniqueConstraint("alert", "membership", name="usage_alert_preference_one")]

    def __str__(self) -> str:
        return f"{self.membership}: {'mail' if self.by_mail else 'no mail'}"


class NoticeKind(models.TextChoices):
    FIRED = "fired", "Reached"
    RECOVERED = "recovered", "Back below"
    TEST = "test", "Test"


class Channel(models.TextChoices):
    MAIL = "mail", "E-mail"
    WEBHOOK = "webhook", "Webhook"


class DeliveryState(models.TextChoices):
    WAITING = "waiting", "Waiting"
    SENT = "sent", "Sent"
    FAILED = "failed", "Failed"


class AlertDelivery(models.Model):
    """One notice to one recipient. Mails are handed to the outbox of mails; a webhook is tried again with growing pauses."""

    public_id = models.CharField(max_length=40, unique=True, default=delivery_public_id, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    alert = models.ForeignKey(Alert, models.PROTECT, related_name="deliveries")
    firing = models.ForeignKey(AlertFiring, models.PROTECT, null=True, related_name="deliveries")
    kind = models.CharField(max_length=9, choices=NoticeKind.choices)
    channel = models.CharField(max_length=7, choices=Channel.choices)
    recipient = models.CharField(max_length=254, help_text="E-mail address, or the webhook's host.")
    text = models.CharField(max_length=600)
    state = models.CharField(max_length=7, choices=DeliveryState.choices)
    attempts = models.PositiveSmallIntegerField(default=0)
    outcome = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()
    next_at = models.DateTimeField(null=True, blank=True)
    done_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[TenantQuerySet["AlertDelivery"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        db_table = "usage_alert_delivery"
        verbose_name_plural = "alert deliveries"
        ordering = ["-created_at", "-pk"]
        indexes = [
            models.Index(fields=["next_at"], condition=Q(state="waiting"), name="usage_alert_delivery_due"),
            models.Index(fields=["organization", "-created_at"], name="usage_alert_delivery_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} to {self.recipient}"


class AlertClock(models.Model):
    """Up to when the ledger's changes were looked at; one row."""

    seen_until = models.DateTimeField()

    class Meta:
        db_table = "usage_alert_clock"

    def __str__(self) -> str:
        return f"{self.seen_until:%Y-%m-%d %H:%M:%S}"
