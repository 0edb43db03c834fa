"""Search: the part of Stripe's query language that clients use: `field:'value'`, `metadata['key']:'value'`, joined by AND."""

import re
from typing import Any

from stripe_standin.errors import invalid
from stripe_standin.params import Params
from stripe_standin.routing import route
from stripe_standin.store import Obj
from stripe_standin.world import World

_CLAUSE = re.compile(r"""^(-?)(\w+)(?:\[['"]([^'"]+)['"]\])?([:~<>=]+)['"]?(.*?)['"]?$""")


def _matches(obj: Obj, clause: str) -> bool:
    parsed = _CLAUSE.match(clause.strip())
    if not parsed:
        raise invalid(f"We were unable to parse your search query: {clause}", param="query")
    negated, name, key, operator, wanted = parsed.groups()
    value: Any = obj.get(name)
    if key is not None:
        value = (value or {}).get(key)
    if operator == "~":
        found = wanted.lower() in str(value or "").lower()
    elif operator == ":":
        found = (value is None and wanted == "null") or _text(value) == wanted
    else:
        number = int(wanted)
        found = (
            value is not None
            and {
                "<": value < number,
                "<=": value <= number,
                ">": value > number,
                ">=": value >= number,
                "=": value == number,
            }[operator]
        )
    return found != bool(negated)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _searchable(kind: str, path: str) -> None:
    @route("GET", f"{path}/search")
    def search(world: World, params: Params) -> Obj:
        clauses = re.split(r"\s+AND\s+|\s+and\s+", params.required("query"))
        limit, page = params.number("limit", 10) or 10, params.number("page", 0) or 0
        found = [
            obj
            for obj in world.store.where(kind)
            if not obj.get("_deleted") and all(_matches(obj, each) for each in clauses)
        ][::-1]
        more = len(found) > page + limit
        return {
            "object": "search_result",
            "data": [obj for obj in found[page : page + limit]],
            "has_more": more,
            "next_page": str(page + limit) if more else None,
            "url": f"{path}/search",
        }


for _kind, _path in (
    ("customer", "/v1/customers"),
    ("product", "/v1/products"),
    ("price", "/v1/prices"),
    ("subscription", "/v1/subscriptions"),
    ("invoice", "/v1/invoices"),
    ("charge", "/v1/charges"),
    ("payment_intent", "/v1/payment_intents"),
):
    _searchable(_kind, _path)
