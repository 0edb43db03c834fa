"""The shape of errors in the OpenAPI document."""

from typing import Any

from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers

_MEANINGS = {
    400: "The request is not valid.",
    401: "No key, or one that is not valid.",
    402: "The organization's door is closed: suspended, trial over, cancelled, or payment overdue.",
    403: "The key's scopes or the plan do not include this.",
    404: "It is not sold (any more).",
    409: "It cannot be done to this, as it stands now; `detail` says why.",
    413: "Too many events, or a body that is too large.",
    415: "The body is not JSON.",
    422: "The `Idempotency-Key` was sent with another request.",
    429: "A rate limit or a quota is reached; `Retry-After` says when to come back.",
    503: "Not let through because it could not be metered or checked. Nothing was charged; try again.",
}


class FieldErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    detail = serializers.CharField()
    field = serializers.CharField(help_text="The parameter or field that it is about.")


class ProblemSerializer(serializers.Serializer[Any]):
    """RFC 9457 problem document (`application/problem+json`)."""

    type = serializers.URLField(help_text="Where the code is explained.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField(help_text="For programs; stable.")
    request_id = serializers.CharField(help_text="Name it when you write to support.")
    instance = serializers.CharField(required=False)

    def get_fields(self) -> dict[str, Any]:  # `errors` is a property of the base, so it cannot be declared
        return super().get_fields() | {"errors": FieldErrorSerializer(many=True, required=False)}


def problems(*statuses: int) -> dict[tuple[int, str], OpenApiResponse]:
    """Responses of an operation that are problem documents, for `extend_schema(responses=...)`."""
    return {
        (status, "application/problem+json"): OpenApiResponse(ProblemSerializer, _MEANINGS[status])
        for status in statuses
    }
