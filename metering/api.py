"""The JSON API of metering: what a key has left, and usage that is reported."""

from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiResponse,
    PolymorphicProxySerializer,
    extend_schema,
    extend_schema_serializer,
)
from redis.exceptions import RedisError
from rest_framework import serializers
from rest_framework.exceptions import APIException, ParseError, ValidationError
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from core.clock import from_micros, now, to_micros
from core.schema import problems
from keys.authentication import HasOwnerScope, OwnerKeyAuthentication
from keys.models import OwnerScope
from keys.records import KeyRecord
from metering.answers import KEY_UNKNOWN_NOW, METERING_UNAVAILABLE, MISSING_KEY
from metering.drf import Caller, CallRefused, FareboxKeyAuthentication, current_record
from metering.ingest import EventVerdict, Reported, track_usage
from metering.models import QUANTITY
from metering.standing import meter_standings, window_standings
from plans.models import CAPPABLE, Meter

MAX_SHOWN_NAME = 60  # of an unknown field's name: an answer is not an echo of whatever was sent


class AccountThrottle(SimpleRateThrottle):
    """Looking is free, polling is not: about this many looks of a key, in the cache. A dead cache lets all through."""

    rate = "120/min"

    def get_cache_key(self, request: Request, view: APIView) -> str | None:
        caller = request.user
        return f"account:{caller.record.key_public_id}" if isinstance(caller, Caller) else None


class AccountView(APIView):
    """Who a key is, its plan, and what is left. Free: it is neither counted nor limited by the plan."""

    authentication_classes = [FareboxKeyAuthentication]
    throttle_classes = [AccountThrottle]

    @extend_schema_serializer(component_name="RateLimitLeft")
    class RateLimit(serializers.Serializer[Any]):
        window_seconds = serializers.IntegerField()
        limit = serializers.IntegerField(help_text="At most so many in any window of this length.")
        remaining = serializers.IntegerField()
        of = serializers.ChoiceField(
            choices=["organization", "key", "route", "model"], help_text="Whose limit it is."
        )
        counts = serializers.CharField(
            help_text="`calls`, `tokens`, `input_tokens`, `output_tokens`, or a meter's slug: its smallest units."
        )
        on = serializers.CharField(help_text="The route or model that it is about, or empty.")

    @extend_schema_serializer(component_name="PeriodNow")
    class Period(serializers.Serializer[Any]):
        start = serializers.DateTimeField(allow_null=True)
        end = serializers.DateTimeField(allow_null=True, help_text="The first moment of the next period.")

    @extend_schema_serializer(component_name="UsageLeft")
    class Usage(serializers.Serializer[Any]):
        meter = serializers.CharField(help_text="Slug of the meter.")
        used = serializers.CharField(help_text="In the meter's unit, with what is under way.")
        quota = serializers.CharField(allow_null=True, help_text="Null: no hard limit.")
        left = serializers.CharField(allow_null=True)

    @extend_schema_serializer(component_name="Account")
    class Output(serializers.Serializer[Any]):
        organization = serializers.CharField(help_text="Public id of the organization.")
        organization_name = serializers.CharField()
        key = serializers.CharField(help_text="Public id of the key.")
        key_name = serializers.CharField()
        mode = serializers.ChoiceField(choices=["live", "test"])
        plan = serializers.CharField(help_text="Slug of the plan.")
        door = serializers.CharField(help_text="`open`, or the code with which calls are refused now.")
        features = serializers.ListField(child=serializers.CharField())

        def get_fields(self) -> dict[str, Any]:
            return super().get_fields() | {
                "rate_limits": AccountView.RateLimit(many=True),
                "period": AccountView.Period(),
                "usage": AccountView.Usage(many=True),
            }

    @extend_schema(
        operation_id="account",
        summary="Who is this key, its plan, what is left",
        responses={200: OpenApiResponse(Output, "What the key may do now."), **problems(401, 429, 503)},
    )
    def get(self, request: Request) -> Response:
        caller, at = request.user, now()
        if not isinstance(caller, Caller):
            raise CallRefused(MISSING_KEY)
        record = current_record(caller)
        try:
            return Response(_account(record, to_micros(at)))
        except RedisError as error:
            raise CallRefused(METERING_UNAVAILABLE) from error
        except (OperationalError, InterfaceError) as error:
            raise CallRefused(KEY_UNKNOWN_NOW) from error


