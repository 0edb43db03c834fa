"""Test clocks: advancing answers at once (`advancing`) and goes on beside; ask until it is `ready`."""

import threading

from stripe_standin import clock
from stripe_standin.errors import invalid
from stripe_standin.params import Params
from stripe_standin.routing import route
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import DAY, World

_KIND = "test_helpers.test_clock"
_FARTHEST = 2 * 366 * DAY


@route("POST", "/v1/test_helpers/test_clocks")
def create(world: World, params: Params) -> Obj:
    frozen = params.number("frozen_time") or world.now()
    now = world.now()
    made = new(
        _KIND,
        id=world.store.new_id("clock"),
        created=now,
        deletes_after=now + 30 * DAY,
        frozen_time=frozen,
        name=params.text("name"),
    )
    world.store.add(made)
    world.emit("test_helpers.test_clock.created", made)
    return made


@route("GET", "/v1/test_helpers/test_clocks")
def listed(world: World, params: Params) -> Obj:
    return world.page("/v1/test_helpers/test_clocks", world.filtered(_KIND, params), params)


@route("GET", "/v1/test_helpers/test_clocks/{id}")
def retrieve(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get(_KIND, identifier)


@route("POST", "/v1/test_helpers/test_clocks/{id}/advance")
def advance(world: World, params: Params, identifier: str) -> Obj:
    found = world.store.get(_KIND, identifier)
    to = params.number("frozen_time") or 0
    if found["status"] == "advancing":
        raise invalid("The test clock is still advancing.", code="test_clock_advancing", status=429)
    if to <= found["frozen_time"]:
        raise invalid("The new frozen time must be after the current one.", param="frozen_time")
    if to > found["frozen_time"] + _FARTHEST:
        raise invalid(
            "A test clock can be advanced by at most two intervals of its longest subscription.",
            param="frozen_time",
        )
    found |= {"status": "advancing", "status_details": {"advancing": {"target_frozen_time": to}}}
    world.emit("test_helpers.test_clock.advancing", found)
    threading.Thread(target=clock.advance_test_clock, args=(world, identifier, to), daemon=True).start()
    return dict(found)


@route("DELETE", "/v1/test_helpers/test_clocks/{id}")
def delete(world: World, params: Params, identifier: str) -> Obj:
    """Takes its customers and their subscriptions with it."""
    found = world.store.get(_KIND, identifier)
    for kind in ("subscription", "invoice"):
        for obj in list(world.store.where(kind, test_clock=identifier)):
            world.store.remove(obj)
    for customer in world.store.where("customer", test_clock=identifier):
        customer["_deleted"] = True
    world.store.remove(found)
    world.emit("test_helpers.test_clock.deleted", found)
    return {"id": identifier, "object": _KIND, "deleted": True}
