"""Invoices, their lines and payments, invoice items, previews."""

from typing import Any

from stripe_standin import invoices as acts
from stripe_standin import invoicing, lifecycle, planning, previews
from stripe_standin.errors import invalid
from stripe_standin.invoicing import Line
from stripe_standin.params import Params
from stripe_standin.people import living
from stripe_standin.planning import Change
from stripe_standin.resources.payment_methods import known
from stripe_standin.resources.subscriptions import change_of, extra_lines, item_changes, mode, one_off
from stripe_standin.routing import route
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import DAY, World


@route("POST", "/v1/invoices")
def create(world: World, params: Params) -> Obj:
    customer = living(world, params.required("customer"))
    now = world.now_for(customer["id"])
    subscription_id = params.text("subscription")
    subscription = (
        world.store.named("subscription", subscription_id, "subscription") if subscription_id else None
    )
    currency = (
        params.text("currency") or (subscription or {}).get("currency") or customer["currency"] or "usd"
    )
    invoice = acts.blank(
        world, customer, reason="manual", currency=currency, at=now, subscription=subscription
    )
    invoice["auto_advance"] = params.flag("auto_advance", default=False)
    _fill(world, invoice, params, now)
    pending = params.choice("pending_invoice_items_behavior", ("exclude", "include"), "exclude")
    lines = (
        lifecycle.pending_lines(world, customer["id"], subscription_id, currency)
        if pending == "include" or subscription
        else []
    )
    finalizes = now + world.settings.draft_seconds if invoice["auto_advance"] else None
    return acts.create(world, invoice, lines, finalizes_at=finalizes)


def _fill(world: World, invoice: Obj, params: Params, now: int) -> None:
    for name in ("description", "footer", "statement_descriptor", "default_payment_method"):
        if name in params:
            invoice[name] = params.text(name)
    if "collection_method" in params:
        invoice["collection_method"] = params.choice(
            "collection_method", ("charge_automatically", "send_invoice")
        )
    if days := params.number("days_until_due"):
        invoice["due_date"] = now + days * DAY
    if "due_date" in params:
        invoice["due_date"] = params.number("due_date")
    if "default_tax_rates" in params:
        rates = params.texts("default_tax_rates")
        invoice["default_tax_rates"] = [
            world.store.named("tax_rate", each, "default_tax_rates")["id"] for each in rates
        ]
    invoice["metadata"] = params.metadata(invoice["metadata"])


@route("GET", "/v1/invoices")
def listed(world: World, params: Params) -> Obj:
    found = world.filtered("invoice", params, "customer", "status", "collection_method")
    if wanted := params.text("subscription"):
        found = [each for each in found if (acts.subscription_of(world, each) or {}).get("id") == wanted]
    return world.page("/v1/invoices", found, params)


