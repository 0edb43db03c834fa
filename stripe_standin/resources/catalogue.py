"""Products, prices, coupons, promotion codes, tax rates, tax codes."""

from decimal import Decimal, InvalidOperation
from typing import Any

from stripe_standin.errors import invalid, needed
from stripe_standin.params import Params
from stripe_standin.render import on_expand
from stripe_standin.routing import route
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import World

_PRODUCT_TEXTS = ("description", "statement_descriptor", "tax_code", "unit_label", "url")


# Products -----------------------------------------------------------------------------------------------------------


@route("POST", "/v1/products")
def create_product(world: World, params: Params) -> Obj:
    identifier = params.text("id") or world.store.new_id("prod")
    if world.store.peek("product", identifier):
        raise invalid(f"Product already exists: {identifier}", code="resource_already_exists", param="id")
    now = world.now()
    product = new("product", id=identifier, name=params.required("name"), created=now, updated=now)
    _fill_product(product, params)
    params.text("type")
    world.store.add(product)
    world.emit("product.created", product)
    if "default_price_data" in params:
        data = params.sub("default_price_data")
        product["default_price"] = make_price(world, data, product["id"])["id"]
    return product


def _fill_product(product: Obj, params: Params) -> None:
    for name in _PRODUCT_TEXTS:
        if name in params:
            product[name] = params.text(name)
    if "active" in params:
        product["active"] = params.flag("active")
    if "shippable" in params:
        product["shippable"] = params.flag("shippable")
    if "images" in params:
        product["images"] = params.texts("images")
    if "marketing_features" in params:
        product["marketing_features"] = [
            {"name": each.required("name")} for each in params.items("marketing_features")
        ]
    product["metadata"] = params.metadata(product["metadata"])


@route("GET", "/v1/products")
def products(world: World, params: Params) -> Obj:
    found = world.filtered("product", params, "active", "url")
    if ids := params.texts("ids"):
        found = [product for product in found if product["id"] in ids]
    params.text("type")
    return world.page("/v1/products", found, params)


@route("GET", "/v1/products/{id}/features")
def features(world: World, params: Params, identifier: str) -> Obj:
    world.store.get("product", identifier)
    return world.page(f"/v1/products/{identifier}/features", [], params)


