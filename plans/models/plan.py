"""Plans and their versions. A published version never changes: customers stay on theirs until they are moved."""

from decimal import Decimal
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q

from accounts.models import Organization
from core.tenancy import TenantQuerySet
from plans.models.catalogue import FEATURE, SLUG, Meter
from plans.periods import MONTHS_A_YEAR


class Interval(models.TextChoices):
    MONTH = "month", "Monthly"
    YEAR = "year", "Yearly"


class VersionState(models.TextChoices):
    DRAFT = "draft", "Draft"
    PUBLISHED = "published", "Published"
    RETIRED = "retired", "Retired"


class OverCap(models.TextChoices):
    """What becomes of usage reported after a spend cap was reached (ENGINE.md, section 4)."""

    WRITTEN_OFF = "written_off", "Written off"
    BILLED = "billed", "Billed"


class PricingModel(models.TextChoices):
    INCLUDED = "included", "Included quantity, then per unit"
    PER_UNIT = "per_unit", "Per unit"
    GRADUATED = "graduated", "Graduated (each tier at its own price)"
    VOLUME = "volume", "Volume (all units at the price of the tier reached)"
    PACKAGE = "package", "Package (whole packages)"


class Plan(models.Model):
    """What customers choose. With `organization` it is a private plan of that customer: an override of its prices."""

    slug = models.CharField(max_length=60, unique=True, validators=[SLUG])
    name = models.CharField(max_length=80)
    description = models.CharField(max_length=200, blank=True)
    is_public = models.BooleanField(default=True, help_text="Shown on the pricing page.")
    organization = models.ForeignKey(
        Organization,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="private_plans",
        help_text="Only this customer may have it.",
    )
    position = models.PositiveIntegerField(default=0)
    archived_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[TenantQuerySet["Plan"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["position", "pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(organization=None) | Q(is_public=False), name="plan_private_is_not_public"
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def current_version(self) -> "PlanVersion":
        """The newest published version. Raises PlanVersion.DoesNotExist."""
        return self.versions.filter(state=VersionState.PUBLISHED).latest("number")


class PlanVersion(models.Model):
    """One price list of a plan: a currency, a fee interval, and what they buy. Of each (currency, interval) the newest
    published version is on sale; customers stay on theirs until they are moved (grandfathering)."""

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
    minimum_minor = models.BigIntegerField(
        default=0,
        validators=[MinValueValidator(0)],
        help_text="Minimum spend per usage month, minor units; what is missing is charged as a true-up.",
    )
    over_cap = models.CharField(
        max_length=11,
        choices=OverCap.choices,
        default=OverCap.WRITTEN_OFF,
        help_text="Usage that is reported after a spend cap was reached.",
    )
    concurrency = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Calls at the same time. Empty: no limit.",
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
    publish_at = models.DateTimeField(
        null=True, blank=True, help_text="A draft that goes on sale by itself at this moment."
    )

    class Meta:
        ordering = ["plan", "-number"]
        indexes = [
            models.Index(
                fields=["publish_at"], name="plan_version_publish_at", condition=Q(publish_at__isnull=False)
            )
        ]
        constraints = [
            models.UniqueConstraint("plan", "number", name="plan_version_number"),
            models.CheckConstraint(condition=Q(fee_minor__gte=0), name="plan_version_fee"),
            models.CheckConstraint(condition=Q(minimum_minor__gte=0), name="plan_version_minimum"),
        ]

    def __str__(self) -> str:
        return f"{self.plan.name} v{self.number}"

    @property
    def fee_months(self) -> int:
        """How many usage months one fee pays for."""
        return MONTHS_A_YEAR if self.interval == Interval.YEAR else 1

    @property
    def is_free(self) -> bool:
        """Nothing is ever charged: no fee, and what is over the included quantity is refused."""
        return self.fee_minor == self.minimum_minor == 0 and not any(
            c.sells_more for c in self.components.all()
        )


class PriceComponent(models.Model):
    """What usage of one meter costs; with `match`, of one value of its dimensions. Quantities are per usage month.

    `included` units are free in every pricing model; then `unit_price` (of a unit, or of a package), or the tiers.
    """

    version = models.ForeignKey(PlanVersion, models.CASCADE, related_name="components")
    meter = models.ForeignKey(Meter, models.PROTECT, related_name="+")
    model = models.CharField(max_length=9, choices=PricingModel.choices, default=PricingModel.INCLUDED)
    match = models.JSONField(
        default=dict, blank=True, help_text='Dimension values that it prices, for example {"region": "eu"}.'
    )
    text = models.CharField(
        max_length=120, blank=True, help_text="Wording of its line; empty: the meter's name."
    )
    included = models.DecimalField(
        max_digits=24, decimal_places=9, default=0, validators=[MinValueValidator(0)]
    )
    unit_price = models.DecimalField(
        max_digits=24,
        decimal_places=12,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="Per unit (package) above the included quantity, major currency units. Empty: refused above it (hard quota).",
    )
    package_size = models.DecimalField(
        max_digits=24,
        decimal_places=9,
        default=1,
        help_text="Units in a package; a begun one is charged whole.",
    )
    quota = models.DecimalField(
        max_digits=24,
        decimal_places=9,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="Hard quota per usage month: calls above it are refused. Empty: none, or the included quantity where nothing more is sold.",
    )
    maximum_minor = models.BigIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="Most that its line costs, minor units.",
    )
    position = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["position", "pk"]
        constraints = [
            models.UniqueConstraint("version", "meter", "match", name="price_component_meter"),
            models.CheckConstraint(condition=Q(included__gte=0), name="price_component_included"),
            models.CheckConstraint(condition=Q(package_size__gt=0), name="price_component_package"),
        ]

    def __str__(self) -> str:
        return f"{self.version}: {self.meter}"

    @property
    def sells_more(self) -> bool:
        """Whether usage above the included quantity is sold."""
        return self.unit_price is not None or self.model in (PricingModel.GRADUATED, PricingModel.VOLUME)

    @property
    def hard_quota(self) -> Decimal | None:
        """Where the door refuses, in the meter's unit: the quota, or the included quantity where no more is sold."""
        return self.quota if self.quota is not None else None if self.sells_more else self.included


class PriceTier(models.Model):
    """A step of a graduated or volume price: units up to `up_to` (all above the step before, when empty)."""

    component = models.ForeignKey(PriceComponent, models.CASCADE, related_name="tiers")
    up_to = models.DecimalField(
        max_digits=24, decimal_places=9, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    unit_price = models.DecimalField(
        max_digits=24, decimal_places=12, default=0, validators=[MinValueValidator(0)]
    )
    flat_price = models.DecimalField(
        max_digits=24,
        decimal_places=12,
        default=0,
        validators=[MinValueValidator(0)],
        help_text="Charged once when the tier is reached, major currency units.",
    )

    class Meta:
        ordering = [F("up_to").asc(nulls_last=True)]
        constraints = [
            models.UniqueConstraint("component", "up_to", name="price_tier_up_to", nulls_distinct=False)
        ]

    def __str__(self) -> str:
        return f"up to {self.up_to}" if self.up_to is not None else "above"
