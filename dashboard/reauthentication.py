"""Sensitive acts ask for the password again when it was not typed within the last minutes."""

from collections.abc import Callable
from typing import cast

from allauth.account.decorators import reauthentication_required
from django.http import HttpResponseBase

View = Callable[..., HttpResponseBase]


def recently_proven(view: View) -> View:
    """Run a POST only for somebody who proved to be the person; allauth asks, then carries the same POST out.

    A GET passes, so that the address may be opened after the password was asked.
    """
    return cast(View, reauthentication_required(view, allow_get=True))
