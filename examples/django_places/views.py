"""The sample's places, served in-process and guarded by the DRF door: how any DRF view of an owner is sold."""

import math
from concurrent.futures import Future
from functools import cache
from threading import Thread

from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.schema import problems
from examples.places import cities
from metering.drf import MeteredMixin, MeteredRoute

_PROBLEMS = problems(400, 401, 402, 403, 404, 429, 503)


@cache
def _loading() -> Future[cities.CityIndex]:
    """Two seconds of reading, begun once in each process that serves these views; a fault is told to every call."""
    index: Future[cities.CityIndex] = Future()

    def load() -> None:
        try:
            index.set_result(cities.load_index())
        except Exception as error:
            index.set_exception(error)

    Thread(target=load, name="places-index", daemon=True).start()
    return index


def warm_up() -> None:
    """Begin to read the cities, so that no call has to wait for them."""
    _loading()


def _index() -> cities.CityIndex:
    return _loading().result()


@extend_schema_serializer(component_name="City")
class City(serializers.Serializer[None]):
    id = serializers.IntegerField(help_text="Of GeoNames.")
    name = serializers.CharField()
    country = serializers.CharField(help_text="Two letters, ISO 3166.")
    country_name = serializers.CharField()
    latitude = serializers.FloatField()
    longitude = serializers.FloatField()
    population = serializers.IntegerField()
    timezone = serializers.CharField()
    distance_km = serializers.FloatField(required=False)


@extend_schema_serializer(component_name="Cities")
class Cities(serializers.Serializer[None]):
    results = City(many=True)


class Degrees(serializers.FloatField):
    """A finite number: `nan` is neither below a minimum nor above a maximum."""

    def to_internal_value(self, data: float | int | str) -> float:
        degrees = super().to_internal_value(data)
        if not math.isfinite(degrees):
            self.fail("invalid")
        return degrees


class SearchView(MeteredMixin):
    """Cities by name, best first."""

    metered = MeteredRoute("places", "/v1/search")

    class Query(serializers.Serializer[None]):
        q = serializers.CharField(max_length=100)
        limit = serializers.IntegerField(min_value=1, max_value=50, default=10)

    @extend_schema(
        operation_id="places_search",
        summary="Cities by name",
        tags=["places"],
        parameters=[Query],
        responses={200: OpenApiResponse(Cities, "What was found, best first."), **_PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        query = self.Query(data=request.query_params)
        query.is_valid(raise_exception=True)
        found = cities.search(_index(), query.validated_data["q"], limit=query.validated_data["limit"])
        return Response({"results": [city._asdict() for city, _ in found]})


class ReverseView(MeteredMixin):
    """The city nearest to a point."""

    metered = MeteredRoute("places", "/v1/reverse")

    class Query(serializers.Serializer[None]):
        lat = Degrees(min_value=-90, max_value=90)
        lon = Degrees(min_value=-180, max_value=180)

    @extend_schema(
        operation_id="places_reverse",
        summary="The city nearest to a point",
        tags=["places"],
        parameters=[Query],
        responses={200: OpenApiResponse(Cities, "What was found, best first."), **_PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        query = self.Query(data=request.query_params)
        query.is_valid(raise_exception=True)
        found = cities.reverse(_index(), query.validated_data["lat"], query.validated_data["lon"])
        return Response({"results": [{**city._asdict(), "distance_km": round(km, 3)} for city, km in found]})
