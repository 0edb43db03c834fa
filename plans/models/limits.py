"""What a plan lets an organization do in a window of time, or at the same time: over all its keys, by each key, on one route,
with one language model.
"""

from decimal import Decimal

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from plans.models.catalogue import Meter, Route
from plans.models.language import LanguageModel
from plans.models.plan import PlanVersion


class Counted(models.TextChoices):
    """What a rate limit counts."""

    CALLS = "calls", "Calls"
    TOKENS = "tokens", "Tokens of language models"
    INPUT_TOKENS = "input_tokens", "Tokens of prompts"
    OUTPUT_TOKENS = "output_tokens", "Tokens of answers"
    UNITS = "units", "Units of a meter"
    CONCURRENCY = "concurrency", "Calls at the same time"


class LimitScope(models.TextChoices):
    """Whose calls count together."""

    ORGANIZATION = "organization", "The organization, all its keys"
    KEY = "key", "Each key by itself"
    ROUTE = "route", "One route, all keys"
    MODEL = "model", "One language model, all keys"


OF_TOKENS = (Counted.TOKENS, Counted.INPUT_TOKENS, Counted.OUTPUT_TOKENS)
SMALLEST = Decimal("0.000000001")
PLACES = (
    Q(scope__in=("organization", "key"), route=None, model=None)
    | Q(scope="route", route__isnull=False, model=None)
    | Q(scope="model", route=None, model__isnull=False)
)


class RateLimit(models.Model):
    """At most so many calls, tokens (what may come counts until the call has ended) or units of a meter in any window of so
    many seconds, or calls at the same time (no window), in one mode. `calls` in the meter's unit where units count."""

    version = models.ForeignKey(PlanVersion, models.CASCADE, related_name="rate_limits")
    scope = models.CharField(
        "for",
        max_length=12,
        choices=LimitScope.choices,
        default=LimitScope.ORGANIZATION,
        db_default=LimitScope.ORGANIZATION,
    )
    route = models.ForeignKey(Route, models.PROTECT, null=True, blank=True, related_name="+")
    model = models.ForeignKey(LanguageModel, models.PROTECT, null=True, blank=True, related_name="+")
    calls = models.DecimalField(
        "at most", max_digits=24, decimal_places=9, validators=[MinValueValidator(SMALLEST)]
    )
    measure = models.CharField(
        "of", max_length=13, choices=Counted.choices, default=Counted.CALLS, db_default=Counted.CALLS
    )
    meter = models.ForeignKey(Meter, models.PROTECT, null=True, blank=True, related_name="+")
    window_seconds = models.PositiveIntegerField(
        "in any ... seconds", default=60, help_text="0 for calls at the same time."
    )

    class Meta:
        ordering = ["scope", "measure", "window_seconds", "pk"]
        constraints = [
            models.UniqueConstraint(
                "version", "window_seconds", "measure", "scope", "route", "model", "meter",
                name="rate_limit_window", nulls_distinct=False,
            ),
            models.CheckConstraint(condition=PLACES, name="rate_limit_scope"),
            models.CheckConstraint(condition=Q(calls__gte=0), name="rate_limit_positive"),
            models.CheckConstraint(
                condition=Q(measure="concurrency", window_seconds=0)
                | (~Q(measure="concurrency") & Q(window_seconds__gte=1)),
                name="rate_limit_has_window",
            ),
            models.CheckConstraint(
                condition=Q(measure="units", meter__isnull=False) | (~Q(measure="units") & Q(meter=None)),
                name="rate_limit_meter",
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.calls.normalize():f} {self.measure} per {self.window_seconds} s"

    @property
    def of_calls(self) -> bool:
        """One of the organization's calls: what prices and pages speak of first."""
        return self.measure == Counted.CALLS and self.scope == LimitScope.ORGANIZATION

    def clean(self) -> None:
        """The fields that its scope and measure ask for, and no others."""
        wrong = dict(shape_faults(self))
        if wrong:
            raise ValidationError(wrong)


def shape_faults(limit: "RateLimit") -> list[tuple[str, str]]:
    """(field, what is wrong) of a limit's scope, measure and window."""
    wanted = {
        "route": limit.scope == LimitScope.ROUTE,
        "model": limit.scope == LimitScope.MODEL,
        "meter": limit.measure == Counted.UNITS,
        "window_seconds": limit.measure != Counted.CONCURRENCY,
    }
    given = {
        "route": limit.route_id is not None,
        "model": limit.model_id is not None,
        "meter": limit.meter_id is not None,
        "window_seconds": bool(limit.window_seconds),
    }
    return [
        (name, "Is needed here." if needed else "Has no meaning here.")
        for name, needed in wanted.items()
        if given[name] != needed
    ]
