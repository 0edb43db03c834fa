"""Pure: the lines of invoices and their sums. Nothing here is stored.

A `Line` becomes a line of an invoice, or (prorations, manual items) an invoice item that waits for one.
"""

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from stripe_standin import pricing
from stripe_standin.shapes import new
from stripe_standin.store import Obj


@dataclass(frozen=True)
class Line:
    amount: int
    currency: str
    description: str | None
    start: int
    end: int
    quantity: int | None = 1
    price: str | None = None
    product: str | None = None
    unit: str | None = None
    item: str | None = None  # the subscription item
    invoice_item: str | None = None
    subscription: str | None = None
    proration: bool = False
    tax_rates: tuple[str, ...] = ()
    discountable: bool = True
    metadata: dict[str, str] = field(default_factory=dict)
    usage: bool = False  # computed anew while the invoice is a draft


def charge_lines(price: Obj, product: Obj, quantity: int, start: int, end: int, **fields: Any) -> list[Line]:
    """What `quantity` of `price` costs for a whole period, a line for each tier."""
    return [
        Line(
            amount=charge.amount,
            currency=price["currency"],
            description=_described(charge, product),
            start=start,
            end=end,
            quantity=charge.quantity,
            price=price["id"],
            product=product["id"],
            unit=charge.unit,
            **fields,
        )
        for charge in pricing.charges(price, quantity)
    ]


def _described(charge: pricing.Charge, product: Obj) -> str:
    """`70,000 × API calls (Tier 2 at $0.001 / month)`; a flat fee has no count."""
    flat = charge.unit is None and not charge.quantity
    counted = product["name"] if flat else f"{charge.quantity:,} × {product['name']}"
    return f"{counted} ({charge.words})"


def proration_line(
    word: str, amount: int, price: Obj, product: Obj, quantity: int, at: int, end: int, **fields: Any
) -> Line:
    """`word` is Stripe's: "Unused time on" for the credit, "Remaining time on" for the charge."""
    what = product["name"] if quantity == 1 else f"{quantity:,} × {product['name']}"
    return Line(
        amount=amount,
        currency=price["currency"],
        description=f"{word} {what} after {pricing.day_text(at)}",
        start=at,
        end=end,
        quantity=quantity,
        price=price["id"],
        product=product["id"],
        unit=str(amount) if quantity == 1 else None,
        proration=True,
        **fields,
    )


def line_item(line: Line, identifier: str, invoice: str | None) -> Obj:
    """The line as Stripe shows it in this API version: `parent` tells where it came from, `pricing` what it costs."""
    made = new(
        "line_item",
        id=identifier,
        invoice=invoice,
        amount=line.amount,
        subtotal=line.amount,
        currency=line.currency,
        description=line.description,
        discountable=line.discountable and not line.proration,
        metadata=line.metadata,
        period={"start": line.start, "end": line.end},
        quantity=line.quantity,
        quantity_decimal=None if line.quantity is None else str(line.quantity),
        subscription=line.subscription,
        parent=_parent(line),
        pricing=priced(line),
        _line={**line.__dict__, "tax_rates": list(line.tax_rates)},
    )
    return made


def stored_line(obj: Obj) -> Line:
    kept = obj["_line"]
    return Line(**kept | {"tax_rates": tuple(kept["tax_rates"])})


def _parent(line: Line) -> Obj | None:
    if line.item:
        details: Obj = {
            "invoice_item": line.invoice_item,
            "proration": line.proration,
            "proration_details": {"credited_items": None} if line.proration else None,
            "subscription": line.subscription,
            "subscription_item": line.item,
        }
        return {
            "type": "subscription_item_details",
            "subscription_item_details": details,
            "invoice_item_details": None,
        }
    if line.invoice_item:
        details = {
            "invoice_item": line.invoice_item,
            "proration": line.proration,
            "proration_details": None,
            "subscription": line.subscription,
        }
        return {
            "type": "invoice_item_details",
            "invoice_item_details": details,
            "subscription_item_details": None,
        }
    return None


def priced(line: Line) -> Obj | None:
    if not line.price:
        return None
    return {
        "price_details": {"price": line.price, "product": line.product},
        "type": "price_details",
        "unit_amount_decimal": line.unit,
    }


