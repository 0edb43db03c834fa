"""Error pages; under /api/ the same facts as problem documents."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from core.errors import Forbidden, NotFound, PortalError
from core.middleware import problem_response
from core.request_id import current_request_id


class ServerError(PortalError):
    code, status, title = "internal_error", 500, "Something went wrong on our side"


class TooManyRequests(PortalError):
    code, status, title = "too_many_requests", 429, "Too many attempts. Wait a little, then try again"


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, NotFound(), "errors/404.html")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, Forbidden(str(exception)), "errors/403.html")


def server_error(request: HttpRequest) -> HttpResponse:
    return _answer(request, ServerError(), "errors/500.html")


def too_many_requests(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, TooManyRequests(), "errors/429.html")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form from before a sign-in or another window. Whoever reloads the answer that showed a first key sends such a
    form: nothing was done, and the page of keys says where the key is."""
    if request.user.is_authenticated and request.path in (
        reverse("account_signup"),
        reverse("dashboard:onboarding"),
    ):
        messages.info(
            request, "A key is shown only once. If you did not copy it, revoke it and create another."
        )
        return redirect("dashboard:key-list")
    return render(request, "403_csrf.html", status=403)


def _answer(request: HttpRequest, error: PortalError, template: str) -> HttpResponse:
    if request.path.startswith("/api/"):
        return problem_response(error, request.path)
    context = {"error": error, "request_id": current_request_id.get()}
    return render(request, template, context, status=error.status)
