"""`/api/usage/alerts`: a customer's alerts for programs, with a key of the organization."""

from decimal import Decimal
from typing import Any

from django.db import InterfaceError, OperationalError
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from drf_spectacular.utils import extend_schema_serializer as named
from rest_framework import serializers
from rest_framework.exceptions import NotFound, ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import Organization
from core.clock import now
from core.schema import problems
from metering.alerts.queries import AlertStanding, alert_standings
from metering.alerts.services import (
    LARGEST,
    AlertTerms,
    change_alert,
    create_alert,
    ensure_defaults,
    remove_alert,
)
from metering.answers import KEY_UNKNOWN_NOW, MISSING_KEY, OUT_OF_SCOPE
from metering.api import AccountThrottle
from metering.drf import Caller, CallRefused, FareboxKeyAuthentication, current_record
from metering.models import Alert, AlertAction, AlertKind
from metering.models.alerts import MOST_CALLS_PER_MINUTE
from metering.reconcile import plain
from plans.models import Meter
from plans.queries import find_period


@named(component_name="AlertTerms")
class TermsInput(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=AlertKind.choices)
    threshold = serializers.DecimalField(
        max_digits=24, decimal_places=9, min_value=Decimal("0.000000001"), max_value=LARGEST,
        help_text="Per cent, units of the meter, or for `spend` an amount in the plan's currency.",
    )  # fmt: skip
    meter = serializers.SlugField(
        required=False,
        allow_null=True,
        help_text="Slug. Null: the plan's main meter, whichever plan that is.",
    )
    action = serializers.ChoiceField(choices=AlertAction.choices, required=False, default=AlertAction.NOTIFY)
    calls_per_minute = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=MOST_CALLS_PER_MINUTE,
        help_text="Of a throttle.",
    )
    by_mail = serializers.BooleanField(required=False, default=True)
    by_webhook = serializers.BooleanField(required=False, default=False)
    enabled = serializers.BooleanField(required=False, default=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(self.initial_data) - set(self.fields))
        if unknown:
            error = serializers.ErrorDetail("This field is not known.", "unknown_field")
            raise serializers.ValidationError({unknown[0][:80]: error})
        slug = attrs.get("meter")
        if slug is not None:
            attrs["meter"] = Meter.objects.filter(slug=slug, archived_at=None).first()
            if attrs["meter"] is None:
                raise serializers.ValidationError({"meter": "There is no such meter."})
        return attrs


@named(component_name="Alert")
class AlertOutput(serializers.Serializer[Any]):
    id = serializers.CharField(help_text="alr_...")
    name = serializers.CharField(help_text="In words: `80 % of the included quantity`.")
    kind = serializers.ChoiceField(choices=AlertKind.choices)
    threshold = serializers.CharField()
    currency = serializers.CharField(help_text="Of an amount, else empty.")
    meter = serializers.CharField(allow_null=True)
    action = serializers.ChoiceField(choices=AlertAction.choices)
    calls_per_minute = serializers.IntegerField(allow_null=True)
    by_mail = serializers.BooleanField()
    by_webhook = serializers.BooleanField()
    enabled = serializers.BooleanField()
    value = serializers.CharField(
        allow_null=True, help_text="Of this period so far. Null: nothing to look at."
    )
    limit = serializers.CharField(allow_null=True, help_text="The threshold in the value's unit.")
    reached_at = serializers.DateTimeField(allow_null=True, help_text="In this period; null: below.")
    is_imposed = serializers.BooleanField(help_text="Whether its throttle or block holds now.")


class AlertListOutput(serializers.Serializer[Any]):
    alerts = AlertOutput(many=True)


_FIELDS = ("kind", "threshold", "meter", "action", "calls_per_minute", "by_mail", "by_webhook", "enabled")
_PATH = OpenApiParameter("alert", str, OpenApiParameter.PATH, description="alr_...")
_EXAMPLE = OpenApiExample(
    "Block at 50 spent", value={"kind": "spend", "threshold": "50", "action": "block"}, request_only=True
)


class AlertListView(APIView):
    """A customer's alerts. Looking takes any key of the organization; changing takes a live key without scopes."""

    authentication_classes = [FareboxKeyAuthentication]
    throttle_classes = [AccountThrottle]

    @extend_schema(
        operation_id="alerts",
        summary="Your alerts, and where they stand",
        responses={200: OpenApiResponse(AlertListOutput, "All alerts."), **problems(401, 429, 503)},
    )
    def get(self, request: Request) -> Response:
        organization, at = _organization(request), now()
        ensure_defaults(organization, at=at)
        return Response({"alerts": [_shown(row) for row in alert_standings(organization, at=at)]})

    @extend_schema(
        operation_id="create_alert",
        summary="Make an alert",
        request=TermsInput,
        examples=[_EXAMPLE],
        responses={200: OpenApiResponse(AlertOutput, "Made."), **problems(400, 401, 403, 409, 415, 429, 503)},
    )
    def post(self, request: Request) -> Response:
        organization = _organization(request, writes=True)
        fields = _fields(TermsInput(data=request.data))
        made = create_alert(organization=organization, terms=_terms(organization, fields), by=None, at=now())
        return Response(_one(organization, made))


