"""Disputes: made by the card that pays and is asked back (4000 0000 0000 0259); they end when they are closed."""

from stripe_standin.params import Params
from stripe_standin.routing import route
from stripe_standin.store import Obj
from stripe_standin.world import World


@route("GET", "/v1/disputes")
def listed(world: World, params: Params) -> Obj:
    return world.page("/v1/disputes", world.filtered("dispute", params, "charge", "payment_intent"), params)


@route("GET", "/v1/disputes/{id}")
def retrieve(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("dispute", identifier)


@route("POST", "/v1/disputes/{id}/close")
def close(world: World, params: Params, identifier: str) -> Obj:
    """Give in: the money is gone."""
    dispute = world.store.get("dispute", identifier)
    dispute["status"] = "lost"
    world.emit("charge.dispute.closed", dispute)
    return dispute