def _account(record: KeyRecord, at_us: int) -> dict[str, Any]:
    span = record.span_at(at_us)
    meters = list(Meter.objects.filter(archived_at=None, aggregation__in=CAPPABLE).order_by("pk"))
    standings = meter_standings(record, span, [m.pk for m in meters]) if span else []
    return {
        "organization": record.organization_public_id,
        "organization_name": record.organization_name,
        "key": record.key_public_id,
        "key_name": record.key_name,
        "mode": record.mode,
        "plan": record.plan_slug,
        "door": (span.refusal or "open") if span else "closed",
        "features": sorted(record.features),
        "rate_limits": [
            {"window_seconds": w.seconds, "limit": w.limit, "remaining": w.remaining, "of": w.of, "counts": w.counts, "on": w.on}
            for w in window_standings(record, at_us=at_us)
        ],
        "period": {
            "start": from_micros(span.start_us).isoformat() if span else None,
            "end": from_micros(span.end_us).isoformat() if span else None,
        },
        "usage": [
            {
                "meter": meter.slug,
                "used": _in_units(standing.used, meter),
                "quota": _in_units(standing.quota, meter) if standing.quota is not None else None,
                "left": _in_units(max(standing.quota - standing.used, 0), meter) if standing.quota is not None else None,
            }
            for meter, standing in zip(meters, standings, strict=True)
        ],
    }  # fmt: skip


def _in_units(smallest: int, meter: Meter) -> str:
    return format(Decimal(smallest).scaleb(-meter.decimals), "f")


class TextField(serializers.CharField):
    """Text of one line as the ledger takes it: no NUL, no surrounding blanks removed, never empty."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)


class TrackView(APIView):
    """Usage that happened elsewhere: one event, or up to 1,000 as `{"events": [...]}`."""

    authentication_classes = [OwnerKeyAuthentication]
    permission_classes = [IsAuthenticated, HasOwnerScope]
    owner_scope = OwnerScope.USAGE

    @extend_schema_serializer(component_name="ReportedEvent")
    class Input(serializers.Serializer[Any]):
        idempotency_key = TextField(
            max_length=200, help_text="Your id of this event; counts once per organization, for ever."
        )
        organization = TextField(max_length=40, help_text="Public id: org_...")
        meter = TextField(max_length=60, help_text="Slug of the meter.")
        quantity = serializers.DecimalField(
            **QUANTITY, min_value=Decimal(0), required=False,
            help_text="In `unit`; at most the meter's number of decimals. Counts and unique counts need none: an event is 1.",
        )  # fmt: skip
        unit = TextField(
            max_length=30, required=False,
            help_text="The meter's unit or its base unit (GB or byte); without it, the meter's unit.",
        )  # fmt: skip
        time = serializers.DateTimeField(required=False, help_text="When it happened; without it, now.")
        occurred_at = serializers.DateTimeField(
            required=False, help_text="Another name of `time`; an event has one of the two."
        )
        mode = serializers.ChoiceField(choices=["live", "test"], default="live")
        properties = serializers.DictField(
            required=False, help_text="At most 2 kB of JSON; no personal data."
        )

    @extend_schema_serializer(component_name="ReportedBatch")
    class Batch(serializers.Serializer[Any]):
        def get_fields(self) -> dict[str, Any]:
            return {"events": TrackView.Input(many=True, max_length=settings.MAX_TRACK_EVENTS)}  # type: ignore[call-arg]

    @extend_schema_serializer(component_name="Verdict")
    class Verdict(serializers.Serializer[Any]):
        status = serializers.ChoiceField(choices=["accepted", "duplicate", "rejected"])
        code = serializers.CharField(required=False, help_text="Why it was rejected, for programs.")
        field = serializers.CharField(required=False, help_text="The field that it was rejected for.")
        event_id = serializers.UUIDField(required=False, help_text="Of the ledger's event, when accepted.")

    @extend_schema_serializer(component_name="Verdicts")
    class Output(serializers.Serializer[Any]):
        accepted = serializers.IntegerField()
        duplicate = serializers.IntegerField()
        rejected = serializers.IntegerField()

        def get_fields(self) -> dict[str, Any]:
            verdicts = TrackView.Verdict(many=True, help_text="A verdict per event, in order.")
            return super().get_fields() | {"events": verdicts}

    @extend_schema(
        operation_id="track_usage",
        summary="Report usage that happened elsewhere",
        request=PolymorphicProxySerializer(
            component_name="Reported", serializers=[Input, Batch], resource_type_field_name=None
        ),
        responses={
            200: OpenApiResponse(Output, "A verdict per event; what was rejected is not recorded, the others are."),
            **problems(400, 401, 403, 413, 415, 503),
        },
        examples=[
            OpenApiExample(
                "one event",
                value={
                    "idempotency_key": "job-8812", "organization": "org_7Fh2k9QmZr4TtX1b", "meter": "api_calls",
                    "quantity": "3",
                },
                request_only=True,
            )
        ],
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        reported = _read_events(request)
        verdicts = track_usage(reported, at=now())
        counts = {s: sum(v.status == s for v in verdicts) for s in ("accepted", "duplicate", "rejected")}
        return Response(counts | {"events": [_shown(verdict) for verdict in verdicts]})


class TooManyEvents(ValidationError):
    status_code = 413


class BodyTooLarge(APIException):
    status_code = 413


def _body(request: Request) -> Any:
    """The parsed body. Raises ParseError or BodyTooLarge: DRF reads a stream that Django's own limit does not see."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isdecimal() and int(length) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        raise BodyTooLarge("Send fewer events at once.", code="body_too_large")
    return request.data


