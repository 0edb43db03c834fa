"""Limits on forms (django-ratelimit): by person where somebody is signed in, else by address."""

from collections.abc import Callable
from typing import cast

from django.http import HttpResponse
from django_ratelimit.decorators import ratelimit

View = Callable[..., HttpResponse]


def limit_posts(rate: str, *, key: str = "user_or_ip") -> Callable[[View], View]:
    """At most `rate` (for example "30/h") POSTs; above it the view is not run and the page of status 429 is shown."""
    guard = ratelimit(key=key, rate=rate, method="POST", block=True)  # type: ignore[no-untyped-call]
    return cast(Callable[[View], View], guard)
