"""Customers, their tax ids and balance."""

from typing import Any

from stripe_standin.errors import invalid
from stripe_standin.lifecycle import cancel
from stripe_standin.params import Params
from stripe_standin.people import change_balance, living
from stripe_standin.render import listing, on_expand, shown, view
from stripe_standin.resources.payment_methods import attach, owned
from stripe_standin.routing import route
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import World

_TEXTS = ("description", "email", "name", "phone")
_EU = "AT BE BG CY CZ DE DK EE EL ES FI FR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split()  # noqa: SIM905


@view("customer")
def _view(world: World, customer: Obj) -> Obj:
    stored = world.store.peek("customer", customer["id"]) or {}
    if stored.get("_deleted"):
        return {"id": customer["id"], "object": "customer", "deleted": True}
    return customer


@on_expand("customer", "subscriptions")
def _subscriptions(world: World, customer: Obj) -> Any:
    found = [
        each
        for each in world.store.where("subscription", customer=customer["id"])
        if each["status"] not in ("canceled", "incomplete_expired")
    ]
    return listing(
        f"/v1/customers/{customer['id']}/subscriptions", [shown(world, each) for each in reversed(found)]
    )


@on_expand("customer", "sources")
def _sources(world: World, customer: Obj) -> Any:
    return listing(f"/v1/customers/{customer['id']}/sources", [])


@on_expand("customer", "tax_ids")
def _tax_ids(world: World, customer: Obj) -> Any:
    found = world.store.where("tax_id", customer=customer["id"])
    return listing(f"/v1/customers/{customer['id']}/tax_ids", [shown(world, each) for each in found])


@route("POST", "/v1/customers")
def create(world: World, params: Params) -> Obj:
    clock = params.text("test_clock")
    if clock:
        world.store.named("test_helpers.test_clock", clock, "test_clock")
    customer = new(
        "customer",
        id=world.store.new_id("cus"),
        created=world.now(clock),
        test_clock=clock,
        invoice_prefix=world.store.new_id("x")[-8:].upper(),
    )
    world.store.add(customer)
    _fill(world, customer, params)
    world.emit("customer.created", customer)
    for each in params.items("tax_id_data"):
        add_tax_id(world, customer, each.required("type"), each.required("value"))
    return customer


def _fill(world: World, customer: Obj, params: Params) -> None:
    for name in _TEXTS:
        if name in params:
            customer[name] = params.text(name)
    if "address" in params:
        customer["address"] = params.address()
    if "balance" in params:
        customer["balance"] = params.number("balance", 0)
    if "tax_exempt" in params:
        customer["tax_exempt"] = params.choice("tax_exempt", ("none", "exempt", "reverse"), "none")
    if "preferred_locales" in params:
        customer["preferred_locales"] = params.texts("preferred_locales")
    if "shipping" in params:
        shipping = params.sub("shipping")
        customer["shipping"] = {
            "address": shipping.address(),
            "name": shipping.text("name"),
            "phone": shipping.text("phone"),
        }
    if "payment_method" in params:
        attach(world, params.required("payment_method"), customer)
    if "invoice_settings" in params:
        _fill_invoice_settings(world, customer, params.sub("invoice_settings"))
    customer["metadata"] = params.metadata(customer["metadata"])


def _fill_invoice_settings(world: World, customer: Obj, params: Params) -> None:
    settings = customer["invoice_settings"]
    if "default_payment_method" in params:
        chosen = params.text("default_payment_method")
        if chosen:
            chosen = owned(world, chosen, customer["id"], "invoice_settings[default_payment_method]")["id"]
        settings["default_payment_method"] = chosen
    if "footer" in params:
        settings["footer"] = params.text("footer")


@route("GET", "/v1/customers")
def customers(world: World, params: Params) -> Obj:
    found = [
        each for each in world.filtered("customer", params, "email", "test_clock") if not each.get("_deleted")
    ]
    if "test_clock" not in params:
        found = [each for each in found if not each["test_clock"]]  # as Stripe: lists leave test clocks out
    return world.page("/v1/customers", found, params)


