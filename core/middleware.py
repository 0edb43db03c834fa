"""Middleware of the portal: request id, health, and the rendering of our errors."""

from collections.abc import Callable

import structlog
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from core.errors import PortalError, problem
from core.redis import usage_redis_thread
from core.request_id import current_request_id, new_request_id

Handler = Callable[[HttpRequest], HttpResponse]
log = structlog.get_logger(__name__)


class RequestIdMiddleware:
    """Every answer carries `X-Request-Id`; every log line of the request carries it too."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = new_request_id()
        request.META["HTTP_X_REQUEST_ID"] = (
            request_id  # read by the logging middleware; a client's own is dropped
        )
        token = current_request_id.set(request_id)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            response = self.get_response(request)
        finally:
            current_request_id.reset(token)
            structlog.contextvars.clear_contextvars()
        response["X-Request-Id"] = request_id
        return response


class HealthMiddleware:
    """`/livez`: the process answers. `/readyz`: PostgreSQL and Redis answer too. Before hosts, sessions and redirects."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/livez":
            return JsonResponse({"status": "ok"})
        if request.path == "/readyz":
            checks = {
                "postgres": _answers(_ask_postgres),
                "redis": _answers(_ask_redis),
            }
            ready = all(checks.values())
            return JsonResponse(
                {"status": "ok" if ready else "unavailable", **checks},
                status=200 if ready else 503,
            )
        return self.get_response(request)


MACHINES = ("/api/", "/webhooks/")


class ErrorMiddleware:
    """Our errors as pages for browsers and as problem documents for programs."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # No name holds a NUL, and PostgreSQL refuses to compare with one. The API names the parameter itself (400).
        is_page = not request.path.startswith("/api/")
        if "\x00" in request.path or (is_page and "%00" in request.META.get("QUERY_STRING", "")):
            raise Http404
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, PortalError):
            return None
        if request.path.startswith(MACHINES):
            return problem_response(error, request.path)
        if error.status == 404:
            raise Http404
        if error.status == 403:
            raise PermissionDenied(error.detail)
        return render(request, "errors/refused.html", {"error": error}, status=error.status)


def problem_response(error: PortalError, instance: str = "") -> JsonResponse:
    """A PortalError as RFC 9457 document, for views outside DRF."""
    body = problem(
        code=error.code,
        status=error.status,
        title=error.title,
        detail=error.detail,
        request_id=current_request_id.get(),
        instance=instance,
        docs_url=settings.PORTAL_URL,
    )
    return JsonResponse(body, status=error.status, content_type="application/problem+json")


def _answers(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except Exception as error:  # any failure of a dependency means "not ready", whatever its class
        log.warning("readiness_check_failed", check=ask.__name__, error=type(error).__name__)
        return False
    return True


def _ask_postgres() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _ask_redis() -> None:
    usage_redis_thread().execute("PING")