def taxed(line: Line, rates: list[Obj], discount: int = 0) -> list[Obj]:
    """The taxes on one line, each rounded half up by itself."""
    base = line.amount - discount
    found = []
    for rate in rates:
        percent = Decimal(rate["_percentage"])
        if rate["inclusive"]:
            amount = base - pricing.half_up(Decimal(base) / (1 + percent / 100))
        else:
            amount = pricing.half_up(Decimal(base) * percent / 100)
        found.append(
            {
                "amount": amount,
                "tax_behavior": "inclusive" if rate["inclusive"] else "exclusive",
                "tax_rate_details": {"tax_rate": rate["id"]},
                "taxability_reason": "not_available",
                "taxable_amount": base - amount if rate["inclusive"] else base,
                "type": "tax_rate_details",
            }
        )
    return found


def discounted(lines: list[Obj], coupon: Obj) -> list[int]:
    """What a coupon takes off each line: a share for each, the remainder to the last."""
    bases = [line["amount"] if line["discountable"] else 0 for line in lines]
    whole = sum(bases)
    if whole <= 0:
        return [0] * len(lines)
    if coupon["percent_off"] is not None:
        return [pricing.half_up(Decimal(base) * Decimal(str(coupon["percent_off"])) / 100) for base in bases]
    off = min(coupon["amount_off"] or 0, whole)
    shares = [pricing.share(off, base, whole) for base in bases]
    last = max((index for index, base in enumerate(bases) if base), default=0)
    shares[last] += off - sum(shares)
    return shares


def apply(
    invoice: Obj, lines: list[Obj], rates: dict[str, Obj], coupons: list[tuple[str, Obj]], balance: int
) -> Obj:
    """Write discounts, taxes and sums onto a draft invoice and its lines. `balance` is the customer's (negative: credit)."""
    taken = [0] * len(lines)
    for line in lines:
        line["discount_amounts"], line["discounts"] = [], []
    for discount, coupon in coupons:
        for index, off in enumerate(discounted(lines, coupon)):
            taken[index] += off
            if off:
                lines[index]["discount_amounts"].append({"amount": off, "discount": discount})
                lines[index]["discounts"].append(discount)
    for line, off in zip(lines, taken, strict=True):
        chosen = line["_line"]["tax_rates"] or invoice["default_tax_rates"]
        line["taxes"] = taxed(stored_line(line), [rates[each] for each in chosen], off)
    return _sums(invoice, lines, balance)


def _sums(invoice: Obj, lines: list[Obj], balance: int) -> Obj:
    subtotal = sum(line["amount"] for line in lines)
    taxes = _merged([tax for line in lines for tax in line["taxes"]])
    inclusive = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "inclusive")
    added = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "exclusive")
    discounts = _merged_discounts(lines)
    off = sum(each["amount"] for each in discounts)
    total = subtotal - off + added
    due = total + balance
    invoice |= {
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal - inclusive,
        "total": total,
        "total_excluding_tax": total - added - inclusive,
        "total_taxes": taxes,
        "total_discount_amounts": discounts,
        "starting_balance": balance,
        "amount_due": max(due, 0),
        "amount_remaining": max(due, 0),
    }
    return invoice


def _merged(taxes: list[Obj]) -> list[Obj]:
    by_rate: dict[str, Obj] = {}
    for tax in taxes:
        known = by_rate.setdefault(
            tax["tax_rate_details"]["tax_rate"], tax | {"amount": 0, "taxable_amount": 0}
        )
        known["amount"] += tax["amount"]
        known["taxable_amount"] += tax["taxable_amount"]
    return list(by_rate.values())


def _merged_discounts(lines: list[Obj]) -> list[Obj]:
    sums: dict[str, int] = {}
    for line in lines:
        for each in line["discount_amounts"]:
            sums[each["discount"]] = sums.get(each["discount"], 0) + each["amount"]
    return [{"amount": amount, "discount": discount} for discount, amount in sums.items()]


def waiting(line: Line, invoice_item: str) -> Line:
    return replace(line, invoice_item=invoice_item)