@route("GET", "/v1/invoices/{id}")
def retrieve(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("invoice", identifier)


@route("POST", "/v1/invoices/{id}")
def update(world: World, params: Params, identifier: str) -> Obj:
    invoice = world.store.get("invoice", identifier)
    with world.updating(invoice, "invoice.updated"):
        if "auto_advance" in params:
            invoice["auto_advance"] = params.flag("auto_advance")
            if invoice["status"] == "draft":
                later = invoice["created"] + world.settings.draft_seconds
                invoice["automatically_finalizes_at"] = later if invoice["auto_advance"] else None
        if "automatically_finalizes_at" in params:
            invoice["automatically_finalizes_at"] = params.number("automatically_finalizes_at")
        _fill(world, invoice, params, invoice["created"])
        if invoice["status"] == "draft":
            acts.total(world, invoice)
    return invoice


@route("DELETE", "/v1/invoices/{id}")
def delete(world: World, params: Params, identifier: str) -> Obj:
    invoice = acts.editable(world, identifier)
    for line in acts.lines_of(world, identifier):
        world.store.remove(line)
        if item := world.store.peek("invoiceitem", line["_line"]["invoice_item"]):
            item["invoice"] = None
    world.store.remove(invoice)
    world.emit("invoice.deleted", invoice)
    return {"id": identifier, "object": "invoice", "deleted": True}


@route("GET", "/v1/invoices/{id}/lines")
def lines(world: World, params: Params, identifier: str) -> Obj:
    world.store.get("invoice", identifier)
    return world.page(f"/v1/invoices/{identifier}/lines", acts.lines_of(world, identifier)[::-1], params)


@route("POST", "/v1/invoices/{id}/add_lines")
def add_lines(world: World, params: Params, identifier: str) -> Obj:
    invoice = acts.editable(world, identifier)
    now = world.now_for(invoice["customer"])
    for each in params.items("lines"):
        if item_id := each.text("invoice_item"):
            acts.add_line(
                world,
                invoice,
                invoicing.stored_line(world.store.named("invoiceitem", item_id, "lines[invoice_item]")),
            )
            continue
        for line in one_off(world, each, None, now, now):
            acts.add_line(world, invoice, Line(**line.__dict__ | {"currency": invoice["currency"]}))
    acts.total(world, invoice)
    world.emit("invoice.updated", invoice, previous={})
    return invoice


@route("POST", "/v1/invoices/{id}/finalize")
def finalize(world: World, params: Params, identifier: str) -> Obj:
    invoice = world.store.get("invoice", identifier)
    if "auto_advance" in params:
        invoice["auto_advance"] = params.flag("auto_advance")
    if invoice["status"] == "draft":
        lifecycle.refresh_usage(world, invoice)
    return acts.finalize(world, invoice)


@route("POST", "/v1/invoices/{id}/pay")
def pay(world: World, params: Params, identifier: str) -> Obj:
    invoice = world.store.get("invoice", identifier)
    chosen = params.text("payment_method")
    method = known(world, chosen) if chosen else None
    params.raw("off_session")
    params.flag("forgive")
    return acts.pay(world, invoice, method, out_of_band=params.flag("paid_out_of_band"))


@route("POST", "/v1/invoices/{id}/void")
def void(world: World, params: Params, identifier: str) -> Obj:
    return acts.void(world, world.store.get("invoice", identifier))


@route("POST", "/v1/invoices/{id}/mark_uncollectible")
def mark_uncollectible(world: World, params: Params, identifier: str) -> Obj:
    return acts.write_off(world, world.store.get("invoice", identifier))


@route("POST", "/v1/invoices/{id}/send")
def send(world: World, params: Params, identifier: str) -> Obj:
    """No mail leaves the stand-in; the event tells that one would have."""
    invoice = world.store.get("invoice", identifier)
    if invoice["status"] == "draft":
        acts.finalize(world, invoice, collect=False)
    world.emit("invoice.sent", invoice)
    return invoice


# Previews -----------------------------------------------------------------------------------------------------------


@route("POST", "/v1/invoices/create_preview")
def create_preview(world: World, params: Params) -> Obj:
    recurring = params.choice("preview_mode", ("next", "recurring"), "next") == "recurring"
    details = params.sub("subscription_details")
    subscription_id = params.text("subscription")
    customer_id = params.text("customer")
    params.text("currency")
    if subscription_id:
        subscription = world.store.named("subscription", subscription_id, "subscription")
        customer = world.store.get("customer", subscription["customer"])
        extra = extra_lines(world, params, "invoice_items", customer, subscription_id)
        change = change_of(world, details, subscription)
        if "cancel_at_period_end" in details:
            subscription = subscription | {"cancel_at_period_end": details.flag("cancel_at_period_end")}
        return previews.changed(world, subscription, change, extra, recurring=recurring)
    if not customer_id:
        raise invalid(
            "You must specify one of customer or subscription.", param="customer", code="parameter_missing"
        )
    return _preview_new(world, params, details, living(world, customer_id))


def _preview_new(world: World, params: Params, details: Params, customer: Obj) -> Obj:
    """The first invoice of what would be subscribed to."""
    now = world.now_for(customer["id"])
    changes = item_changes(world, details)
    extra = extra_lines(world, params, "invoice_items", customer, None)
    currency = (
        world.store.named("price", changes[0].price or "", "price")["currency"]
        if changes
        else customer["currency"] or "usd"
    )
    trial = details.number("trial_end")
    virtual = new(
        "subscription",
        id=world.store.new_id("sub"),
        billing_cycle_anchor=trial or now,
        created=now,
        currency=currency,
        customer=customer["id"],
        start_date=now,
        status="trialing" if trial else "active",
        trial_end=trial,
        billing_mode=mode(details),
        default_tax_rates=details.texts("default_tax_rates"),
    )
    change = Change(items=changes, behavior=details.text("proration_behavior") or "create_prorations", at=now)
    made = [planning.new_item(world, virtual, each, now) for each in change.items]
    return previews.fresh(
        world,
        customer,
        virtual,
        [*lifecycle.first_lines(world, virtual, made, now, change.behavior), *extra],
    )


# Invoice items ------------------------------------------------------------------------------------------------------


@route("POST", "/v1/invoiceitems")
def create_item(world: World, params: Params) -> Obj:
    customer = living(world, params.required("customer"))
    now = world.now_for(customer["id"])
    subscription = params.text("subscription")
    if subscription:
        world.store.named("subscription", subscription, "subscription")
    period = params.sub("period")
    start, end = period.number("start") or now, period.number("end") or now
    if "pricing" in params:
        chosen: Any = params.sub("pricing").required("price")
        price = world.store.named("price", chosen, "pricing[price]")
        product = planning.product_of(world, price)
        quantity = params.number("quantity", 1) or 0
        made = invoicing.charge_lines(
            price, product, quantity, start, end, subscription=subscription, metadata=params.metadata()
        )
        line = Line(**made[0].__dict__ | {"description": params.text("description", product["name"])})
    else:
        line = one_off(world, params, subscription, start, end)[0]
    item = lifecycle.make_invoice_item(world, customer, line)
    customer["currency"] = customer["currency"] or line.currency
    if invoice_id := params.text("invoice"):
        invoice = acts.editable(world, invoice_id)
        acts.add_line(world, invoice, invoicing.stored_line(item))
        acts.total(world, invoice)
    return item


@route("GET", "/v1/invoiceitems")
def items(world: World, params: Params) -> Obj:
    found = world.filtered("invoiceitem", params, "customer", "invoice")
    if "pending" in params:
        pending = params.flag("pending")
        found = [each for each in found if (each["invoice"] is None) == pending]
    return world.page("/v1/invoiceitems", found, params)


@route("GET", "/v1/invoiceitems/{id}")
def item(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("invoiceitem", identifier)


@route("POST", "/v1/invoiceitems/{id}")
def update_item(world: World, params: Params, identifier: str) -> Obj:
    found = world.store.get("invoiceitem", identifier)
    if "amount" in params:
        found |= {"amount": params.number("amount"), "net_amount": params.number("amount")}
        found["_line"]["amount"] = found["amount"]
    if "description" in params:
        found["description"] = found["_line"]["description"] = params.text("description")
    found["metadata"] = params.metadata(found["metadata"])
    return found


@route("DELETE", "/v1/invoiceitems/{id}")
def delete_item(world: World, params: Params, identifier: str) -> Obj:
    found = world.store.get("invoiceitem", identifier)
    if found["invoice"]:
        acts.editable(world, found["invoice"])
    world.store.remove(found)
    world.emit("invoiceitem.deleted", found)
    return {"id": identifier, "object": "invoiceitem", "deleted": True}


# Payments of invoices -----------------------------------------------------------------------------------------------


@route("GET", "/v1/invoice_payments")
def invoice_payments(world: World, params: Params) -> Obj:
    found = world.filtered("invoice_payment", params, "invoice", "status")
    if "payment" in params:
        payment = params.sub("payment")
        payment.text("type")
        if intent := payment.text("payment_intent"):
            found = [each for each in found if each["payment"].get("payment_intent") == intent]
    return world.page("/v1/invoice_payments", found, params)


@route("GET", "/v1/invoice_payments/{id}")
def invoice_payment(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("invoice_payment", identifier)
