"""Which function answers which method and path."""

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from stripe_standin.params import Params

if TYPE_CHECKING:
    from stripe_standin.world import World

Handler = Callable[..., Any]
_ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []


def route(method: str, path: str) -> Callable[[Handler], Handler]:
    """`/v1/customers/{id}`: what stands in braces is passed after the parameters, in order."""
    pattern = re.compile("^" + re.sub(r"\{\w+\}", "([^/]+)", path) + "/?$")

    def register(handler: Handler) -> Handler:
        _ROUTES.append((method, pattern, handler))
        # Fixed paths win over placeholders (/v1/invoices/create_preview, /v1/customers/search).
        _ROUTES.sort(key=lambda each: each[1].pattern.count("([^/]+)"))
        return handler

    return register


def _called(handler: Handler, groups: tuple[str, ...], world: "World", params: Params) -> Any:
    return handler(world, params, *groups)


def find(method: str, path: str) -> Callable[["World", Params], Any] | None:
    for verb, pattern, handler in _ROUTES:
        if verb == method and (match := pattern.match(path)):
            return partial(_called, handler, match.groups())
    return None
