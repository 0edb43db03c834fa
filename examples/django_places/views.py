"""The sample's places, served in-process and guarded by the DRF door: how any DRF view of an owner is sold."""

from functools import cache

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.schema import problems
from examples.places import cities
from metering.drf import MeteredMixin, MeteredRoute

_PROBLEMS = problems(400, 401, 402, 403, 429, 503)


@cache
def _index() -> cities.CityIndex:
    return cities.load_index()


class SearchView(MeteredMixin):
    """Cities by name, best first."""

    metered = MeteredRoute("places", "/v1/search")

    class Query(serializers.Serializer[None]):
        q = serializers.CharField(max_length=100)
        limit = serializers.IntegerField(min_value=1, max_value=50, default=10)

    @extend_schema(
        operation_id="places_search",
        summary="Cities by name",
        parameters=[Query],
        responses={200: dict, **_PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        query = self.Query(data=request.query_params)
        query.is_valid(raise_exception=True)
        found = cities.search(_index(), query.validated_data["q"], limit=query.validated_data["limit"])
        return Response({"results": [city._asdict() for city, _ in found]})


class ReverseView(MeteredMixin):
    """The cities nearest to a point."""

    metered = MeteredRoute("places", "/v1/reverse")

    class Query(serializers.Serializer[None]):
        lat = serializers.FloatField(min_value=-90, max_value=90)
        lon = serializers.FloatField(min_value=-180, max_value=180)

    @extend_schema(
        operation_id="places_reverse",
        summary="The cities nearest to a point",
        parameters=[Query],
        responses={200: dict, **_PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        query = self.Query(data=request.query_params)
        query.is_valid(raise_exception=True)
        found = cities.reverse(_index(), query.validated_data["lat"], query.validated_data["lon"])
        return Response({"results": [city._asdict() for city, _ in found]})
