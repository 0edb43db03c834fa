"""The life of an invoice: draft, open, paid, void, uncollectible; and the money that it asks for."""

from collections.abc import Callable, Iterable
from typing import Any

from stripe_standin import invoicing, payments
from stripe_standin.errors import StripeError, invalid
from stripe_standin.invoicing import Line
from stripe_standin.people import change_balance
from stripe_standin.render import listing, on_expand, shown, view
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import DAY, World

_EMBEDDED_LINES = 10
_ASKS = "This payment requires additional user action before it can be completed successfully."
# What subscriptions make of a payment and of its failure; filled by `dunning`.
ON_PAID: list[Callable[[World, Obj], None]] = []
ON_FAILED: list[Callable[[World, Obj], None]] = []


@view("invoice")
def _view(world: World, invoice: Obj) -> Obj:
    if "lines" not in invoice:
        lines = lines_of(world, invoice["id"])
        url = f"/v1/invoices/{invoice['id']}/lines"
        invoice["lines"] = listing(
            url, [shown(world, line) for line in lines[:_EMBEDDED_LINES]], more=len(lines) > _EMBEDDED_LINES
        )
    invoice["default_tax_rates"] = [
        shown(world, world.store.get("tax_rate", each)) for each in invoice["default_tax_rates"]
    ]
    return invoice


@on_expand("invoice", "payments")
def _payments(world: World, invoice: Obj) -> Any:
    found = world.store.where("invoice_payment", invoice=invoice["id"])
    return listing("/v1/invoice_payments", [shown(world, each) for each in found])


@on_expand("invoice", "confirmation_secret")
def _confirmation_secret(world: World, invoice: Obj) -> Any:
    intent = intent_of(world, invoice["id"])
    return {"client_secret": intent["client_secret"], "type": "payment_intent"} if intent else None


def lines_of(world: World, invoice: str) -> list[Obj]:
    return list(world.store.where("line_item", invoice=invoice))


def intent_of(world: World, invoice: str) -> Obj | None:
    payment = next(world.store.where("invoice_payment", invoice=invoice, is_default=True), None)
    return world.store.peek("payment_intent", payment["payment"]["payment_intent"]) if payment else None


def subscription_of(world: World, invoice: Obj) -> Obj | None:
    parent = invoice["parent"]
    return (
        world.store.peek("subscription", parent["subscription_details"]["subscription"]) if parent else None
    )


# Making -------------------------------------------------------------------------------------------------------------


def blank(
    world: World, customer: Obj, *, reason: str, currency: str, at: int, subscription: Obj | None = None
) -> Obj:
    """A draft that is not stored: the fields copied from the customer and the subscription."""
    invoice = new(
        "invoice",
        id=world.store.new_id("in"),
        account_country="US",
        account_name="Farebox",
        billing_reason=reason,
        created=at,
        currency=currency,
        customer=customer["id"],
        customer_address=customer["address"],
        customer_email=customer["email"],
        customer_name=customer["name"],
        customer_phone=customer["phone"],
        customer_shipping=customer["shipping"],
        customer_tax_exempt=customer["tax_exempt"],
        customer_tax_ids=[
            {"type": each["type"], "value": each["value"]}
            for each in world.store.where("tax_id", customer=customer["id"])
        ],
        period_start=at,
        period_end=at,
        test_clock=customer["test_clock"],
    )
    if subscription:
        invoice |= {
            "collection_method": subscription["collection_method"],
            "default_tax_rates": list(subscription["default_tax_rates"] or []),
            "discounts": [each for each in subscription["discounts"] if _lasts(world, each, at)],
            "description": subscription["description"],
            "parent": {
                "type": "subscription_details",
                "quote_details": None,
                "subscription_details": {
                    "metadata": dict(subscription["metadata"]),
                    "subscription": subscription["id"],
                },
            },
        }
    return invoice


def _lasts(world: World, discount: str, at: int) -> bool:
    end = world.store.get("discount", discount)["end"]
    return end is None or at < end


def _use_up(world: World, invoice: Obj) -> None:
    """A coupon for one time is gone with the first invoice that has it."""
    subscription = subscription_of(world, invoice)
    for each in invoice["discounts"] if subscription else []:
        coupon = world.store.get("coupon", world.store.get("discount", each)["source"]["coupon"])
        if subscription and coupon["duration"] == "once" and each in subscription["discounts"]:
            subscription["discounts"].remove(each)


def create(world: World, invoice: Obj, lines: Iterable[Line], *, finalizes_at: int | None = None) -> Obj:
    """Store a draft with its lines. `finalizes_at`: when it becomes open by itself."""
    world.store.add(invoice)
    for line in lines:
        add_line(world, invoice, line)
    invoice["automatically_finalizes_at"] = finalizes_at
    total(world, invoice)
    _use_up(world, invoice)
    world.emit("invoice.created", invoice)
    return invoice


