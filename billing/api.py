"""The JSON API of documents: a customer's statements, final and running, with the lines of page and PDF."""

from typing import Any

from django.db import InterfaceError, OperationalError
from django.db.models import Q
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import Organization
from billing.drafts import DraftLine, draft_lines, stored_lines
from billing.models import Invoice, Statement, StatementKind
from billing.wording import display_lines, plain
from core.clock import now
from core.schema import problems
from metering.answers import KEY_UNKNOWN_NOW, MISSING_KEY
from metering.api import AccountThrottle
from metering.costs import period_cost
from metering.drf import Caller, CallRefused, FareboxKeyAuthentication, current_record
from plans.queries import find_period

PAGE, MOST = 50, 500


@extend_schema_serializer(component_name="StatementTier")
class TierOutput(serializers.Serializer[Any]):
    range = serializers.CharField(help_text="In words: `10,000 to 50,000`.")
    start = serializers.CharField()
    end = serializers.CharField(allow_null=True, help_text="Null: no end.")
    quantity = serializers.CharField()
    unit_price = serializers.CharField(help_text="Major currency units.")
    flat = serializers.CharField(help_text="Charged once, major currency units.")
    amount = serializers.CharField(help_text="Exact, major currency units; the line is rounded once.")


@extend_schema_serializer(component_name="StatementLine")
class LineOutput(serializers.Serializer[Any]):
    position = serializers.IntegerField()
    kind = serializers.CharField(
        help_text="fee, fee_credit, usage, minimum, write_off, adjustment or credit."
    )
    text = serializers.CharField()
    detail = serializers.CharField()
    meter = serializers.CharField(help_text="Slug; empty where nothing is metered.")
    unit = serializers.CharField()
    quantity = serializers.CharField()
    amount_minor = serializers.IntegerField(help_text="Minor currency units, rounded half up.")
    amount = serializers.CharField(help_text="In words: `$2.50`.")
    tiers = TierOutput(many=True)


@extend_schema_serializer(component_name="Statement")
class StatementOutput(serializers.Serializer[Any]):
    id = serializers.CharField(help_text="stm_...; empty for the running period.")
    number = serializers.CharField()
    kind = serializers.ChoiceField(choices=StatementKind.choices)
    state = serializers.ChoiceField(choices=["draft", "finalised", "void"])
    currency = serializers.CharField()
    total_minor = serializers.IntegerField()
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField(help_text="The first moment of the next period.")
    cut_at = serializers.DateTimeField(allow_null=True, help_text="Usage recorded up to here is in it.")
    finalised_at = serializers.DateTimeField(allow_null=True)
    corrects = serializers.CharField(allow_null=True, help_text="Number of the document it belongs to.")
    invoice_state = serializers.CharField(
        allow_null=True, help_text="open, past_due, paid, void or uncollectible; null: no invoice."
    )
    due_minor = serializers.IntegerField(help_text="What is still to be paid.")
    due_at = serializers.DateTimeField(allow_null=True)


@extend_schema_serializer(component_name="StatementWithLines")
class StatementWithLinesOutput(StatementOutput):
    lines = LineOutput(many=True)


class StatementPageOutput(serializers.Serializer[Any]):
    statements = StatementOutput(many=True)
    next = serializers.CharField(allow_null=True, help_text="Give it as `cursor` for the next page.")


class StatementQuery(serializers.Serializer[Any]):
    limit = serializers.IntegerField(default=PAGE, min_value=1, max_value=MOST)
    cursor = serializers.CharField(required=False, max_length=40)


class StatementListView(APIView):
    """A customer's documents, newest first. Free, with a live or test key of the organization."""

    authentication_classes = [FareboxKeyAuthentication]
    throttle_classes = [AccountThrottle]

    @extend_schema(
        operation_id="statements",
        summary="Your statements, adjustments and credit notes",
        parameters=[StatementQuery],
        responses={
            200: OpenApiResponse(StatementPageOutput, "Newest first."),
            **problems(400, 401, 429, 503),
        },
    )
    def get(self, request: Request) -> Response:
        organization = _organization(request)
        asked = known_query(request, StatementQuery)
        limit = asked["limit"]
        rows = Statement.objects.for_organization(organization).select_related("invoice", "corrects")
        if "cursor" in asked:
            last = rows.filter(public_id=asked["cursor"]).first()
            if last is None:
                raise ValidationError({"cursor": "This is no cursor of this list."})
            at = last.finalised_at
            rows = rows.filter(Q(finalised_at__lt=at) | Q(finalised_at=at, pk__lt=last.pk))
        found = list(rows[: limit + 1])
        following = found[limit - 1].public_id if len(found) > limit else None
        answer = Response({"statements": [_facts(one) for one in found[:limit]], "next": following})
        return with_next(answer, request, following)


