"""What serving a call costs the owner: the base of margins and of the warning where a plan sells below it."""

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from plans.models.catalogue import Route

PRICE = {"max_digits": 24, "decimal_places": 12, "default": 0, "validators": [MinValueValidator(0)]}


class CostPrices(models.Model):
    """The owner's prices of resources from a moment on; rows are added, never edited. Major units of `currency`."""

    valid_from = models.DateTimeField()
    currency = models.CharField(max_length=3, default="USD")
    per_compute_ms = models.DecimalField(**PRICE)  # type: ignore[arg-type]
    per_memory_gb_second = models.DecimalField(**PRICE)  # type: ignore[arg-type]
    per_kb_out = models.DecimalField(**PRICE)  # type: ignore[arg-type]
    per_third_party_call = models.DecimalField(**PRICE)  # type: ignore[arg-type]

    class Meta:
        ordering = ["-valid_from"]
        verbose_name = verbose_name_plural = "cost prices"
        constraints = [models.UniqueConstraint("currency", "valid_from", name="cost_prices_moment")]

    def __str__(self) -> str:
        return f"{self.currency} from {self.valid_from:%Y-%m-%d}"


class RouteCost(models.Model):
    """What one call to a route takes. Empty compute time and bytes: as measured on its calls."""

    route = models.OneToOneField(Route, models.CASCADE, related_name="cost")
    compute_ms = models.DecimalField(
        max_digits=14, decimal_places=3, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    memory_mb = models.DecimalField(
        max_digits=14,
        decimal_places=3,
        default=0,
        validators=[MinValueValidator(0)],
        help_text="While it computes.",
    )
    kb_out = models.DecimalField(
        max_digits=14, decimal_places=3, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    third_party_calls = models.DecimalField(
        max_digits=14, decimal_places=3, default=0, validators=[MinValueValidator(0)]
    )

    class Meta:
        verbose_name = "route cost"
        constraints = [
            models.CheckConstraint(
                condition=Q(memory_mb__gte=0, third_party_calls__gte=0), name="route_cost_positive"
            )
        ]

    def __str__(self) -> str:
        return f"Cost of {self.route}"
