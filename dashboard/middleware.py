"""Times are shown in the reader's zone: the one the browser told (cookie `tz`), else UTC."""

from collections.abc import Callable
from zoneinfo import available_timezones

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

ZONES = frozenset(available_timezones())


class TimeZoneMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        name = _zone_name(request)
        if name is None:
            return self.get_response(request)
        with timezone.override(name):
            return self.get_response(request)


def _zone_name(request: HttpRequest) -> str | None:
    """The cookie comes first: to read the profile costs a query on pages that need none."""
    cookie = request.COOKIES.get("tz", "")
    return cookie if cookie in ZONES else None
