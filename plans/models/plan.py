"""Plans and their versions. A published version never changes: customers stay on theirs until they are moved."""

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from plans.models.catalogue import FEATURE, SLUG, Meter


class Interval(models.TextChoices):
    MONTH = "month", "Monthly"
    YEAR = "year", "Yearly"


class VersionState(models.TextChoices):
    DRAFT = "draft", "Draft"
    PUBLISHED = "published", "Published"
    RETIRED = "retired", "Retired"


class Plan(models.Model):
    slug = models.CharField(max_length=60, unique=True, validators=[SLUG])
    name = models.CharField(max_length=80)
    description = models.CharField(max_length=200, blank=True)
    is_public = models.BooleanField(default=True, help_text="Shown on the pricing page.")
    position = models.PositiveIntegerField(default=0)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["position", "pk"]

    def __str__(self) -> str:
        return self.name

    @property
    def current_version(self) -> "PlanVersion":
        """The newest published version. Raises PlanVersion.DoesNotExist."""
        return self.versions.filter(state=VersionState.PUBLISHED).latest("number")


class PlanVersion(models.Model):
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=VersionState.choices, default=VersionState.DRAFT)
    currency = models.CharField(max_length=3, default="USD")
    interval = models.CharField(max_length=5, choices=Interval.choices, default=Interval.MONTH)
    fee_minor = models.BigIntegerField(
        default=0,
        validators=[MinValueValidator(0)],
        help_text="Fee per interval, minor units.",
    )
    trial_days = models.PositiveIntegerField(default=0)
    features = ArrayField(
        models.CharField(max_length=60, validators=[FEATURE]),
        default=list,
        blank=True,
        help_text="Entitlements that routes and pages ask for: basic_endpoints, all_endpoints, webhooks.",
    )
    texts = ArrayField(
        models.CharField(max_length=120),
        default=list,
        blank=True,
        help_text="Lines on the pricing page.",
    )
    published_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["plan", "-number"]
        constraints = [
            models.UniqueConstraint("plan", "number", name="plan_version_number"),
            models.CheckConstraint(condition=Q(fee_minor__gte=0), name="plan_version_fee"),
        ]

    def __str__(self) -> str:
        return f"{self.plan.name} v{self.number}"

    @property
    def is_free(self) -> bool:
        """Nothing is ever charged: no fee, and what is over the included quantity is refused."""
        return self.fee_minor == 0 and all(c.overage_price is None for c in self.components.all())


class PriceComponent(models.Model):
    """Usage of one meter: an included quantity per usage month, then a price per unit, or refusal where there is none."""

    version = models.ForeignKey(PlanVersion, models.CASCADE, related_name="components")
    meter = models.ForeignKey(Meter, models.PROTECT, related_name="+")
    included = models.DecimalField(
        max_digits=24, decimal_places=9, default=0, validators=[MinValueValidator(0)]
    )
    overage_price = models.DecimalField(
        max_digits=24,
        decimal_places=12,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="Per unit above the included quantity, major currency units. Empty: refused above it (hard quota).",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint("version", "meter", name="price_component_meter"),
            models.CheckConstraint(condition=Q(included__gte=0), name="price_component_included"),
        ]

    def __str__(self) -> str:
        return f"{self.version}: {self.meter}"


class RateLimit(models.Model):
    """At most `calls` in any window of so many seconds, over all keys of an organization in one mode."""

    version = models.ForeignKey(PlanVersion, models.CASCADE, related_name="rate_limits")
    window_seconds = models.PositiveIntegerField(default=60, validators=[MinValueValidator(1)])
    calls = models.PositiveIntegerField(validators=[MinValueValidator(1)])

    class Meta:
        ordering = ["window_seconds"]
        constraints = [models.UniqueConstraint("version", "window_seconds", name="rate_limit_window")]

    def __str__(self) -> str:
        return f"{self.calls} per {self.window_seconds} s"
