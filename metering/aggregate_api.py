"""The JSON API that counts a range of totals again: for an owner's service that wants to be sure."""

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import NotFound, ParseError
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import Organization
from core.hours import ceil_hour, check_moment, floor_hour
from core.schema import problems
from keys.authentication import HasOwnerScope, OwnerKeyAuthentication
from keys.models import OwnerScope
from metering.range_check import recount_range
from metering.reconcile import plain

LONGEST = timedelta(days=366)


class AggregateView(APIView):
    """Compare hourly totals with the events they are of. Idempotent; holds up the organization's drain while it counts."""

    authentication_classes = [OwnerKeyAuthentication]
    permission_classes = [IsAuthenticated, HasOwnerScope]
    owner_scope = OwnerScope.USAGE

    @extend_schema_serializer(component_name="Aggregate")
    class Input(serializers.Serializer[Any]):
        organization = serializers.CharField(max_length=40, help_text="Public id: org_...")
        start = serializers.DateTimeField(
            validators=[check_moment], help_text="Rounded down to the hour (UTC)."
        )
        end = serializers.DateTimeField(
            validators=[check_moment],
            help_text="Not included; rounded up to the hour. At most 366 days later.",
        )
        repair = serializers.BooleanField(
            default=False, help_text="Where something differs, count the organization's totals again."
        )

        def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
            if not timedelta(0) < attrs["end"] - attrs["start"] <= LONGEST:
                raise serializers.ValidationError({"end": "After the start, by at most 366 days."})
            return attrs

    @extend_schema_serializer(component_name="AggregateDifference")
    class Difference(serializers.Serializer[Any]):
        mode = serializers.CharField()
        meter = serializers.CharField()
        hour = serializers.DateTimeField()
        dimension = serializers.CharField()
        stored = serializers.CharField(help_text="What the total said.")
        counted = serializers.CharField(help_text="What the events say.")
        stored_calls = serializers.IntegerField()
        counted_calls = serializers.IntegerField()

    @extend_schema_serializer(component_name="Aggregated")
    class Output(serializers.Serializer[Any]):
        organization = serializers.CharField()
        start = serializers.DateTimeField()
        end = serializers.DateTimeField()
        repaired = serializers.BooleanField()

        def get_fields(self) -> dict[str, Any]:
            return super().get_fields() | {
                "differences": AggregateView.Difference(
                    many=True, help_text="At most 1,000; none when all is right."
                )
            }

    @extend_schema(
        operation_id="aggregate_usage",
        summary="Count the totals of a range again from events",
        request=Input,
        responses={200: OpenApiResponse(Output, "What differed."), **problems(400, 401, 403, 404, 415, 503)},
    )
    def post(self, request: Request) -> Response:
        try:
            shape = self.Input(data=request.data)
            shape.is_valid(raise_exception=True)
        except RecursionError:
            raise ParseError("This is nested too deeply.") from None
        fields = shape.validated_data
        organization = Organization.objects.filter(public_id=fields["organization"]).first()
        if organization is None:
            raise NotFound
        start, end = floor_hour(fields["start"]), ceil_hour(fields["end"])
        check = recount_range(organization, start=start, end=end, repair=fields["repair"])
        return Response(
            {
                "organization": organization.public_id,
                "start": start.isoformat(),
                "end": end.isoformat(),
                "repaired": check.repaired,
                "differences": [
                    {
                        "mode": one.mode, "meter": one.meter, "hour": one.hour.isoformat(), "dimension": one.dimension,
                        "stored": plain(one.stored), "counted": plain(one.counted), "stored_calls": one.stored_count,
                        "counted_calls": one.counted_count,
                    }
                    for one in check.differences
                ],
            }
        )  # fmt: skip
