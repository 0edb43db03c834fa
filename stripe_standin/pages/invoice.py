"""The hosted invoice with its payment form, and its PDF."""

from io import BytesIO

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from stripe_standin import invoices, payments, pricing
from stripe_standin.errors import StripeError, missing
from stripe_standin.pages import card
from stripe_standin.pages.html import Html, fill, many, page, problem
from stripe_standin.pages.response import Page, redirect
from stripe_standin.store import Obj
from stripe_standin.world import World


def _invoice(world: World, identifier: str, secret: str) -> Obj:
    invoice = world.store.get("invoice", identifier)
    if invoice.get("_secret") != secret:
        raise missing("invoice", identifier)
    return invoice


def show(world: World, form: dict[str, str], identifier: str, secret: str, trouble: str = "") -> Page:
    invoice = _invoice(world, identifier, secret)
    currency = invoice["currency"]
    rows: list[dict[str, object]] = [
        {"name": line["description"] or "", "detail": "", "amount": pricing.money(line["amount"], currency)}
        for line in invoices.lines_of(world, identifier)
    ]
    payable = invoice["status"] in ("open", "uncollectible")
    form_part = _form(world, invoice, form) if payable else Html("")
    return page(
        "invoice",
        status=402 if trouble else 200,
        title=f"Invoice {invoice['number']}",
        status_text={"paid": "Paid", "open": "Due", "void": "Void", "uncollectible": "Uncollectible"}[
            invoice["status"]
        ],
        customer=invoice["customer_name"] or invoice["customer_email"] or "",
        date=pricing.day_text(invoice["status_transitions"]["finalized_at"]),
        rows=many("_row", rows),
        tax=pricing.money(sum(tax["amount"] for tax in invoice["total_taxes"]), currency),
        total=pricing.money(invoice["total"], currency),
        remaining=pricing.money(invoice["amount_remaining"], currency),
        pdf=invoice["invoice_pdf"],
        problem=problem(trouble),
        form=form_part,
    )


def _form(world: World, invoice: Obj, form: dict[str, str]) -> Html:
    due = pricing.money(invoice["amount_remaining"], invoice["currency"])
    intent = invoices.intent_of(world, invoice["id"])
    if intent and intent["status"] == "requires_action":
        return card.bank_form(due, {})
    return fill("_pay", card=card.fields(form), due=due)


def _answer_the_bank(world: World, form: dict[str, str], invoice: Obj, secret: str) -> Page:
    intent = invoices.intent_of(world, invoice["id"])
    if intent and intent["status"] == "requires_action":
        if form["authenticate"] != "complete":
            error = payments.refuse_to_confirm(world, intent)
            return show(world, {}, invoice["id"], secret, str(error))
        method = world.store.get("payment_method", intent["payment_method"])
        invoices.pay(world, invoice, payments.authenticated(method))
    return redirect(f"/i/{invoice['id']}/{secret}")


def submit(world: World, form: dict[str, str], identifier: str, secret: str) -> Page:
    """Pay with a new card; it becomes the default of who pays. Or what the bank was told about the one before."""
    invoice = _invoice(world, identifier, secret)
    if "authenticate" in form:
        return _answer_the_bank(world, form, invoice, secret)
    customer = world.store.get("customer", invoice["customer"])
    try:
        method = payments.attach(world, card.read(world, form, world.now_for(customer["id"])), customer)
        invoices.pay(world, invoice, method)
    except StripeError as error:
        return show(world, form, identifier, secret, str(error))
    with world.updating(customer, "customer.updated"):
        customer["invoice_settings"]["default_payment_method"] = method["id"]
    subscription = invoices.subscription_of(world, invoice)
    if subscription and subscription["default_payment_method"]:
        with world.updating(subscription, "customer.subscription.updated"):
            subscription["default_payment_method"] = method["id"]
    return redirect(invoice["hosted_invoice_url"])


def pdf(world: World, form: dict[str, str], identifier: str, secret: str) -> Page:
    invoice = _invoice(world, identifier, secret)
    lines = [
        (line["description"] or "", pricing.money(line["amount"], invoice["currency"]))
        for line in invoices.lines_of(world, identifier)
    ]
    lines.append(("Total", pricing.money(invoice["total"], invoice["currency"])))
    return _document(f"Invoice {invoice['number']}", invoice["status"], lines)


def receipt(world: World, form: dict[str, str], identifier: str) -> Page:
    charge = world.store.get("charge", identifier)
    return _document(
        f"Receipt {identifier}",
        charge["status"],
        [("Amount", pricing.money(charge["amount"], charge["currency"]))],
    )


def credit_note(world: World, form: dict[str, str], identifier: str) -> Page:
    note = world.store.get("credit_note", identifier)
    return _document(
        f"Credit note {note['number']}",
        note["status"],
        [("Amount", pricing.money(note["amount"], note["currency"]))],
    )


def _document(title: str, status: str, lines: list[tuple[str, str]]) -> Page:
    sink = BytesIO()
    canvas = Canvas(sink, pagesize=A4, invariant=1)
    canvas.setTitle(title)
    height = A4[1] - 72
    canvas.setFont("Helvetica-Bold", 16)
    canvas.drawString(56, height, title)
    canvas.setFont("Helvetica", 10)
    canvas.drawString(56, height - 18, f"{status} · made by the stand-in for Stripe")
    for index, (text, amount) in enumerate(lines):
        y = height - 52 - 16 * (index % 40)
        canvas.drawString(56, y, text[:80])
        canvas.drawRightString(A4[0] - 56, y, amount)
        if index % 40 == 39:
            canvas.showPage()
    canvas.save()
    return Page(sink.getvalue(), content_type="application/pdf")
