"""Customers as everything else sees them: alive or not, and what they owe or are owed."""

from typing import Any

from stripe_standin.errors import invalid
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import World


def living(world: World, identifier: str, *, param: str = "customer", status: int = 400) -> Obj:
    """A customer that was not deleted."""
    customer = world.store.get("customer", identifier, param=param, status=status)
    if customer.get("_deleted"):
        raise invalid(
            f"No such customer: '{identifier}'", param=param, code="resource_missing", status=status
        )
    return customer


def change_balance(world: World, customer: Obj, amount: int, kind: str, currency: str, **fields: Any) -> Obj:
    """`amount` is added to the balance: negative is a credit that the next invoices use up."""
    with world.updating(customer, "customer.updated"):
        customer["balance"] += amount
        customer["currency"] = customer["currency"] or currency
    made = new(
        "customer_balance_transaction",
        id=world.store.new_id("cbtxn"),
        amount=amount,
        created=world.now_for(customer["id"]),
        currency=currency,
        customer=customer["id"],
        ending_balance=customer["balance"],
        type=kind,
    )
    return world.store.add(made | fields)