@route("GET", "/v1/products/{id}")
def product(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("product", identifier)


@route("POST", "/v1/products/{id}")
def update_product(world: World, params: Params, identifier: str) -> Obj:
    found = world.store.get("product", identifier)
    with world.updating(found, "product.updated"):
        _fill_product(found, params)
        if "name" in params:
            found["name"] = params.required("name")
        if "default_price" in params:
            price = params.text("default_price")
            found["default_price"] = (
                world.store.named("price", price, "default_price")["id"] if price else None
            )
        found["updated"] = world.now()
    return found


@route("DELETE", "/v1/products/{id}")
def delete_product(world: World, params: Params, identifier: str) -> Obj:
    found = world.store.get("product", identifier)
    if any(world.store.where("price", product=identifier)):
        raise invalid("This product cannot be deleted because it has one or more user-created prices.")
    world.store.remove(found)
    world.emit("product.deleted", found)
    return {"id": identifier, "object": "product", "deleted": True}


# Prices -------------------------------------------------------------------------------------------------------------


@route("POST", "/v1/prices")
def create_price(world: World, params: Params) -> Obj:
    if "product_data" in params:
        data = params.sub("product_data")
        now = world.now()
        product = new(
            "product",
            id=data.text("id") or world.store.new_id("prod"),
            name=data.required("name"),
            created=now,
            updated=now,
        )
        product |= {"metadata": data.metadata(), "unit_label": data.text("unit_label")}
        world.store.add(product)
        world.emit("product.created", product)
        return make_price(world, params, product["id"])
    return make_price(
        world, params, world.store.named("product", params.required("product"), "product")["id"]
    )


def make_price(world: World, params: Params, product: str) -> Obj:
    price = new(
        "price",
        id=world.store.new_id("price"),
        created=world.now(),
        currency=params.required("currency").lower(),
        product=product,
        nickname=params.text("nickname"),
        metadata=params.metadata(),
        tax_behavior=params.choice("tax_behavior", ("exclusive", "inclusive", "unspecified"), "unspecified"),
        active=params.flag("active", default=True),
    )
    price["recurring"] = _recurring(world, params.sub("recurring")) if "recurring" in params else None
    price["type"] = "recurring" if price["recurring"] else "one_time"
    if params.choice("billing_scheme", ("per_unit", "tiered"), "per_unit") == "tiered":
        price |= _tiered(params)
    else:
        price["unit_amount"], price["unit_amount_decimal"] = _amount(params, "unit_amount")
    if "transform_quantity" in params:
        transform = params.sub("transform_quantity")
        price["transform_quantity"] = {
            "divide_by": transform.number("divide_by"),
            "round": transform.choice("round", ("up", "down")),
        }
    _take_lookup_key(world, price, params)
    world.store.add(price)
    world.emit("price.created", price)
    return price


def _recurring(world: World, params: Params) -> Obj:
    usage = params.choice("usage_type", ("licensed", "metered"), "licensed")
    meter = params.text("meter")
    if usage == "metered" and not meter:
        raise invalid(
            "Metered prices must be backed by a meter in this API version.", param="recurring[meter]"
        )
    if meter:
        world.store.named("billing.meter", meter, "recurring[meter]")
    params.number("trial_period_days")
    return {
        "interval": params.choice("interval", ("day", "week", "month", "year")) or "month",
        "interval_count": params.number("interval_count", 1),
        "meter": meter,
        "usage_type": usage,
    }


def _amount(params: Params, name: str) -> tuple[int | None, str | None]:
    """Whole smallest units and the decimal text; the first is None when the amount is not whole."""
    if f"{name}_decimal" in params:
        value = _decimal(params.required(f"{name}_decimal"), f"{name}_decimal")
        return (int(value) if value == value.to_integral_value() else None), f"{value.normalize():f}"
    whole = params.number(name)
    if whole is None:
        raise needed(name)
    return whole, str(whole)


def _decimal(text: str, name: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise invalid(f"Invalid decimal: {text}", param=name) from None
    exponent = value.normalize().as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -12:
        raise invalid("Invalid decimal: at most 12 decimal places are allowed.", param=name)
    return value


def _tiered(params: Params) -> Obj:
    tiers: list[Obj] = []
    for each in params.items("tiers"):
        tier: Obj = {
            "flat_amount": None,
            "flat_amount_decimal": None,
            "unit_amount": None,
            "unit_amount_decimal": None,
        }
        for name in ("flat_amount", "unit_amount"):
            if name in each or f"{name}_decimal" in each:
                tier[name], tier[f"{name}_decimal"] = _amount(each, name)
        up_to = each.required("up_to")
        tier["up_to"] = None if up_to == "inf" else int(up_to)
        tiers.append(tier)
    bounds = [tier["up_to"] for tier in tiers]
    if not tiers or bounds[-1] is not None or None in bounds[:-1] or bounds[:-1] != sorted(set(bounds[:-1])):
        raise invalid("Tiers must rise and the last one must have `up_to=inf`.", param="tiers")
    mode = params.choice("tiers_mode", ("graduated", "volume"))
    if mode is None:
        raise needed("tiers_mode")
    return {"billing_scheme": "tiered", "tiers_mode": mode, "_tiers": tiers}


@on_expand("price", "tiers")
def _tiers(world: World, price: Obj) -> Any:
    return world.store.get("price", price["id"]).get("_tiers", [])


@on_expand("price", "currency_options")
def _currency_options(world: World, price: Obj) -> Any:
    """The price's own currency: others cannot be given here."""
    names = ("tax_behavior", "unit_amount", "unit_amount_decimal")
    return {price["currency"]: {"custom_unit_amount": None, **{name: price[name] for name in names}}}


def _take_lookup_key(world: World, price: Obj, params: Params) -> None:
    key, transfer = params.text("lookup_key"), params.flag("transfer_lookup_key")
    if key is None:
        return
    for other in world.store.where("price", lookup_key=key):
        if other is price:
            continue
        if not transfer:
            raise invalid(f"A price (`{other['id']}`) already uses that lookup key.", param="lookup_key")
        with world.updating(other, "price.updated"):
            other["lookup_key"] = None
    price["lookup_key"] = key


@route("GET", "/v1/prices")
def prices(world: World, params: Params) -> Obj:
    found = world.filtered("price", params, "active", "currency", "product", "type")
    if keys := params.texts("lookup_keys"):
        found = [price for price in found if price["lookup_key"] in keys]
    if "recurring" in params:
        wanted = {name: value for name, value in params.sub("recurring").plain().items()}
        found = [
            p for p in found if p["recurring"] and all(p["recurring"].get(k) == v for k, v in wanted.items())
        ]
    return world.page("/v1/prices", found, params)


@route("GET", "/v1/prices/{id}")
def price(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("price", identifier)


@route("POST", "/v1/prices/{id}")
def update_price(world: World, params: Params, identifier: str) -> Obj:
    found = world.store.get("price", identifier)
    with world.updating(found, "price.updated"):
        if "active" in params:
            found["active"] = params.flag("active")
        if "nickname" in params:
            found["nickname"] = params.text("nickname")
        if "tax_behavior" in params:
            found["tax_behavior"] = params.text("tax_behavior")
        _take_lookup_key(world, found, params)
        found["metadata"] = params.metadata(found["metadata"])
    return found


# Tax rates ----------------------------------------------------------------------------------------------------------


@route("POST", "/v1/tax_rates")
def create_tax_rate(world: World, params: Params) -> Obj:
    percentage = _decimal(params.required("percentage"), "percentage")
    rate = new(
        "tax_rate",
        id=world.store.new_id("txr"),
        created=world.now(),
        display_name=params.required("display_name"),
        inclusive=params.flag("inclusive"),
        percentage=float(percentage),  # a JSON number in Stripe's answers; computed with as the text
        _percentage=str(percentage),
        rate_type="percentage",
        active=params.flag("active", default=True),
        metadata=params.metadata(),
    )
    for name in ("country", "description", "jurisdiction", "state", "tax_type"):
        rate[name] = params.text(name)
    world.store.add(rate)
    world.emit("tax_rate.created", rate)
    return rate


@route("GET", "/v1/tax_rates")
def tax_rates(world: World, params: Params) -> Obj:
    found = world.filtered("tax_rate", params, "active")
    if "inclusive" in params:
        inclusive = params.flag("inclusive")
        found = [rate for rate in found if rate["inclusive"] == inclusive]
    return world.page("/v1/tax_rates", found, params)


@route("GET", "/v1/tax_rates/{id}")
def tax_rate(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("tax_rate", identifier)


@route("POST", "/v1/tax_rates/{id}")
def update_tax_rate(world: World, params: Params, identifier: str) -> Obj:
    rate = world.store.get("tax_rate", identifier)
    with world.updating(rate, "tax_rate.updated"):
        for name in ("display_name", "description", "country", "jurisdiction", "state"):
            if name in params:
                rate[name] = params.text(name)
        if "active" in params:
            rate["active"] = params.flag("active")
        rate["metadata"] = params.metadata(rate["metadata"])
    return rate
