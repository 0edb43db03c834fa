"""The shape of errors in the OpenAPI document."""

from typing import Any

from rest_framework import serializers


class ProblemSerializer(serializers.Serializer[Any]):
    """RFC 9457 problem document (`application/problem+json`)."""

    type = serializers.URLField(help_text="Where the code is explained.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField(help_text="For programs; stable.")
    request_id = serializers.CharField(help_text="Name it when you write to support.")
    instance = serializers.CharField(required=False)
    errors = serializers.ListField(child=serializers.DictField(), required=False)  # type: ignore[assignment]


def problems(*statuses: int) -> dict[tuple[int, str], type[ProblemSerializer]]:
    """Responses of an operation that are problem documents, for `extend_schema(responses=...)`."""
    return {(status, "application/problem+json"): ProblemSerializer for status in statuses}