def add_line(world: World, invoice: Obj, line: Line) -> Obj:
    stored = world.store.add(invoicing.line_item(line, world.store.new_id("il"), invoice["id"]))
    if line.invoice_item and (item := world.store.peek("invoiceitem", line.invoice_item)):
        item["invoice"] = invoice["id"]
    return stored


def total(world: World, invoice: Obj, lines: list[Obj] | None = None) -> Obj:
    """Compute a draft's sums anew."""
    customer = world.store.get("customer", invoice["customer"])
    found = lines_of(world, invoice["id"]) if lines is None else lines
    coupons = []
    for each in invoice["discounts"]:
        discount = world.store.peek("discount", each)
        if discount:
            coupons.append((each, world.store.get("coupon", discount["source"]["coupon"])))
    rates = world.store.table("tax_rate")
    return invoicing.apply(invoice, found, rates, coupons, customer["balance"])


# Open ---------------------------------------------------------------------------------------------------------------


def finalize(world: World, invoice: Obj, *, collect: bool = True) -> Obj:
    """Number it, use the customer's balance, ask for the money; an invoice of nothing is paid at once."""
    if invoice["status"] != "draft":
        raise invalid(
            "This invoice is already finalized, you can't re-finalize a non-draft invoice.",
            code="invoice_not_editable",
        )
    now = world.now_for(invoice["customer"])
    customer = world.store.get("customer", invoice["customer"])
    total(world, invoice)
    _use_balance(world, invoice, customer)
    number = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
    customer["next_invoice_sequence"] += 1
    secret = world.store.new_id("x")[2:]
    invoice |= {
        "automatically_finalizes_at": None,
        "effective_at": now,
        "number": number,
        "status": "open",
        "hosted_invoice_url": f"{world.base}/i/{invoice['id']}/{secret}",
        "invoice_pdf": f"{world.base}/i/{invoice['id']}/{secret}/pdf",
        "_secret": secret,
    }
    invoice["status_transitions"]["finalized_at"] = now
    if invoice["collection_method"] == "send_invoice" and invoice["due_date"] is None:
        subscription = subscription_of(world, invoice)
        invoice["due_date"] = now + DAY * int((subscription or {}).get("days_until_due") or 30)
    world.emit("invoice.finalized", invoice)
    if invoice["amount_due"] == 0:
        mark_paid(world, invoice, 0)
        return invoice
    _ask(world, invoice)
    if invoice["collection_method"] == "charge_automatically" and invoice["auto_advance"] and collect:
        attempt(world, invoice)
    return invoice


def _use_balance(world: World, invoice: Obj, customer: Obj) -> None:
    due = invoice["total"] + customer["balance"]
    after = min(due, 0)
    invoice |= {"starting_balance": customer["balance"], "ending_balance": after}
    if after != customer["balance"]:
        change_balance(
            world,
            customer,
            after - customer["balance"],
            "applied_to_invoice",
            invoice["currency"],
            invoice=invoice["id"],
        )


def _ask(world: World, invoice: Obj) -> None:
    now = world.now_for(invoice["customer"])
    intent = payments.make_intent(
        world,
        amount=invoice["amount_remaining"],
        currency=invoice["currency"],
        customer=invoice["customer"],
        description="Subscription creation"
        if invoice["billing_reason"] == "subscription_create"
        else f"Payment for Invoice {invoice['number']}",
        setup_future_usage="off_session",
        _invoice=invoice["id"],
    )
    world.emit("payment_intent.created", intent)
    world.store.add(
        new(
            "invoice_payment",
            id=world.store.new_id("inpay"),
            amount_requested=intent["amount"],
            created=now,
            currency=invoice["currency"],
            invoice=invoice["id"],
            is_default=True,
            payment={"type": "payment_intent", "payment_intent": intent["id"]},
            status="open",
        )
    )


# Money --------------------------------------------------------------------------------------------------------------


def method_for(world: World, invoice: Obj) -> Obj | None:
    """The invoice's own, then the subscription's, then the customer's default."""
    subscription = subscription_of(world, invoice) or {}
    customer = world.store.get("customer", invoice["customer"])
    for chosen in (
        invoice["default_payment_method"],
        subscription.get("default_payment_method"),
        customer["invoice_settings"]["default_payment_method"],
    ):
        if chosen and (method := world.store.peek("payment_method", chosen)):
            return method
    return None


