"""Payment methods, setup intents, payment intents, charges, balance transactions, refunds."""

from typing import Any

from stripe_standin import cards, invoices, payments
from stripe_standin.errors import StripeError, invalid, needed
from stripe_standin.params import Params
from stripe_standin.people import living
from stripe_standin.render import listing, on_expand, shown
from stripe_standin.routing import route
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import World


def known(world: World, identifier: str, param: str = "payment_method") -> Obj:
    """A payment method by id, or a fresh one behind a token such as `pm_card_visa`."""
    return payments.from_token(world, identifier) or world.store.named("payment_method", identifier, param)


def attach(world: World, identifier: str, customer: Obj) -> Obj:
    return payments.attach(world, known(world, identifier), customer)


def owned(world: World, identifier: str, customer: str, param: str) -> Obj:
    """A payment method of the customer. A token names the one that was attached by it, as Stripe's fixtures expect."""
    number = cards.number_of(identifier)
    if number:
        found = list(world.store.where("payment_method", customer=customer, _number=number))
        return found[-1] if found else attach(world, identifier, world.store.get("customer", customer))
    method = world.store.named("payment_method", identifier, param)
    if method["customer"] != customer:
        raise invalid(
            f"The customer does not have a payment method with the ID {identifier}.",
            param=param,
            code="resource_missing",
        )
    return method


def details(params: Params) -> Obj:
    sent = params.sub("billing_details")
    return {
        "address": sent.address() or dict(payments.NO_ADDRESS),
        "email": sent.text("email"),
        "name": sent.text("name"),
        "phone": sent.text("phone"),
    }


@route("POST", "/v1/payment_methods")
def create(world: World, params: Params) -> Obj:
    params.choice("type", ("card",), "card")
    card = params.sub("card")
    if token := card.text("token"):
        method = payments.from_token(world, token)
        if method is None:
            raise invalid(f"No such token: '{token}'", param="card[token]", code="resource_missing")
        method["billing_details"] |= details(params)
        return method
    number, month, year = card.required("number"), card.number("exp_month") or 0, card.number("exp_year") or 0
    wrong = cards.fault_of(number, month, year, card.text("cvc") or "123", world.now())
    if wrong:
        raise StripeError(402, "card_error", wrong[2], code=wrong[0], param=wrong[1])
    made = payments.make_card(world, number, month, year, details(params))
    made["metadata"] = params.metadata()
    return made


@route("GET", "/v1/payment_methods")
def listed(world: World, params: Params) -> Obj:
    return _of_customer(world, params, params.text("customer"), "/v1/payment_methods")


def _of_customer(world: World, params: Params, customer: str | None, url: str) -> Obj:
    """Of everybody when no customer is named; what is attached to nobody is in no list."""
    kind = params.text("type")
    params.text("allow_redisplay")
    found = [
        each
        for each in world.store.where("payment_method")
        if each["customer"] and customer in (None, each["customer"]) and kind in (None, each["type"])
    ]
    return world.page(url, found, params)


@route("GET", "/v1/customers/{id}/payment_methods")
def of_customer(world: World, params: Params, customer: str) -> Obj:
    return _of_customer(world, params, customer, f"/v1/customers/{customer}/payment_methods")


@route("GET", "/v1/customers/{id}/payment_methods/{method}")
def one_of_customer(world: World, params: Params, customer: str, identifier: str) -> Obj:
    return owned(world, identifier, customer, "payment_method")


