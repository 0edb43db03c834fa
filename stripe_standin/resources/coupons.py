"""Coupons, promotion codes, and the discounts made of them."""

from datetime import UTC, datetime
from typing import Any

from dateutil.relativedelta import relativedelta

from stripe_standin.errors import invalid, needed
from stripe_standin.params import Params
from stripe_standin.render import on_expand
from stripe_standin.routing import route
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import World


@on_expand("coupon", "applies_to")
def _applies_to(world: World, coupon: Obj) -> Any:
    return {"products": []}  # to everything


@route("POST", "/v1/coupons")
def create(world: World, params: Params) -> Obj:
    percent = params.text("percent_off")
    coupon = new(
        "coupon",
        id=params.text("id") or world.store.new_id("coupon")[-8:],
        amount_off=params.number("amount_off"),
        created=world.now(),
        currency=params.text("currency"),
        duration=params.choice("duration", ("forever", "once", "repeating"), "once"),
        duration_in_months=params.number("duration_in_months"),
        max_redemptions=params.number("max_redemptions"),
        metadata=params.metadata(),
        name=params.text("name"),
        percent_off=float(percent) if percent else None,
        redeem_by=params.number("redeem_by"),
    )
    if coupon["amount_off"] is None and percent is None:
        raise needed("percent_off")
    world.store.add(coupon)
    world.emit("coupon.created", coupon)
    return coupon


@route("GET", "/v1/coupons")
def listed(world: World, params: Params) -> Obj:
    return world.page("/v1/coupons", world.filtered("coupon", params), params)


@route("GET", "/v1/coupons/{id}")
def retrieve(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("coupon", identifier)


@route("POST", "/v1/coupons/{id}")
def update(world: World, params: Params, identifier: str) -> Obj:
    coupon = world.store.get("coupon", identifier)
    with world.updating(coupon, "coupon.updated"):
        if "name" in params:
            coupon["name"] = params.text("name")
        coupon["metadata"] = params.metadata(coupon["metadata"])
    return coupon


@route("DELETE", "/v1/coupons/{id}")
def delete(world: World, params: Params, identifier: str) -> Obj:
    coupon = world.store.get("coupon", identifier)
    world.store.remove(coupon)
    world.emit("coupon.deleted", coupon)
    return {"id": identifier, "object": "coupon", "deleted": True}


@route("POST", "/v1/promotion_codes")
def create_code(world: World, params: Params) -> Obj:
    promotion = params.sub("promotion")
    promotion.text("type")
    coupon = world.store.named("coupon", promotion.required("coupon"), "promotion[coupon]")
    made = new(
        "promotion_code",
        id=world.store.new_id("promo"),
        code=params.text("code") or world.store.new_id("x")[-8:].upper(),
        created=world.now(),
        customer=params.text("customer"),
        expires_at=params.number("expires_at"),
        max_redemptions=params.number("max_redemptions"),
        metadata=params.metadata(),
        promotion={"coupon": coupon["id"], "type": "coupon"},
        restrictions={
            "first_time_transaction": False,
            "minimum_amount": None,
            "minimum_amount_currency": None,
        },
    )
    world.store.add(made)
    world.emit("promotion_code.created", made)
    return made


@route("GET", "/v1/promotion_codes")
def codes(world: World, params: Params) -> Obj:
    return world.page(
        "/v1/promotion_codes", world.filtered("promotion_code", params, "code", "active"), params
    )


@route("GET", "/v1/promotion_codes/{id}")
def code(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("promotion_code", identifier)


def discount_for(world: World, params: Params, **owner: Any) -> Obj:
    """Redeem a coupon or promotion code; counts it."""
    promotion = params.text("promotion_code")
    coupon_id = params.text("coupon")
    if promotion:
        coupon_id = world.store.named("promotion_code", promotion, "discounts")["promotion"]["coupon"]
    if not coupon_id:
        raise invalid("A discount needs a coupon or a promotion code.", param="discounts")
    coupon = world.store.named("coupon", coupon_id, "discounts")
    start = world.now_for(owner.get("customer"))
    months = coupon["duration_in_months"]
    end = (
        int((datetime.fromtimestamp(start, UTC) + relativedelta(months=months)).timestamp())
        if months
        else None
    )
    coupon["times_redeemed"] += 1
    return world.store.add(
        new(
            "discount",
            id=world.store.new_id("di"),
            end=end,
            promotion_code=promotion,
            source={"coupon": coupon["id"], "type": "coupon"},
            start=start,
            **owner,
        )
    )