def attempt(world: World, invoice: Obj, method: Obj | None = None) -> bool:
    """Try to take what is due. True when it was paid; else the subscription is past due and the next try is set."""
    method = method or method_for(world, invoice)
    intent = intent_of(world, invoice["id"])
    paid = bool(method and intent and payments.charge(world, intent, method))
    invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1}
    if paid:
        mark_paid(world, invoice, invoice["amount_remaining"])
        return True
    if intent and not method:
        message = "This customer has no attached payment source or default payment method."
        intent["last_payment_error"] = {
            "type": "invalid_request_error",
            "code": "resource_missing",
            "message": message,
        }
    invoice["webhooks_delivered_at"] = world.now_for(invoice["customer"])
    for tell in ON_FAILED:
        tell(world, invoice)
    if intent and intent["status"] == "requires_action":
        world.emit("invoice.payment_action_required", invoice)
    return False


def mark_paid(world: World, invoice: Obj, amount: int, *, out_of_band: bool = False) -> Obj:
    now = world.now_for(invoice["customer"])
    invoice |= {
        "status": "paid",
        "attempted": True,
        "amount_paid": invoice["amount_paid"] + (0 if out_of_band else amount),
        "amount_paid_off_stripe": amount if out_of_band else 0,
        "amount_remaining": 0,
        "next_payment_attempt": None,
        "auto_advance": False,
    }
    invoice["status_transitions"]["paid_at"] = now
    payment = next(world.store.where("invoice_payment", invoice=invoice["id"], is_default=True), None)
    if payment and not out_of_band:
        payment |= {"amount_paid": amount, "status": "paid"}
        payment["status_transitions"]["paid_at"] = now
        world.emit("invoice_payment.paid", payment)
    elif payment:
        _cancel_payment(world, invoice)
    world.emit("invoice.updated", invoice, previous={"status": "open"})
    world.emit("invoice.paid", invoice)
    world.emit("invoice.payment_succeeded", invoice)
    for tell in ON_PAID:
        tell(world, invoice)
    return invoice


def pay(world: World, invoice: Obj, method: Obj | None = None, *, out_of_band: bool = False) -> Obj:
    """The act of `POST /v1/invoices/{id}/pay`: a refused card is a 402 with Stripe's codes."""
    if invoice["status"] == "draft":
        finalize(world, invoice, collect=False)
    if invoice["status"] == "paid":
        raise invalid("Invoice is already paid", code="invoice_already_paid")
    if invoice["status"] not in ("open", "uncollectible"):
        raise invalid("This invoice can't be paid.", code="invoice_not_payable")
    if out_of_band:
        return mark_paid(world, invoice, invoice["amount_remaining"], out_of_band=True)
    method = method or method_for(world, invoice)
    if attempt(world, invoice, method):
        return invoice
    if method is None:
        raise invalid(
            "There is no default payment method set on this Customer or Invoice.",
            code="invoice_no_payment_method",
        )
    intent = intent_of(world, invoice["id"])
    if intent and intent["status"] == "requires_action":
        raise StripeError(402, "card_error", _ASKS, code="invoice_payment_intent_requires_action")
    raise payments.declined(method)


def _cancel_payment(world: World, invoice: Obj) -> None:
    intent = intent_of(world, invoice["id"])
    now = world.now_for(invoice["customer"])
    if intent and intent["status"] not in ("succeeded", "canceled"):
        intent |= {
            "status": "canceled",
            "canceled_at": now,
            "cancellation_reason": "void_invoice",
            "next_action": None,
        }
        world.emit("payment_intent.canceled", intent)
    for payment in world.store.where("invoice_payment", invoice=invoice["id"], status="open"):
        payment["status"] = "canceled"
        payment["status_transitions"]["canceled_at"] = now


def void(world: World, invoice: Obj) -> Obj:
    if invoice["status"] not in ("open", "uncollectible"):
        raise invalid("You can only void open or uncollectible invoices.", code="invoice_not_editable")
    invoice |= {"status": "void", "auto_advance": False, "next_payment_attempt": None, "amount_remaining": 0}
    invoice["status_transitions"]["voided_at"] = world.now_for(invoice["customer"])
    _cancel_payment(world, invoice)
    world.emit("invoice.voided", invoice)
    return invoice


def write_off(world: World, invoice: Obj) -> Obj:
    if invoice["status"] != "open":
        raise invalid("You can only mark open invoices as uncollectible.", code="invoice_not_editable")
    invoice |= {"status": "uncollectible", "auto_advance": False, "next_payment_attempt": None}
    invoice["status_transitions"]["marked_uncollectible_at"] = world.now_for(invoice["customer"])
    world.emit("invoice.marked_uncollectible", invoice)
    return invoice


def editable(world: World, identifier: str) -> Obj:
    invoice = world.store.get("invoice", identifier)
    if invoice["status"] != "draft":
        raise StripeError(
            400, "invalid_request_error", "This invoice is no longer editable", code="invoice_not_editable"
        )
    return invoice
