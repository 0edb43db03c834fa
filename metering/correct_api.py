"""The JSON API of corrections: an owner's service says what an event should have been."""

from decimal import Decimal
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_serializer
from redis.exceptions import RedisError
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import Organization
from core.api_errors import Unavailable
from core.clock import now
from core.schema import problems
from keys.authentication import HasOwnerScope, Owner, OwnerKeyAuthentication
from keys.models import OwnerScope
from metering.models import QUANTITY
from metering.reconcile import plain
from metering.usage_corrections import REASON_LENGTH, Corrected, UnknownEvent, correct_usage


class CorrectView(APIView):
    """Correct one event of the ledger. The event stays; rows that name it make the difference."""

    authentication_classes = [OwnerKeyAuthentication]
    permission_classes = [IsAuthenticated, HasOwnerScope]
    owner_scope = OwnerScope.USAGE

    @extend_schema_serializer(component_name="Correction")
    class Input(serializers.Serializer[Any]):
        organization = serializers.CharField(max_length=40, help_text="Public id: org_...")
        event_id = serializers.UUIDField(help_text="Of the ledger, as `track` answered it.")
        quantity = serializers.DecimalField(
            **QUANTITY, min_value=Decimal(0), allow_null=True,
            help_text="What it should have been, in the meter's unit. Null: nothing at all, the event is void.",
        )  # fmt: skip
        reason = serializers.CharField(
            max_length=REASON_LENGTH, help_text="Why; kept in the customer's audit log."
        )

        def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
            unknown = sorted(set(self.initial_data) - set(self.fields))
            if unknown:
                raise serializers.ValidationError(
                    {unknown[0][:80]: serializers.ErrorDetail("This field is not known.", "unknown_field")}
                )
            return attrs

    @extend_schema_serializer(component_name="Corrected")
    class Output(serializers.Serializer[Any]):
        event_id = serializers.UUIDField()
        before = serializers.CharField(help_text="What the event came to before this.")
        quantity = serializers.CharField(help_text="What it comes to now; 0 when it is void.")
        corrections = serializers.ListField(
            child=serializers.UUIDField(), help_text="Events that this added; none when it was so already."
        )

    @extend_schema(
        operation_id="correct_usage",
        summary="Correct an event that was counted wrongly",
        request=Input,
        responses={
            200: OpenApiResponse(Output, "The event comes to the quantity asked for; asking again changes nothing."),
            **problems(400, 401, 403, 404, 409, 415, 503),
        },
        examples=[
            OpenApiExample(
                "3 instead of 5",
                value={
                    "organization": "org_7Fh2k9QmZr4TtX1b", "event_id": "019a0f0e-7d3c-7c41-8a52-0d5b1c9d2f10",
                    "quantity": "3", "reason": "two calls of our own test",
                },
                request_only=True,
            )
        ],
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        try:
            shape = self.Input(data=request.data)
            shape.is_valid(raise_exception=True)
        except RecursionError:
            raise ParseError("This is nested too deeply.") from None
        fields = shape.validated_data
        organization = Organization.objects.filter(public_id=fields["organization"]).first()
        if organization is None:
            raise UnknownEvent("There is no such organization.")
        caller = request.user
        try:
            corrected = correct_usage(
                fields["event_id"], organization=organization, quantity=fields["quantity"], reason=fields["reason"],
                by=None, at=now(), through=caller.name if isinstance(caller, Owner) else "",
            )  # fmt: skip
        except RedisError as error:
            raise Unavailable from error
        return Response(_shown(corrected))


def _shown(corrected: Corrected) -> dict[str, Any]:
    return {
        "event_id": str(corrected.event.id),
        "before": plain(corrected.before),
        "quantity": plain(corrected.quantity),
        "corrections": [str(row) for row in corrected.rows],
    }