class AlertView(APIView):
    """One alert, changed or removed."""

    authentication_classes = [FareboxKeyAuthentication]
    throttle_classes = [AccountThrottle]

    @extend_schema(
        operation_id="change_alert",
        summary="Change an alert: only what is sent",
        parameters=[_PATH],
        request=TermsInput(partial=True),
        responses={
            200: OpenApiResponse(AlertOutput, "Changed."),
            **problems(400, 401, 403, 404, 415, 429, 503),
        },
    )
    def patch(self, request: Request, alert: str) -> Response:
        organization = _organization(request, writes=True)
        found = _find(organization, alert)
        fields = _as_fields(found) | _fields(TermsInput(data=request.data, partial=True))
        made = change_alert(alert=found, terms=_terms(organization, fields, found), by=None, at=now())
        return Response(_one(organization, made))

    @extend_schema(
        operation_id="remove_alert",
        summary="Remove an alert",
        parameters=[_PATH],
        responses={
            200: OpenApiResponse(AlertOutput, "Removed, as it was; what it imposed is lifted."),
            **problems(401, 403, 404, 429, 503),
        },
    )
    def delete(self, request: Request, alert: str) -> Response:
        organization = _organization(request, writes=True)
        found = _find(organization, alert)
        was = _one(organization, found)
        remove_alert(alert=found, by=None, at=now())
        return Response(was | {"enabled": False, "is_imposed": False})


def _organization(request: Request, *, writes: bool = False) -> Organization:
    """Whose key it is. Raises CallRefused: also for writing with a test key or one with scopes."""
    caller = request.user
    if not isinstance(caller, Caller):
        raise CallRefused(MISSING_KEY)
    record = current_record(caller)
    if writes and (record.mode != "live" or record.scopes):
        raise CallRefused(OUT_OF_SCOPE)
    try:
        return Organization.objects.get(pk=record.organization_id)
    except (OperationalError, InterfaceError) as error:
        raise CallRefused(KEY_UNKNOWN_NOW) from error


def _fields(shape: TermsInput) -> dict[str, Any]:
    try:
        shape.is_valid(raise_exception=True)
    except RecursionError:
        raise ParseError("This is nested too deeply.") from None
    return dict(shape.validated_data)


def _find(organization: Organization, public_id: str) -> Alert:
    rows = Alert.objects.for_organization(organization).select_related("organization", "meter")
    found = rows.filter(public_id=public_id, removed_at=None).first()
    if found is None:
        raise NotFound
    return found


def _as_fields(alert: Alert) -> dict[str, Any]:
    return {name: getattr(alert, name) for name in _FIELDS}


def _terms(organization: Organization, fields: dict[str, Any], alert: Alert | None = None) -> AlertTerms:
    """Amounts are in the plan's currency; an alert that has one keeps it."""
    period = find_period(organization, at=now())
    currency = (alert.currency if alert else "") or (period.version.currency if period else "")
    kind = AlertKind(fields["kind"])
    return AlertTerms(
        kind=kind, threshold=fields["threshold"], action=AlertAction(fields["action"]), meter=fields.get("meter"),
        currency=currency if kind == AlertKind.SPEND else "", calls_per_minute=fields.get("calls_per_minute"),
        by_mail=fields["by_mail"], by_webhook=fields["by_webhook"], enabled=fields["enabled"],
    )  # fmt: skip


def _one(organization: Organization, alert: Alert) -> dict[str, Any]:
    (row,) = (row for row in alert_standings(organization, at=now()) if row.alert.pk == alert.pk)
    return _shown(row)


def _shown(row: AlertStanding) -> dict[str, Any]:
    alert = row.alert
    return {
        "id": alert.public_id,
        "name": row.name,
        "kind": alert.kind,
        "threshold": plain(alert.threshold),
        "currency": alert.currency,
        "meter": alert.meter.slug if alert.meter else None,
        "action": alert.action,
        "calls_per_minute": alert.calls_per_minute,
        "by_mail": alert.by_mail,
        "by_webhook": alert.by_webhook,
        "enabled": alert.enabled,
        "value": plain(row.measure.value) if row.measure else None,
        "limit": plain(row.measure.limit) if row.measure else None,
        "reached_at": row.firing.fired_at.isoformat() if row.firing else None,
        "is_imposed": row.is_imposed,
    }
