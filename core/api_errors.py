"""DRF's errors as RFC 9457 problem documents (`application/problem+json`)."""

from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError
from drf_standardized_errors.formatter import ExceptionFormatter
from drf_standardized_errors.handler import exception_handler as standardized_handler
from drf_standardized_errors.types import ErrorResponse, ExceptionHandlerContext
from rest_framework import exceptions, status
from rest_framework.response import Response

from core.errors import PortalError, problem
from core.request_id import current_request_id

_TITLES = {
    400: "The request is not valid",
    401: "Credentials are missing or wrong",
    403: "This is not allowed",
    404: "There is nothing here",
    405: "This method is not allowed here",
    413: "This is too much at once",
    415: "This media type is not supported",
    429: "Too many requests",
    500: "Something went wrong on our side",
}


class Unavailable(PortalError):
    code, status, title = "unavailable", 503, "The service cannot answer now; try again in some seconds"


class ProblemFormatter(ExceptionFormatter):
    """One shape for every error of the API."""

    def format_error_response(self, error_response: ErrorResponse) -> dict[str, Any]:
        first = error_response.errors[0]
        code = "validation_error" if error_response.type == "validation_error" else first.code
        if code == exceptions.APIException.default_code:  # a fault without a name of its own
            code = "internal_error"
        errors = [
            {"code": e.code, "detail": e.detail, "field": e.attr} for e in error_response.errors if e.attr
        ]
        number = getattr(self.exc, "status_code", status.HTTP_500_INTERNAL_SERVER_ERROR)
        return problem(
            code=code,
            status=number,
            title=getattr(self.exc, "title", None) or _TITLES.get(number, PortalError.title),
            detail=first.detail,
            request_id=current_request_id.get(),
            instance=request.path if (request := self.context["request"]) else "",
            docs_url=settings.PORTAL_URL,
            **({"errors": errors} if errors else {}),
        )


def exception_handler(error: Exception, context: ExceptionHandlerContext) -> Response | None:
    """DRF's handler: PortalErrors become API exceptions of the same status and code, all become problem documents."""
    if isinstance(error, (OperationalError, InterfaceError)):
        error = _as_api_exception(Unavailable())
    if isinstance(error, PortalError):
        error = _as_api_exception(error)
    response: Response | None = standardized_handler(error, context)
    if response is not None:
        response.content_type = "application/problem+json"
        response["Content-Type"] = "application/problem+json"
        for name, value in getattr(error, "extra_headers", ()):
            response[name] = value
        if response.status_code == status.HTTP_401_UNAUTHORIZED:
            response.setdefault("WWW-Authenticate", 'Bearer realm="farebox"')
        if response.status_code == status.HTTP_503_SERVICE_UNAVAILABLE:
            response.setdefault("Retry-After", "5")
    return response


def _as_api_exception(error: PortalError) -> exceptions.APIException:
    if error.field:
        return exceptions.ValidationError({error.field: [exceptions.ErrorDetail(error.detail, error.code)]})
    wrapped = exceptions.APIException(error.detail, error.code)
    wrapped.status_code = error.status
    wrapped.title = error.title  # type: ignore[attr-defined]  # read by the formatter
    wrapped.extra_headers = getattr(error, "extra_headers", ())  # type: ignore[attr-defined]  # read above
    return wrapped
