"""Webhook endpoints, and what they were told: events."""

from stripe_standin.params import Params
from stripe_standin.routing import route
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import World


def give_endpoint(world: World, url: str, secret: str) -> None:
    """The endpoint of the command line: every event, the given secret."""
    for endpoint in list(world.store.where("webhook_endpoint")):
        if endpoint.get("_given"):
            world.store.remove(endpoint)
    made = _make(world, url, ["*"], secret)
    made["_given"] = True


def _make(world: World, url: str, events: list[str], secret: str) -> Obj:
    return world.store.add(
        new(
            "webhook_endpoint",
            id=world.store.new_id("we"),
            created=world.now(),
            enabled_events=events,
            url=url,
            _secret=secret,
        )
    )


@route("POST", "/v1/webhook_endpoints")
def create(world: World, params: Params) -> Obj:
    made = _make(world, params.required("url"), params.texts("enabled_events"), world.store.new_id("whsec"))
    made |= {
        "description": params.text("description"),
        "metadata": params.metadata(),
        "api_version": params.text("api_version"),
    }
    params.flag("connect")
    return made | {"secret": made["_secret"]}  # shown once, on creation


@route("GET", "/v1/webhook_endpoints")
def listed(world: World, params: Params) -> Obj:
    return world.page("/v1/webhook_endpoints", list(world.store.where("webhook_endpoint")), params)


@route("GET", "/v1/webhook_endpoints/{id}")
def retrieve(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("webhook_endpoint", identifier)


@route("POST", "/v1/webhook_endpoints/{id}")
def update(world: World, params: Params, identifier: str) -> Obj:
    endpoint = world.store.get("webhook_endpoint", identifier)
    for name in ("url", "description"):
        if name in params:
            endpoint[name] = params.text(name)
    if "enabled_events" in params:
        endpoint["enabled_events"] = params.texts("enabled_events")
    if "disabled" in params:
        endpoint["status"] = "disabled" if params.flag("disabled") else "enabled"
    endpoint["metadata"] = params.metadata(endpoint["metadata"])
    return endpoint


@route("DELETE", "/v1/webhook_endpoints/{id}")
def delete(world: World, params: Params, identifier: str) -> Obj:
    endpoint = world.store.get("webhook_endpoint", identifier)
    world.store.remove(endpoint)
    return {"id": identifier, "object": "webhook_endpoint", "deleted": True}


@route("GET", "/v1/events")
def events(world: World, params: Params) -> Obj:
    found = world.filtered("event", params, "type")
    wanted = params.texts("types")
    if params.raw("delivery_success") is not None:
        success = params.flag("delivery_success")
        found = [event for event in found if (event["pending_webhooks"] == 0) == success]
    return world.page(
        "/v1/events", [event for event in found if not wanted or event["type"] in wanted], params
    )


@route("GET", "/v1/events/{id}")
def event(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("event", identifier)