class StatementView(APIView):
    """One document with its lines and tiers."""

    authentication_classes = [FareboxKeyAuthentication]
    throttle_classes = [AccountThrottle]

    @extend_schema(
        operation_id="statement",
        summary="One statement with lines and tiers",
        parameters=[
            OpenApiParameter(
                "statement",
                str,
                OpenApiParameter.PATH,
                description="Its id (`stm_...`), its number (`ACME-0007`), or `upcoming` for the running period so far.",
            )
        ],
        responses={
            200: OpenApiResponse(StatementWithLinesOutput, "The document."),
            **problems(401, 404, 429, 503),
        },
    )
    def get(self, request: Request, statement: str) -> Response:
        organization = _organization(request)
        if statement == "upcoming":
            return Response(_upcoming(organization))
        rows = Statement.objects.for_organization(organization).select_related("invoice", "corrects")
        found = rows.filter(Q(public_id=statement) | Q(number=statement)).first()
        if found is None:
            raise NotFound
        return Response(_facts(found) | {"lines": lines_as_json(stored_lines(found), found.currency)})


def known_query(request: Request, shape: type[serializers.Serializer[Any]], *others: str) -> dict[str, Any]:
    """The parameters as this shape reads them; `others` are read elsewhere. Raises ValidationError, also for unknown ones."""
    given = {name: value for name, value in request.query_params.items() if name not in others}
    read = shape(data=given)
    if unknown := next((name for name in given if name not in read.fields), None):
        raise ValidationError({unknown[:60]: serializers.ErrorDetail("This is not known.", "unknown_field")})
    read.is_valid(raise_exception=True)
    fields: dict[str, Any] = read.validated_data
    return fields


def with_next(answer: Response, request: Request, cursor: str | None) -> Response:
    """The address of the next page in the head, for clients that follow links."""
    if cursor:
        query = request.query_params.copy()
        query["cursor"] = cursor
        answer["Link"] = f'<{request.path}?{query.urlencode()}>; rel="next"'
    return answer


def lines_as_json(lines: list[DraftLine], currency: str) -> list[dict[str, Any]]:
    """Lines and tiers for programs, with the words that people read."""
    return [
        {
            "position": words.position,
            "kind": line.kind,
            "text": words.text,
            "detail": words.detail,
            "meter": line.meter,
            "unit": line.unit,
            "quantity": plain(line.quantity),
            "amount_minor": line.amount_minor,
            "amount": words.amount,
            "tiers": [
                {
                    "range": tier_words.range,
                    "start": plain(tier.start),
                    "end": None if tier.end is None else plain(tier.end),
                    "quantity": plain(tier.quantity),
                    "unit_price": plain(tier.unit_price),
                    "flat": plain(tier.flat),
                    "amount": plain(tier.amount),
                }
                for tier, tier_words in zip(line.tiers, words.tiers, strict=True)
            ],
        }
        for line, words in zip(lines, display_lines(lines, currency=currency), strict=True)
    ]


def _organization(request: Request) -> Organization:
    caller = request.user
    if not isinstance(caller, Caller):
        raise CallRefused(MISSING_KEY)
    record = current_record(caller)
    try:
        return Organization.objects.get(pk=record.organization_id)
    except (OperationalError, InterfaceError) as error:
        raise CallRefused(KEY_UNKNOWN_NOW) from error


def _facts(statement: Statement) -> dict[str, Any]:
    invoice: Invoice | None = getattr(statement, "invoice", None)
    return {
        "id": statement.public_id,
        "number": statement.number,
        "kind": statement.kind,
        "state": statement.state,
        "currency": statement.currency,
        "total_minor": statement.total_minor,
        "period_start": statement.starts_at.isoformat(),
        "period_end": statement.ends_at.isoformat(),
        "cut_at": statement.cut_at.isoformat(),
        "finalised_at": statement.finalised_at.isoformat(),
        "corrects": statement.corrects.number if statement.corrects else None,
        "invoice_state": invoice.state if invoice else None,
        "due_minor": invoice.due_minor if invoice else 0,
        "due_at": invoice.due_at.isoformat() if invoice and invoice.is_unpaid else None,
    }


def _upcoming(organization: Organization) -> dict[str, Any]:
    """The running period so far, in the shape of a statement. Raises NotFound without a plan."""
    at = now()
    period = find_period(organization, at=at)
    if period is None:
        raise NotFound
    rated = period_cost(organization, period=period)
    return {
        "id": "",
        "number": "",
        "kind": "period",
        "state": "draft",
        "currency": rated.currency,
        "total_minor": rated.total_minor,
        "period_start": period.starts_at.isoformat(),
        "period_end": period.ends_at.isoformat(),
        "cut_at": at.isoformat(),
        "finalised_at": None,
        "corrects": None,
        "invoice_state": None,
        "due_minor": 0,
        "due_at": None,
        "lines": lines_as_json(draft_lines(rated), rated.currency),
    }
