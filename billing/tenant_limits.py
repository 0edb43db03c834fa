"""Limits of one customer in the owner's API: as they are given, and as they are shown."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from plans.agreed_limits import measure_of
from plans.models import Counted, LanguageModel, LimitScope, Meter, Override, OverrideKind, Route
from plans.overrides import Grant

MOST_LIMITS = 50


@extend_schema_serializer(component_name="TenantLimit")
class TenantLimitFields(serializers.Serializer[Any]):
    """One limit in the place of the plan's, as docs/limits.md has them."""

    scope = serializers.ChoiceField(choices=LimitScope.choices, default=LimitScope.ORGANIZATION)
    measure = serializers.ChoiceField(choices=Counted.choices, default=Counted.CALLS)
    window_seconds = serializers.IntegerField(
        min_value=0, default=0, help_text="0 for calls at the same time."
    )
    limit = serializers.DecimalField(
        max_digits=24, decimal_places=9, min_value=Decimal(0), help_text='At most, for example "500".'
    )
    route = serializers.SlugRelatedField(
        slug_field="public_id", queryset=Route.objects.filter(archived_at=None), required=False, allow_null=True,
        default=None, help_text="route_...",
    )  # fmt: skip
    model = serializers.SlugRelatedField(
        slug_field="name", queryset=LanguageModel.objects.filter(archived_at=None), required=False, allow_null=True,
        default=None,
    )  # fmt: skip
    meter = serializers.SlugRelatedField(
        slug_field="slug", queryset=Meter.objects.filter(archived_at=None), required=False, allow_null=True,
        default=None, help_text="Of units.",
    )  # fmt: skip

    def to_internal_value(self, data: Any) -> Any:
        """A field that does not exist is refused: a mistyped limit must not pass for one that was set."""
        unknown = sorted(set(data) - set(self.fields)) if isinstance(data, dict) else []
        if unknown:
            raise serializers.ValidationError(dict.fromkeys(unknown, "There is no such field."))
        return super().to_internal_value(data)


def read_limits(fields: Iterable[dict[str, Any]]) -> tuple[Grant, ...]:
    """What is asked for, as acts take it."""
    return tuple(_grant(limit) for limit in fields)


def _grant(limit: dict[str, Any]) -> Grant:
    is_open = limit["measure"] == Counted.CONCURRENCY
    return Grant(
        OverrideKind.CONCURRENCY if is_open else OverrideKind.RATE_LIMIT,
        limit["limit"],
        limit["window_seconds"] or None,
        limit["meter"],
        scope=limit["scope"],
        measure=Counted.CALLS if is_open else limit["measure"],
        route=limit["route"],
        model=limit["model"],
    )


def shown_limits(overrides: Iterable[Override]) -> list[dict[str, Any]]:
    """Limits as they can be sent again."""
    return [
        {
            "scope": o.scope,
            "measure": measure_of(o),
            "window_seconds": o.window_seconds or 0,
            "limit": f"{(o.amount or Decimal(0)).normalize():f}",
            "route": o.route.public_id if o.route is not None else None,
            "model": o.model.name if o.model is not None else None,
            "meter": o.meter.slug if o.meter is not None else None,
        }
        for o in overrides
    ]