@route("GET", "/v1/payment_methods/{id}")
def retrieve(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("payment_method", identifier)


@route("POST", "/v1/payment_methods/{id}")
def update(world: World, params: Params, identifier: str) -> Obj:
    method = world.store.get("payment_method", identifier)
    with world.updating(method, "payment_method.updated"):
        if "billing_details" in params:
            method["billing_details"] |= {name: value for name, value in details(params).items() if value}
        if "card" in params:
            card = params.sub("card")
            for name in ("exp_month", "exp_year"):
                if name in card:
                    method["card"][name] = card.number(name)
        method["metadata"] = params.metadata(method["metadata"])
    return method


@route("POST", "/v1/payment_methods/{id}/attach")
def attach_route(world: World, params: Params, identifier: str) -> Obj:
    return attach(world, identifier, living(world, params.required("customer")))


@route("POST", "/v1/payment_methods/{id}/detach")
def detach(world: World, params: Params, identifier: str) -> Obj:
    method = world.store.get("payment_method", identifier)
    if not method["customer"]:
        raise invalid(
            "The payment method you provided is not attached to a customer so detachment is impossible."
        )
    customer = world.store.get("customer", method["customer"])
    if customer["invoice_settings"]["default_payment_method"] == identifier:
        with world.updating(customer, "customer.updated"):
            customer["invoice_settings"]["default_payment_method"] = None
    for subscription in world.store.where("subscription", default_payment_method=identifier):
        with world.updating(subscription, "customer.subscription.updated"):
            subscription["default_payment_method"] = None
    with world.updating(method, "payment_method.detached"):
        method["customer"] = None
    return method


# Setup intents ------------------------------------------------------------------------------------------------------


def make_setup(world: World, customer: str | None, **fields: Any) -> Obj:
    identifier = world.store.new_id("seti")
    intent = new(
        "setup_intent",
        id=identifier,
        client_secret=f"{identifier}_secret_{world.store.new_id('x')[2:]}",
        created=world.now_for(customer),
        customer=customer,
        payment_method_options={
            "card": {"mandate_options": None, "network": None, "request_three_d_secure": "automatic"}
        },
        status="requires_payment_method",
    )
    world.store.add(intent | fields)
    made = world.store.get("setup_intent", identifier)
    world.emit("setup_intent.created", made)
    return made


def confirm_setup(world: World, intent: Obj, method: Obj) -> Obj:
    try:
        if intent["customer"]:
            payments.attach(world, method, world.store.get("customer", intent["customer"]))
        elif not cards.of(method["_number"]).attaches:
            raise payments.declined(method)
    except StripeError as error:
        intent["last_setup_error"] = error.body()["error"]
        world.emit("setup_intent.setup_failed", intent)
        raise
    intent |= {"payment_method": method["id"], "status": "succeeded", "last_setup_error": None}
    world.emit("setup_intent.succeeded", intent)
    return intent


@route("POST", "/v1/setup_intents")
def create_setup(world: World, params: Params) -> Obj:
    customer = params.text("customer")
    if customer:
        living(world, customer)
    intent = make_setup(world, customer, metadata=params.metadata(), description=params.text("description"))
    intent["usage"] = params.text("usage", "off_session")
    params.texts("payment_method_types")
    params.sub("automatic_payment_methods").plain()
    chosen = params.text("payment_method")
    if chosen:
        intent |= {"payment_method": known(world, chosen)["id"], "status": "requires_confirmation"}
    if params.flag("confirm"):
        if not intent["payment_method"]:
            raise needed("payment_method")
        return confirm_setup(world, intent, world.store.get("payment_method", intent["payment_method"]))
    return intent


@route("GET", "/v1/setup_intents")
def setups(world: World, params: Params) -> Obj:
    return world.page(
        "/v1/setup_intents", world.filtered("setup_intent", params, "customer", "payment_method"), params
    )


@route("GET", "/v1/setup_intents/{id}")
def setup(world: World, params: Params, identifier: str) -> Obj:
    params.text("client_secret")
    return world.store.get("setup_intent", identifier)


@route("POST", "/v1/setup_intents/{id}/confirm")
def confirm_setup_route(world: World, params: Params, identifier: str) -> Obj:
    intent = world.store.get("setup_intent", identifier)
    chosen = params.text("payment_method") or intent["payment_method"]
    if not chosen:
        raise needed("payment_method")
    return confirm_setup(world, intent, known(world, chosen))


@route("POST", "/v1/setup_intents/{id}/cancel")
def cancel_setup(world: World, params: Params, identifier: str) -> Obj:
    intent = world.store.get("setup_intent", identifier)
    intent |= {"status": "canceled", "cancellation_reason": params.text("cancellation_reason")}
    world.emit("setup_intent.canceled", intent)
    return intent


# Payment intents ----------------------------------------------------------------------------------------------------


@route("POST", "/v1/payment_intents")
def create_intent(world: World, params: Params) -> Obj:
    customer = params.text("customer")
    if customer:
        living(world, customer)
    intent = payments.make_intent(
        world,
        amount=params.number("amount") or 0,
        currency=params.required("currency").lower(),
        customer=customer,
        description=params.text("description"),
        metadata=params.metadata(),
        receipt_email=params.text("receipt_email"),
        setup_future_usage=params.text("setup_future_usage"),
        statement_descriptor=params.text("statement_descriptor"),
    )
    if intent["amount"] <= 0:
        raise invalid("Invalid positive integer", param="amount", code="parameter_invalid_integer")
    params.texts("payment_method_types")
    params.sub("automatic_payment_methods").plain()
    params.raw("off_session")
    if "shipping" in params:
        shipping = params.sub("shipping")
        intent["shipping"] = {
            "address": shipping.address(),
            "name": shipping.text("name"),
            "phone": shipping.text("phone"),
        }
    world.emit("payment_intent.created", intent)
    chosen = params.text("payment_method")
    if chosen:
        intent |= {"payment_method": known(world, chosen)["id"], "status": "requires_confirmation"}
    params.text("return_url")
    return _confirm(world, intent) if params.flag("confirm") else intent


def _confirm(world: World, intent: Obj) -> Obj:
    if not intent["payment_method"]:
        raise invalid(
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
        )
    if intent["status"] in ("succeeded", "canceled"):
        raise invalid(
            f"You cannot confirm this PaymentIntent because it has a status of {intent['status']}.",
            code="payment_intent_unexpected_state",
        )
    method = world.store.get("payment_method", intent["payment_method"])
    if (
        intent["customer"]
        and not method["customer"]
        and (intent["setup_future_usage"] or intent.get("_invoice"))
    ):
        payments.attach(world, method, world.store.get("customer", intent["customer"]))
    if intent.get("_invoice"):
        paid = invoices.attempt(world, world.store.get("invoice", intent["_invoice"]), method)
    else:
        paid = payments.charge(world, intent, method)
    if not paid and intent["status"] != "requires_action":
        raise payments.declined(method, payment_intent=shown(world, intent))
    return intent


@route("GET", "/v1/payment_intents")
def intents(world: World, params: Params) -> Obj:
    return world.page("/v1/payment_intents", world.filtered("payment_intent", params, "customer"), params)


@route("GET", "/v1/payment_intents/{id}")
def intent(world: World, params: Params, identifier: str) -> Obj:
    params.text("client_secret")
    return world.store.get("payment_intent", identifier)


@route("POST", "/v1/payment_intents/{id}")
def update_intent(world: World, params: Params, identifier: str) -> Obj:
    found = world.store.get("payment_intent", identifier)
    if "amount" in params:
        found["amount"] = params.number("amount")
    if "description" in params:
        found["description"] = params.text("description")
    if chosen := params.text("payment_method"):
        found |= {"payment_method": known(world, chosen)["id"], "status": "requires_confirmation"}
    found["metadata"] = params.metadata(found["metadata"])
    return found


@route("POST", "/v1/payment_intents/{id}/confirm")
def confirm_intent(world: World, params: Params, identifier: str) -> Obj:
    found = world.store.get("payment_intent", identifier)
    if chosen := params.text("payment_method"):
        found["payment_method"] = known(world, chosen)["id"]
    params.raw("off_session")
    params.text("return_url")
    return _confirm(world, found)


@route("POST", "/v1/payment_intents/{id}/cancel")
def cancel_intent(world: World, params: Params, identifier: str) -> Obj:
    found = world.store.get("payment_intent", identifier)
    if found["status"] in ("succeeded", "canceled"):
        raise invalid("You cannot cancel this PaymentIntent.", code="payment_intent_unexpected_state")
    now = world.now_for(found["customer"])
    found |= {
        "status": "canceled",
        "canceled_at": now,
        "cancellation_reason": params.text("cancellation_reason"),
    }
    world.emit("payment_intent.canceled", found)
    return found


# Charges and what they booked ---------------------------------------------------------------------------------------


@on_expand("charge", "refunds")
def _refunds(world: World, charge: Obj) -> Any:
    found = [shown(world, each) for each in world.store.where("refund", charge=charge["id"])]
    return listing(f"/v1/charges/{charge['id']}/refunds", found)


@route("GET", "/v1/charges")
def charges(world: World, params: Params) -> Obj:
    return world.page("/v1/charges", world.filtered("charge", params, "customer", "payment_intent"), params)


@route("GET", "/v1/charges/{id}")
def charge(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("charge", identifier)


@route("GET", "/v1/balance_transactions")
def balance_transactions(world: World, params: Params) -> Obj:
    return world.page(
        "/v1/balance_transactions",
        world.filtered("balance_transaction", params, "source", "type", "currency"),
        params,
    )


@route("GET", "/v1/balance_transactions/{id}")
def balance_transaction(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("balance_transaction", identifier)


def refund(world: World, charge: Obj, amount: int | None, **fields: Any) -> Obj:
    left = charge["amount_captured"] - charge["amount_refunded"]
    if left <= 0:
        raise invalid(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    wanted = left if amount is None else amount
    if wanted <= 0 or wanted > left:
        raise invalid(
            f"Refund amount ({wanted}) is greater than unrefunded amount on charge ({left}).", param="amount"
        )
    now = world.now_for(charge["customer"])
    made = new(
        "refund",
        id=world.store.new_id("re"),
        amount=wanted,
        charge=charge["id"],
        created=now,
        currency=charge["currency"],
        payment_intent=charge["payment_intent"],
        destination_details={
            "type": "card",
            "card": {
                "reference_status": "pending",
                "reference_type": "acquirer_reference_number",
                "type": "refund",
            },
        },
    )
    made["balance_transaction"] = payments.book(
        world, -wanted, charge["currency"], "refund", made["id"], now
    )["id"]
    made |= fields
    world.store.add(made)
    world.emit("refund.created", made)
    previous = {"amount_refunded": charge["amount_refunded"], "refunded": charge["refunded"]}
    charge["amount_refunded"] += wanted
    charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
    world.emit("charge.refunded", charge, previous=previous)
    return made


@route("POST", "/v1/refunds")
def create_refund(world: World, params: Params) -> Obj:
    identifier, intent_id = params.text("charge"), params.text("payment_intent")
    if intent_id:
        identifier = world.store.named("payment_intent", intent_id, "payment_intent")["latest_charge"]
    if not identifier:
        raise needed("charge")
    charge = world.store.named("charge", identifier, "charge")
    return refund(
        world, charge, params.number("amount"), reason=params.text("reason"), metadata=params.metadata()
    )


@route("GET", "/v1/refunds")
def refunds(world: World, params: Params) -> Obj:
    return world.page("/v1/refunds", world.filtered("refund", params, "charge", "payment_intent"), params)


@route("GET", "/v1/refunds/{id}")
def retrieve_refund(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("refund", identifier)


@route("POST", "/v1/refunds/{id}")
def update_refund(world: World, params: Params, identifier: str) -> Obj:
    found = world.store.get("refund", identifier)
    found["metadata"] = params.metadata(found["metadata"])
    world.emit("charge.refund.updated", found)
    world.emit("refund.updated", found)
    return found
