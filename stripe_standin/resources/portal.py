"""Customer-portal sessions and configurations. The pages are in `pages/portal.py`."""

from typing import Any

from stripe_standin.errors import invalid
from stripe_standin.params import Params
from stripe_standin.people import living
from stripe_standin.routing import route
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import World

_CONFIGURATION = "billing_portal.configuration"
_REASONS = ["too_expensive", "missing_features", "switched_service", "unused", "other"]


def default_features() -> Obj:
    return {
        "customer_update": {"allowed_updates": ["email", "name", "address", "tax_id"], "enabled": True},
        "invoice_history": {"enabled": True},
        "payment_method_update": {"enabled": True, "payment_method_configuration": None},
        "subscription_cancel": {
            "cancellation_reason": {"enabled": False, "options": _REASONS},
            "enabled": True,
            "mode": "at_period_end",
            "proration_behavior": "none",
        },
        "subscription_update": {
            "billing_cycle_anchor": None,
            "default_allowed_updates": [],
            "enabled": False,
            "products": None,
            "proration_behavior": "none",
            "schedule_at_period_end": {"conditions": []},
            "trial_update_behavior": "end_trial",
        },
    }


def default_configuration(world: World) -> Obj:
    found = next(world.store.where(_CONFIGURATION, is_default=True), None)
    return found or _make(world, is_default=True, features=default_features())


def _make(world: World, **fields: Any) -> Obj:
    now = world.now()
    base = {
        "business_profile": {"headline": None, "privacy_policy_url": None, "terms_of_service_url": None},
        "login_page": {"enabled": False, "url": None},
    }
    return world.store.add(
        new(_CONFIGURATION, id=world.store.new_id("bpc"), created=now, updated=now, **base | fields)
    )


def _fill(configuration: Obj, params: Params) -> None:
    if "business_profile" in params:
        profile = params.sub("business_profile")
        for name in configuration["business_profile"]:
            configuration["business_profile"][name] = profile.text(
                name, configuration["business_profile"][name]
            )
    features = params.sub("features")
    for name, feature in configuration["features"].items():
        if name in features:
            _fill_feature(feature, features.sub(name))
    for name in ("default_return_url", "name"):
        if name in params:
            configuration[name] = params.text(name)
    if "active" in params:
        configuration["active"] = params.flag("active")
    if "login_page" in params:
        configuration["login_page"]["enabled"] = params.sub("login_page").flag("enabled")
    configuration["metadata"] = params.metadata(configuration["metadata"])


def _fill_feature(feature: Obj, params: Params) -> None:
    for name, known in list(feature.items()):
        if name not in params:
            continue
        if isinstance(known, bool):
            feature[name] = params.flag(name)
        elif isinstance(known, dict):
            _fill_feature(known, params.sub(name))
        elif isinstance(known, list):
            feature[name] = params.texts(name)
        elif name == "products":
            feature[name] = [
                {"prices": each.texts("prices"), "product": each.required("product")}
                for each in params.items(name)
            ]
        else:
            feature[name] = params.text(name)


@route("POST", "/v1/billing_portal/configurations")
def create_configuration(world: World, params: Params) -> Obj:
    made = _make(world, features=default_features())
    for feature in made["features"].values():
        feature["enabled"] = False
    _fill(made, params)
    world.emit("billing_portal.configuration.created", made)
    return made


@route("GET", "/v1/billing_portal/configurations")
def configurations(world: World, params: Params) -> Obj:
    default_configuration(world)
    found = world.filtered(_CONFIGURATION, params, "active")
    if "is_default" in params:
        wanted = params.flag("is_default")
        found = [each for each in found if each["is_default"] == wanted]
    return world.page("/v1/billing_portal/configurations", found, params)


@route("GET", "/v1/billing_portal/configurations/{id}")
def configuration(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get(_CONFIGURATION, identifier)


@route("POST", "/v1/billing_portal/configurations/{id}")
def update_configuration(world: World, params: Params, identifier: str) -> Obj:
    found = world.store.get(_CONFIGURATION, identifier)
    with world.updating(found, "billing_portal.configuration.updated"):
        _fill(found, params)
        found["updated"] = world.now()
    return found


@route("POST", "/v1/billing_portal/sessions")
def create(world: World, params: Params) -> Obj:
    customer = living(world, params.required("customer"))
    chosen = params.text("configuration")
    settings = (
        world.store.named(_CONFIGURATION, chosen, "configuration") if chosen else default_configuration(world)
    )
    identifier = world.store.new_id("bps")
    secret = world.store.new_id("x")[2:]
    session = new(
        "billing_portal.session",
        id=identifier,
        configuration=settings["id"],
        created=world.now(),
        customer=customer["id"],
        flow=_flow(world, params, customer),
        locale=params.text("locale"),
        return_url=params.text("return_url") or settings["default_return_url"],
        url=f"{world.base}/p/session/{secret}",
        _secret=secret,
    )
    world.store.add(session)
    world.emit("billing_portal.session.created", session)
    return session


def _flow(world: World, params: Params, customer: Obj) -> Obj | None:
    """A deep link to one act: `payment_method_update` or `subscription_cancel`."""
    if "flow_data" not in params:
        return None
    data = params.sub("flow_data")
    kind = data.required("type")
    if kind not in ("payment_method_update", "subscription_cancel"):
        raise invalid(f"The stand-in has no portal flow {kind}.", param="flow_data[type]")
    after = data.sub("after_completion")
    flow: Obj = {
        "after_completion": {
            "hosted_confirmation": None,
            "redirect": {"return_url": after.sub("redirect").text("return_url")}
            if "redirect" in after
            else None,
            "type": after.text("type", "portal_homepage"),
        },
        "subscription_cancel": None,
        "subscription_update": None,
        "subscription_update_confirm": None,
        "type": kind,
    }
    if kind == "subscription_cancel":
        chosen = data.sub("subscription_cancel").required("subscription")
        subscription = world.store.named(
            "subscription", chosen, "flow_data[subscription_cancel][subscription]"
        )
        if subscription["customer"] != customer["id"]:
            raise invalid("The subscription belongs to another customer.", param="flow_data")
        flow["subscription_cancel"] = {"retention": None, "subscription": chosen}
    return flow
