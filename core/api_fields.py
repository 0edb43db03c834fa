"""Reading the body of a request to the JSON API."""

from typing import Any

from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.request import Request
from rest_framework.serializers import Serializer


def read_fields(shape: type[Serializer[Any]], request: Request, *, strict: bool = False) -> dict[str, Any]:
    """The body's fields, validated; `strict` refuses fields that the shape does not know. Raises ParseError,
    ValidationError. Nesting can exhaust the stack while a body is parsed and also where a field turns it into text."""
    try:
        found = shape(data=request.data)
        found.is_valid(raise_exception=True)
        unknown = [name for name in request.data if name not in found.fields] if strict else []
    except RecursionError:
        raise ParseError("This is nested too deeply.") from None
    if unknown:
        raise ValidationError({name: "There is no such field." for name in unknown})
    return dict(found.validated_data)
