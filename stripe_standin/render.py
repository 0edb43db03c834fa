"""From stored objects to answers: parts that live in other tables, fields shown only on `expand`, expansion of ids."""

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from stripe_standin.errors import invalid
from stripe_standin.store import Obj

if TYPE_CHECKING:
    from stripe_standin.world import World

# Always part of the answer (the items of a subscription); only when expanded (the tiers of a price).
VIEWS: dict[str, Callable[["World", Obj], Obj]] = {}
ON_EXPAND: dict[tuple[str, str], Callable[["World", Obj], Any]] = {}

# Which table the id in a field belongs to.
_REFERS = {
    "charge": "charge",
    "coupon": "coupon",
    "credit_note": "credit_note",
    "customer": "customer",
    "default_payment_method": "payment_method",
    "default_price": "price",
    "discount": "discount",
    "invoice": "invoice",
    "balance_transaction": "balance_transaction",
    "latest_charge": "charge",
    "latest_invoice": "invoice",
    "payment_intent": "payment_intent",
    "payment_method": "payment_method",
    "pending_setup_intent": "setup_intent",
    "price": "price",
    "product": "product",
    "promotion_code": "promotion_code",
    "refund": "refund",
    "setup_intent": "setup_intent",
    "schedule": "subscription_schedule",
    "subscription": "subscription",
    "tax_rate": "tax_rate",
    "test_clock": "test_helpers.test_clock",
    "configuration": "billing_portal.configuration",
}
_MANY = {"discounts": "discount", "account_tax_ids": "tax_id"}


def view(kind: str) -> Callable[[Callable[["World", Obj], Obj]], Callable[["World", Obj], Obj]]:
    def register(function: Callable[["World", Obj], Obj]) -> Callable[["World", Obj], Obj]:
        VIEWS[kind] = function
        return function

    return register


def on_expand(
    kind: str, field: str
) -> Callable[[Callable[["World", Obj], Any]], Callable[["World", Obj], Any]]:
    def register(function: Callable[["World", Obj], Any]) -> Callable[["World", Obj], Any]:
        ON_EXPAND[kind, field] = function
        return function

    return register


def listing(url: str, objects: Iterable[Obj], *, more: bool = False) -> Obj:
    return {"object": "list", "data": list(objects), "has_more": more, "url": url}


def shown(world: "World", obj: Obj) -> Obj:
    """A copy as Stripe shows it without `expand`: safe to keep (events) and to change."""
    plain: Obj = json.loads(json.dumps({key: value for key, value in obj.items() if not key.startswith("_")}))
    make = VIEWS.get(obj.get("object", ""))
    return make(world, plain) if make and not plain.get("deleted") else plain


def render(world: "World", answer: Any, expand: list[str]) -> Any:
    """`answer` is a stored object or a list object of stored ones."""
    if answer.get("object") in ("list", "search_result"):
        result = answer | {"data": [shown(world, each) for each in answer["data"]]}
    else:
        result = shown(world, answer)
    for path in expand:
        if len(path.split(".")) > 5:
            raise invalid("You cannot expand more than 4 levels of a property.", param="expand")
        _expand(world, result, path.split("."), path)
    return result


def _expand(world: "World", place: Any, keys: list[str], path: str) -> None:
    if isinstance(place, list):
        for each in place:
            _expand(world, each, keys, path)
        return
    if not isinstance(place, dict) or not keys:
        return
    key, rest = keys[0], keys[1:]
    if key not in place:
        make = ON_EXPAND.get((place.get("object", ""), key))
        if make is None:
            if place.get("object") in (None, "list") and not place.get("data"):
                return  # an empty branch (`payment` of another type) has nothing to expand
            raise invalid(f"This property cannot be expanded ({path}).", param="expand")
        place[key] = make(world, place)
    else:
        place[key] = _resolved(world, key, place[key])
    _expand(world, place[key], rest, path)


def _resolved(world: "World", key: str, value: Any) -> Any:
    if isinstance(value, str) and key in _REFERS:
        found = world.store.peek(_REFERS[key], value)
        return shown(world, found) if found else value
    if isinstance(value, str) and key == "source":
        found = next(
            (world.store.peek(kind, value) for kind in ("charge", "refund") if world.store.peek(kind, value)),
            None,
        )
        return shown(world, found) if found else value
    if isinstance(value, list) and key in _MANY:
        return [_resolved_one(world, _MANY[key], each) for each in value]
    return value


def _resolved_one(world: "World", table: str, value: Any) -> Any:
    found = world.store.peek(table, value) if isinstance(value, str) else None
    return shown(world, found) if found else value
