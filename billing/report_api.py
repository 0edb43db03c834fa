"""`GET /api/usage/report`: usage by hour, day, key, route, status or dimension, with cost, projection and trend."""

import csv
import io
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db import InterfaceError, OperationalError
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import Organization
from billing.api import LineOutput, known_query, lines_as_json, with_next
from billing.drafts import draft_lines
from billing.forecast_queries import period_forecast
from billing.wording import plain
from core.clock import now
from core.hours import ceil_hour, check_moment, floor_hour
from core.money import format_money
from core.schema import problems
from core.spreadsheets import harmless
from keys.authentication import HasOwnerScope, Owner, OwnerKeyAuthentication
from keys.models import ApiKey, OwnerScope
from metering.answers import KEY_UNKNOWN_NOW, MISSING_KEY
from metering.api import AccountThrottle
from metering.costs import period_cost
from metering.drf import Caller, CallRefused, FareboxKeyAuthentication, current_record
from metering.reports import GROUPS, BadCursor, ReportRow, Trend, Wanted, usage_report, usage_trend
from plans.models import Meter, Period, Route
from plans.queries import find_period

LONGEST = timedelta(days=366)
LIMIT, MOST = 500, 5_000
_GROUPS = (*GROUPS, "meter")


class CsvRenderer(BaseRenderer):
    """The rows of a report; errors stay problem documents."""

    media_type, format, charset = "text/csv", "csv", "utf-8"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:  # fmt: skip
        response = (renderer_context or {}).get("response")
        if response is not None and response.status_code >= 400:
            return bytes(JSONRenderer().render(data))
        text = io.StringIO()
        names = [*data["group_by"], "meter", "unit", "quantity", "calls", "billed_calls"]
        writer = csv.DictWriter(text, list(dict.fromkeys(names)), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(
            {name: harmless(value) if isinstance(value, str) else value for name, value in row.items()}
            for row in data["rows"]
        )
        return text.getvalue().encode()


@extend_schema_serializer(component_name="ReportRow")
class RowOutput(serializers.Serializer[Any]):
    meter = serializers.CharField()
    unit = serializers.CharField()
    quantity = serializers.CharField(
        allow_null=True, help_text="Null: unique and time-weighted meters are known by the period only."
    )
    calls = serializers.IntegerField()
    billed_calls = serializers.IntegerField()
    day = serializers.DateTimeField(required=False)
    hour = serializers.DateTimeField(required=False)
    key = serializers.CharField(required=False, help_text="Public id; empty: reported usage.")
    route = serializers.CharField(required=False, help_text="/product/path; empty: reported usage.")
    status = serializers.CharField(required=False, help_text="2xx, 4xx, 5xx; empty: reported usage.")
    dimension = serializers.CharField(required=False)


@extend_schema_serializer(component_name="ReportTotal")
class TotalOutput(serializers.Serializer[Any]):
    meter = serializers.CharField()
    unit = serializers.CharField()
    quantity = serializers.CharField(allow_null=True)
    calls = serializers.IntegerField()
    quantity_before = serializers.CharField(allow_null=True, help_text="In as much time right before.")
    calls_before = serializers.IntegerField()
    change_percent = serializers.CharField(allow_null=True, help_text="Null: there was nothing before.")


@extend_schema_serializer(component_name="ReportCost")
class CostOutput(serializers.Serializer[Any]):
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField()
    currency = serializers.CharField()
    total_minor = serializers.IntegerField()
    total = serializers.CharField()
    lines = LineOutput(many=True)


@extend_schema_serializer(component_name="ReportProjection")
class ProjectionOutput(serializers.Serializer[Any]):
    low_minor = serializers.IntegerField()
    expected_minor = serializers.IntegerField()
    high_minor = serializers.IntegerField()


@extend_schema_serializer(component_name="UsageReport")
class ReportOutput(serializers.Serializer[Any]):
    organization = serializers.CharField()
    mode = serializers.CharField()
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    timezone = serializers.CharField()
    group_by = serializers.ListField(child=serializers.CharField())
    rows = RowOutput(many=True)
    next = serializers.CharField(allow_null=True, help_text="Give it as `cursor` for the next page.")
    totals = TotalOutput(many=True, help_text="Of the whole window, with the trend.")
    cost = CostOutput(allow_null=True, help_text="Of the period asked for, or the running one; live usage.")
    projection = ProjectionOutput(
        allow_null=True, help_text="Cost at the running period's end; null for others."
    )


class ReportQuery(serializers.Serializer[Any]):
    organization = serializers.CharField(required=False, max_length=40, help_text="Owner keys only: org_...")
    period = serializers.ChoiceField(
        ["current", "previous"], required=False, help_text="A billing period, instead of start and end."
    )
    start = serializers.DateTimeField(
        required=False, validators=[check_moment], help_text="Rounded down to the hour (UTC)."
    )
    end = serializers.DateTimeField(
        required=False,
        validators=[check_moment],
        help_text="Not included; rounded up to the hour; without it, now.",
    )
    timezone = serializers.CharField(default="UTC", max_length=60, help_text="Whose days: Europe/Berlin.")
    meter = serializers.CharField(required=False, max_length=400, help_text="Slugs, by comma; without: all.")
    group_by = serializers.CharField(
        required=False, max_length=100, help_text="day, hour, key, route, meter, status, dimension; by comma."
    )
    key = serializers.CharField(required=False, max_length=400, help_text="Public ids, by comma.")
    route = serializers.CharField(required=False, max_length=400, help_text="/product/path, by comma.")
    status = serializers.CharField(
        required=False,
        max_length=40,
        help_text="Classes: 2xx,4xx; by comma. Single codes are filters of the list of calls.",
    )
    dimension = serializers.CharField(required=False, max_length=200, help_text="`region=eu`.")
    mode = serializers.ChoiceField(["live", "test"], default="live")
    limit = serializers.IntegerField(default=LIMIT, min_value=1, max_value=MOST)
    cursor = serializers.CharField(required=False, max_length=2_000)

    def validate_timezone(self, name: str) -> str:
        try:
            return ZoneInfo(name).key
        except (ValueError, OSError, LookupError):
            raise ValidationError("There is no such time zone.") from None

    def validate_group_by(self, text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(_parts(text)))
        if unknown := [name for name in names if name not in _GROUPS]:
            raise ValidationError(f"{unknown[0][:40]} is none of {', '.join(_GROUPS)}.")
        return names

    def validate_status(self, text: str) -> list[int]:
        parts = _parts(text)
        # Totals know classes only; a code that stood for its class would count other calls, too.
        for part in parts:
            if len(part) != 3 or part[0] not in "12345" or part[1:] != "xx":
                instead = (
                    f": write {part[0]}xx" if part.isdecimal() and part[0] in "12345" else ", such as 4xx"
                )
                raise ValidationError(f"Reports know classes of statuses{instead}.")
        return [int(part[0]) for part in parts]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "period" in attrs and ("start" in attrs or "end" in attrs):
            raise ValidationError({"period": "Give a period, or start and end."})
        if "end" in attrs and "start" not in attrs:
            raise ValidationError({"start": "Where does it begin?"})
        return attrs


class ReportView(APIView):
    """Usage of a window by what you like. With a key of the organization, or an owner key and `organization`."""

    authentication_classes = [OwnerKeyAuthentication, FareboxKeyAuthentication]
    permission_classes = [IsAuthenticated, HasOwnerScope]
    owner_scope = OwnerScope.USAGE
    throttle_classes = [AccountThrottle]
    renderer_classes = [JSONRenderer, CsvRenderer]

    @extend_schema(
        operation_id="usage_report",
        summary="Usage, cost, projection and trend",
        parameters=[ReportQuery, OpenApiParameter("format", str, enum=["json", "csv"], description="Or `Accept: text/csv`.")],
        responses={
            (200, "application/json"): OpenApiResponse(ReportOutput, "The report; CSV holds its rows."),
            (200, "text/csv"): OpenApiResponse(str, "The rows."),
            **problems(400, 401, 403, 404, 429, 503),
        },
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        fields, at = known_query(request, ReportQuery, "format"), now()
        organization = _organization(request, fields.get("organization"))
        period, wanted = _wanted(organization, fields, at)
        try:
            page = usage_report(wanted, after=fields.get("cursor", ""), limit=fields["limit"])
        except (BadCursor, UnicodeDecodeError):
            raise ValidationError({"cursor": "This is no cursor of this report."}) from None
        answer = Response(_report(wanted, fields, page.rows, page.next, period, at))
        return with_next(answer, request, page.next)


def _organization(request: Request, named: str | None) -> Organization:
    caller = request.user
    if isinstance(caller, Owner):
        found = Organization.objects.filter(public_id=named).first() if named else None
        if named is None:
            raise ValidationError({"organization": "Whose? Owner keys name the organization."})
        if found is None:
            raise NotFound
        return found
    if not isinstance(caller, Caller):
        raise CallRefused(MISSING_KEY)
    record = current_record(caller)
    try:
        own = Organization.objects.get(pk=record.organization_id)
    except (OperationalError, InterfaceError) as error:
        raise CallRefused(KEY_UNKNOWN_NOW) from error
    if named not in (None, own.public_id):
        raise NotFound
    return own


def _wanted(organization: Organization, fields: dict[str, Any], at: datetime) -> tuple[Period | None, Wanted]:
    """The period whose cost is told, and the window. Raises ValidationError, or NotFound without such a period."""
    period = find_period(organization, at=at)
    if fields.get("period") == "previous" and period is not None:
        period = find_period(organization, at=period.starts_at - timedelta(microseconds=1))
    if "start" in fields:
        start, end = floor_hour(fields["start"]), ceil_hour(fields.get("end", at))
    elif period is None:
        raise NotFound
    else:
        start, end = floor_hour(period.starts_at), ceil_hour(period.ends_at)
    if not timedelta(0) < end - start <= LONGEST:
        raise ValidationError({"end": "After the start, by at most 366 days."})
    meters = _named(fields, "meter", dict(Meter.objects.values_list("slug", "pk")))
    keys = _named(
        fields, "key", dict(ApiKey.objects.for_organization(organization).values_list("public_id", "pk"))
    )
    routes = _named(fields, "route", {path: pk for pk, path in _routes().items()})
    groups = tuple(name for name in fields.get("group_by", ()) if name != "meter")
    dimensions = [fields["dimension"]] if "dimension" in fields else []
    return period, Wanted(
        organization, start, end, fields["mode"], meters, keys, routes, fields.get("status", ()), dimensions, groups,
        fields["timezone"],
    )  # fmt: skip


def _named(fields: dict[str, Any], name: str, known: Mapping[str, int]) -> list[int]:
    """Ids of what a filter names; a foreign name answers like one that is not there."""
    wanted = _parts(fields.get(name, ""))
    if unknown := [one for one in wanted if one not in known]:
        raise ValidationError({name: f"There is no {unknown[0][:60]}."})
    return [known[one] for one in wanted]


def _report(
    wanted: Wanted, fields: dict[str, Any], rows: list[ReportRow], following: str, period: Period | None, at: datetime
) -> dict[str, Any]:  # fmt: skip
    is_running = period is not None and period.starts_at <= at < period.ends_at
    return {
        "organization": wanted.organization.public_id,
        "mode": wanted.mode,
        "start": wanted.start.isoformat(),
        "end": wanted.end.isoformat(),
        "timezone": wanted.zone,
        "group_by": list(fields.get("group_by", ())),
        "rows": _named_rows(wanted, rows),
        "next": following or None,
        "totals": [_total(one) for one in usage_trend(wanted, at=at)],
        "cost": _cost(period, at if is_running else None) if period else None,
        "projection": _projection(period, at) if period and is_running else None,
    }


def _named_rows(wanted: Wanted, rows: list[ReportRow]) -> list[dict[str, Any]]:
    meters = Meter.objects.in_bulk({row.meter_id for row in rows})
    keys = dict(ApiKey.objects.for_organization(wanted.organization).values_list("pk", "public_id"))
    routes, zone = _routes(), ZoneInfo(wanted.zone)
    words: dict[str, Callable[[Any], str]] = {
        "day": lambda value: value.astimezone(zone).isoformat(),
        "hour": lambda value: value.astimezone(zone).isoformat(),
        "key": lambda value: keys.get(value, ""),
        "route": lambda value: routes.get(value, ""),
        "status": lambda value: f"{value}xx" if value else "",
        "dimension": str,
    }
    return [
        {name: words[name](value) for name, value in row.group.items()}
        | {
            "meter": meters[row.meter_id].slug,
            "unit": meters[row.meter_id].unit,
            "quantity": None if row.quantity is None else plain(row.quantity),
            "calls": row.calls,
            "billed_calls": row.billed_calls,
        }
        for row in rows
    ]


def _total(one: Trend) -> dict[str, Any]:
    return {
        "meter": one.meter.slug,
        "unit": one.meter.unit,
        "quantity": None if one.quantity is None else plain(one.quantity),
        "calls": one.calls,
        "quantity_before": None if one.before is None else plain(one.before),
        "calls_before": one.calls_before,
        "change_percent": None if one.change_percent is None else plain(one.change_percent),
    }


def _cost(period: Period, at: datetime | None) -> dict[str, Any]:
    rated = period_cost(period.organization, period=period, at=at)
    return {
        "period_start": period.starts_at.isoformat(),
        "period_end": period.ends_at.isoformat(),
        "currency": rated.currency,
        "total_minor": rated.total_minor,
        "total": format_money(rated.total_minor, rated.currency),
        "lines": lines_as_json(draft_lines(rated), rated.currency),
    }


def _projection(period: Period, at: datetime) -> dict[str, int]:
    found = period_forecast(period.organization, period=period, at=at)
    return {
        "low_minor": found.low_minor,
        "expected_minor": found.expected_minor,
        "high_minor": found.high_minor,
    }


def _routes() -> dict[int, str]:
    routes = Route.objects.select_related("product")
    return {route.pk: f"/{route.product.slug}{route.path}" for route in routes}


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
