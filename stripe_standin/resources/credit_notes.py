"""Credit notes: less to pay on an open invoice; refund, balance or nothing of ours on a paid one."""

from stripe_standin import invoices
from stripe_standin.errors import invalid
from stripe_standin.params import Params
from stripe_standin.people import change_balance
from stripe_standin.render import listing, shown, view
from stripe_standin.resources.payment_methods import refund
from stripe_standin.routing import route
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import World


@view("credit_note")
def _view(world: World, note: Obj) -> Obj:
    found = [shown(world, each) for each in world.store.where("credit_note_line_item", _note=note["id"])]
    return note | {"lines": listing(f"/v1/credit_notes/{note['id']}/lines", found)}


@route("POST", "/v1/credit_notes")
def create(world: World, params: Params) -> Obj:
    invoice = world.store.named("invoice", params.required("invoice"), "invoice")
    if invoice["status"] not in ("open", "paid"):
        raise invalid("Credit notes can only be issued for open or paid invoices.", param="invoice")
    now = world.now_for(invoice["customer"])
    lines = _lines(world, params, invoice)
    total = sum(line["amount"] for line in lines)
    if total <= 0:
        raise invalid("The credit note's amount must be positive.", param="amount")
    count = sum(1 for _ in world.store.where("credit_note", invoice=invoice["id"])) + 1
    note = new(
        "credit_note",
        id=world.store.new_id("cn"),
        amount=total,
        created=now,
        currency=invoice["currency"],
        customer=invoice["customer"],
        effective_at=params.number("effective_at") or now,
        invoice=invoice["id"],
        memo=params.text("memo"),
        metadata=params.metadata(),
        number=f"{invoice['number']}-CN-{count:02d}",
        pdf="",
        post_payment_amount=0,
        pre_payment_amount=0,
        reason=params.text("reason"),
        subtotal=total,
        subtotal_excluding_tax=total,
        total=total,
        total_excluding_tax=total,
        type="pre_payment",
    )
    note["pdf"] = f"{world.base}/credit_notes/{note['id']}/pdf"
    params.text("email_type")
    _settle(world, params, invoice, note)
    for line in lines:
        world.store.add(line | {"_note": note["id"]})
    world.store.add(note)
    world.emit("credit_note.created", note)
    return note


def _lines(world: World, params: Params, invoice: Obj) -> list[Obj]:
    made = []
    for each in params.items("lines"):
        source = each.text("invoice_line_item")
        line = world.store.named("line_item", source, "lines[invoice_line_item]") if source else None
        quantity = each.number("quantity")
        unit = each.number("unit_amount")
        amount = each.number("amount")
        if amount is None:
            amount = (unit or 0) * (quantity or 1) if line is None else line["amount"]
        text = each.text("description") or (line["description"] if line else None)
        kind = each.choice("type", ("custom_line_item", "invoice_line_item")) or "custom_line_item"
        made.append(_line(world, amount, text, kind, source, quantity, unit))
    if made:
        return made
    amount = params.number("amount") or 0
    return [
        _line(world, amount, f"Credit for invoice {invoice['number']}", "custom_line_item", None, 1, amount)
    ]


def _line(
    world: World,
    amount: int,
    text: str | None,
    kind: str,
    source: str | None,
    quantity: int | None,
    unit: int | None,
) -> Obj:
    line = new(
        "credit_note_line_item",
        id=world.store.new_id("cnli"),
        amount=amount,
        description=text,
        quantity=quantity,
        type=kind,
        unit_amount=unit,
        unit_amount_decimal=None if unit is None else str(unit),
    )
    return line | ({"invoice_line_item": source} if source else {})


def _settle(world: World, params: Params, invoice: Obj, note: Obj) -> None:
    """First off what is still owed; the rest must be said to be refunded, credited or settled elsewhere."""
    total = note["amount"]
    refunded, credited = params.number("refund_amount", 0) or 0, params.number("credit_amount", 0) or 0
    elsewhere = params.number("out_of_band_amount", 0) or 0
    if invoice["status"] == "open":
        if total > invoice["amount_remaining"]:
            raise invalid("The credit note's amount is more than what remains to be paid.", param="amount")
        _reduce(world, invoice, total)
        note["pre_payment_amount"] = total
        return
    if total > invoice["amount_paid"] - invoice["post_payment_credit_notes_amount"]:
        raise invalid("The credit note's amount is more than what was paid.", param="amount")
    if refunded + credited + elsewhere != total:
        raise invalid(
            "The sum of credit_amount, refund_amount and out_of_band_amount must equal the credit note's amount."
        )
    note |= {"type": "post_payment", "post_payment_amount": total, "out_of_band_amount": elsewhere or None}
    invoice["post_payment_credit_notes_amount"] += total
    customer = world.store.get("customer", invoice["customer"])
    if credited:
        booked = change_balance(
            world,
            customer,
            -credited,
            "credit_note",
            invoice["currency"],
            credit_note=note["id"],
            invoice=invoice["id"],
        )
        note["customer_balance_transaction"] = booked["id"]
    intent = invoices.intent_of(world, invoice["id"])
    if refunded and intent:
        made = refund(world, world.store.get("charge", intent["latest_charge"]), refunded)
        note["refunds"] = [
            {
                "amount_refunded": refunded,
                "payment_record_refund": None,
                "refund": made["id"],
                "type": "refund",
            }
        ]
    world.emit(
        "invoice.updated",
        invoice,
        previous={"post_payment_credit_notes_amount": invoice["post_payment_credit_notes_amount"] - total},
    )


def _reduce(world: World, invoice: Obj, amount: int) -> None:
    with world.updating(invoice, "invoice.updated"):
        invoice["pre_payment_credit_notes_amount"] += amount
        invoice["amount_due"] -= amount
        invoice["amount_remaining"] -= amount
    intent = invoices.intent_of(world, invoice["id"])
    if intent:
        intent["amount"] = invoice["amount_remaining"]
    if invoice["amount_remaining"] == 0:
        invoices.mark_paid(world, invoice, 0)


@route("GET", "/v1/credit_notes")
def listed(world: World, params: Params) -> Obj:
    return world.page(
        "/v1/credit_notes", world.filtered("credit_note", params, "customer", "invoice"), params
    )


@route("GET", "/v1/credit_notes/{id}")
def retrieve(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("credit_note", identifier)


@route("GET", "/v1/credit_notes/{id}/lines")
def lines(world: World, params: Params, identifier: str) -> Obj:
    found = list(world.store.where("credit_note_line_item", _note=identifier))
    return world.page(f"/v1/credit_notes/{identifier}/lines", found[::-1], params)


@route("POST", "/v1/credit_notes/{id}")
def update(world: World, params: Params, identifier: str) -> Obj:
    note = world.store.get("credit_note", identifier)
    with world.updating(note, "credit_note.updated"):
        note["memo"] = params.text("memo", note["memo"])
        note["metadata"] = params.metadata(note["metadata"])
    return note


@route("POST", "/v1/credit_notes/{id}/void")
def void(world: World, params: Params, identifier: str) -> Obj:
    note = world.store.get("credit_note", identifier)
    invoice = world.store.get("invoice", note["invoice"])
    if note["status"] != "issued" or invoice["status"] != "open":
        raise invalid("You can only void a credit note of an open invoice.")
    _reduce(world, invoice, -note["amount"])
    note |= {"status": "void", "voided_at": world.now_for(invoice["customer"])}
    world.emit("credit_note.voided", note)
    return note