def _read_events(request: Request) -> list[Reported]:
    """The events of a request. Raises ParseError, TooManyEvents or BodyTooLarge.

    Nesting can exhaust the stack while a body is parsed and also later, where a field turns a value into text.
    """
    try:
        return [_reported(item) for item in _items(_body(request))]
    except RecursionError:
        raise ParseError("This is nested too deeply.") from None


def _items(body: Any) -> list[Any]:
    """The events of a body: one object, or a list under `events`. Raises ParseError or TooManyEvents."""
    if not isinstance(body, dict) or not body:
        raise ParseError('Send one event, or {"events": [...]}.')
    items = body.get("events", [body]) if "events" in body else [body]
    if not isinstance(items, list) or not items:
        raise ParseError("`events` has to be a list with at least one event.")
    if len(items) > settings.MAX_TRACK_EVENTS:
        raise TooManyEvents({"events": f"At most {settings.MAX_TRACK_EVENTS} events at once."})
    return items


def _reported(item: Any) -> Reported:
    """An item as an event; what is wrong with its shape becomes its verdict, not the batch's."""
    if not isinstance(item, dict):
        return Reported(problem=("invalid", "event"))
    shape = TrackView.Input(data=item)
    unknown = next((name for name in item if name not in shape.fields), None)
    if unknown is not None:
        return Reported(problem=("unknown_field", unknown[:MAX_SHOWN_NAME]))
    if "time" in item and "occurred_at" in item:
        return Reported(problem=("given_twice", "time"))
    if shape.is_valid():
        return _from_fields(shape.validated_data)
    field, errors = next(iter(shape.errors.items()))
    first = errors[0] if isinstance(errors, list) else next(iter(errors.values()))[0]
    return Reported(problem=(getattr(first, "code", "invalid"), field))


def _from_fields(fields: dict[str, Any]) -> Reported:
    time_field = "occurred_at" if "occurred_at" in fields else "time"
    return Reported(occurred_at=fields.pop(time_field, None), time_field=time_field, **fields)


def _shown(verdict: EventVerdict) -> dict[str, str]:
    shown = {
        "status": verdict.status,
        "code": verdict.code,
        "field": verdict.field,
        "event_id": verdict.event_id,
    }
    return {name: value for name, value in shown.items() if value}