@route("GET", "/v1/customers/{id}")
def retrieve(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("customer", identifier)


@route("POST", "/v1/customers/{id}")
def update(world: World, params: Params, identifier: str) -> Obj:
    customer = living(world, identifier, param="id", status=404)
    with world.updating(customer, "customer.updated"):
        _fill(world, customer, params)
    return customer


@route("DELETE", "/v1/customers/{id}")
def delete(world: World, params: Params, identifier: str) -> Obj:
    customer = living(world, identifier, param="id", status=404)
    for subscription in list(world.store.where("subscription", customer=identifier)):
        if subscription["status"] not in ("canceled", "incomplete_expired"):
            cancel(world, subscription, reason=None)
    world.emit("customer.deleted", customer)
    customer["_deleted"] = True
    return customer


# Tax ids ------------------------------------------------------------------------------------------------------------


def add_tax_id(world: World, customer: Obj, kind: str, value: str) -> Obj:
    if kind == "eu_vat" and value[:2].upper() not in _EU:
        raise invalid("Invalid value for eu_vat.", param="value", code="tax_id_invalid")
    made = new(
        "tax_id",
        id=world.store.new_id("txi"),
        created=world.now_for(customer["id"]),
        customer=customer["id"],
        country=value[:2].upper() if kind == "eu_vat" else kind[:2].upper(),
        owner={"customer": customer["id"], "type": "customer"},
        type=kind,
        value=value,
        verification={"status": "pending", "verified_address": None, "verified_name": None},
    )
    world.store.add(made)
    world.emit("customer.tax_id.created", made)
    return made


@route("POST", "/v1/customers/{id}/tax_ids")
def create_tax_id(world: World, params: Params, identifier: str) -> Obj:
    customer = living(world, identifier, param="id", status=404)
    return add_tax_id(world, customer, params.required("type"), params.required("value"))


@route("GET", "/v1/customers/{id}/tax_ids")
def tax_ids(world: World, params: Params, identifier: str) -> Obj:
    living(world, identifier, param="id", status=404)
    return world.page(
        f"/v1/customers/{identifier}/tax_ids", list(world.store.where("tax_id", customer=identifier)), params
    )


@route("GET", "/v1/customers/{id}/tax_ids/{tax_id}")
def tax_id(world: World, params: Params, identifier: str, tax: str) -> Obj:
    return world.store.get("tax_id", tax)


@route("DELETE", "/v1/customers/{id}/tax_ids/{tax_id}")
def delete_tax_id(world: World, params: Params, identifier: str, tax: str) -> Obj:
    found = world.store.get("tax_id", tax)
    world.store.remove(found)
    world.emit("customer.tax_id.deleted", found)
    return {"id": tax, "object": "tax_id", "deleted": True}


@route("GET", "/v1/tax_ids")
def all_tax_ids(world: World, params: Params) -> Obj:
    """The account's own, of which there are none, or those of the customer named as owner."""
    owner = params.sub("owner")
    customer = owner.text("customer") if owner.text("type", "self") == "customer" else None
    found = list(world.store.where("tax_id", customer=customer)) if customer else []
    return world.page("/v1/tax_ids", found, params)


@route("GET", "/v1/tax_ids/{id}")
def any_tax_id(world: World, params: Params, tax: str) -> Obj:
    return world.store.get("tax_id", tax)


@route("GET", "/v1/customers/{id}/sources")
def sources(world: World, params: Params, identifier: str) -> Obj:
    """None: cards are payment methods here."""
    living(world, identifier, param="id", status=404)
    params.text("object")
    return world.page(f"/v1/customers/{identifier}/sources", [], params)


# Balance ------------------------------------------------------------------------------------------------------------


@route("POST", "/v1/customers/{id}/balance_transactions")
def create_balance(world: World, params: Params, identifier: str) -> Obj:
    customer = living(world, identifier, param="id", status=404)
    amount = params.number("amount") or 0
    return change_balance(
        world,
        customer,
        amount,
        "adjustment",
        params.required("currency"),
        description=params.text("description"),
        metadata=params.metadata(),
    )


@route("GET", "/v1/customers/{id}/balance_transactions")
def balances(world: World, params: Params, identifier: str) -> Obj:
    found = list(world.store.where("customer_balance_transaction", customer=identifier))
    return world.page(f"/v1/customers/{identifier}/balance_transactions", found, params)


@route("GET", "/v1/customers/{id}/balance_transactions/{transaction}")
def balance(world: World, params: Params, identifier: str, transaction: str) -> Obj:
    return world.store.get("customer_balance_transaction", transaction)
