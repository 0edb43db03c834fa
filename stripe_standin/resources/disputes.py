"""Disputes: made by cards that pay and are asked back (4000 0000 0000 0259, an inquiry: ...1976); they end when they are closed."""

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


@route("POST", "/v1/disputes/{id}")
def update(world: World, params: Params, identifier: str) -> Obj:
    dispute = world.store.get("dispute", identifier)
    with world.updating(dispute, "charge.dispute.updated"):
        dispute["metadata"] = params.metadata(dispute["metadata"])
    return dispute


@route("POST", "/v1/disputes/{id}/close")
def close(world: World, params: Params, identifier: str) -> Obj:
    """Give in: the money is gone (after an inquiry only the inquiry is over)."""
    dispute = world.store.get("dispute", identifier)
    dispute["status"] = "warning_closed" if dispute["status"].startswith("warning") else "lost"
    world.emit("charge.dispute.closed", dispute)
    return dispute
