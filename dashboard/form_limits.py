"""Limits on forms (django-ratelimit): by person where somebody is signed in, else by address."""

from collections.abc import Callable
from typing import cast

from allauth.account.adapter import get_adapter
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django_ratelimit.decorators import ratelimit

View = Callable[..., HttpResponseBase]


def limit_posts(rate: str) -> Callable[[View], View]:
    """At most `rate` (for example "30/h") POSTs; above it the view is not run and the page of status 429 is shown.

    A rate in capitals is the name of a setting.
    """

    def rate_now(group: str, request: HttpRequest) -> str:
        return cast(str, getattr(settings, rate)) if rate.isupper() else rate

    guard = ratelimit(key=_person_or_address, rate=rate_now, method="POST", block=True)  # type: ignore[no-untyped-call]
    return cast(Callable[[View], View], guard)


def _person_or_address(group: str, request: HttpRequest) -> str:
    """The client's address behind as many proxies as are trusted, the same that limits sign-in."""
    if request.user.is_authenticated:
        return f"user:{request.user.pk}"
    return f"address:{get_adapter().get_client_ip(request)}"
