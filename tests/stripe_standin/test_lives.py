"""Random lives of subscriptions: whatever happens, previews are kept and invoices add up."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.stripe_standin.conftest import DAY, START, Shop, StandIn, give_card


class Life:
    """One customer's subscription and the acts that may befall it."""

    def __init__(self, standin: StandIn, shop: Shop, buyer: Callable[..., Any], seed: int) -> None:
        self.standin, self.api, self.dice, self.now = standin, standin.api, random.Random(seed), START
        self.customer, self.clock = buyer()
        self.prices = [shop.starter.id, shop.flat("Growth", 19_900).id, shop.flat("Small", 900).id]
        self.yearly = shop.flat("Yearly", 190_000, interval="year").id
        days = self.dice.choice([0, 0, 5])
        asked: Any = {
            "customer": self.customer.id,
            "items": [{"price": self.prices[0]}, {"price": shop.calls.id}],
            **({"trial_period_days": days} if days else {}),
        }
        self.id = self.api.subscriptions.create(asked).id
        self.shop = shop

    def go_on(self) -> bool:
        """Some days and some use later; False when the subscription has ended."""
        self.now += self.dice.randint(1, 20) * DAY
        self.standin.advance(self.clock, self.now)
        self.shop.use(self.customer.id, self.dice.randint(1, 90_000), self.now - 60, f"use-{self.now}")
        return self.api.subscriptions.retrieve(self.id).status != "canceled"

    def act(self) -> None:
        self.dice.choice(
            [self.switch, self.switch, self.year, self.cancel, self.undo, self.pause, self.card]
        )()

    def _fee_item(self) -> str:
        items = self.api.subscriptions.retrieve(self.id)["items"].data
        return next(item.id for item in items if item.price.recurring.usage_type == "licensed")

    def _invoices(self) -> list[stripe.Invoice]:
        return self.api.invoices.list({"customer": self.customer.id, "limit": 100}).data

    def switch(self) -> None:
        """The invoice made at once, or else the next one, is what the preview showed."""
        change: Any = {
            "items": [{"id": self._fee_item(), "price": self.dice.choice(self.prices)}],
            "proration_behavior": self.dice.choice(["always_invoice", "none", "create_prorations"]),
            "proration_date": self.now,
            **({"billing_cycle_anchor": "now"} if self.dice.random() < 0.4 else {}),
        }
        preview = self.api.invoices.create_preview({"subscription": self.id, "subscription_details": change})
        before = {invoice.id for invoice in self._invoices()}
        self.api.subscriptions.update(self.id, change)
        made = [invoice for invoice in self._invoices() if invoice.id not in before]
        shown = made[0] if made else self.api.invoices.create_preview({"subscription": self.id})
        assert shown.total == preview.total

    def year(self) -> None:
        self.api.subscriptions.update(self.id, {"items": [{"id": self._fee_item(), "price": self.yearly}]})

    def cancel(self) -> None:
        self.api.subscriptions.update(self.id, {"cancel_at_period_end": True})

    def undo(self) -> None:
        self.api.subscriptions.update(self.id, {"cancel_at_period_end": False})

    def pause(self) -> None:
        self.api.subscriptions.update(
            self.id, {"pause_collection": {"behavior": "void", "resumes_at": self.now + 9 * DAY}}
        )

    def card(self) -> None:
        give_card(
            self.standin, self.customer.id, self.dice.choice(["pm_card_visa", "pm_card_chargeCustomerFail"])
        )

    def check(self) -> None:
        for invoice in self._invoices():
            assert invoice.subtotal == sum(line.amount for line in invoice.lines.auto_paging_iter())
            if invoice.status in ("paid", "open"):
                assert invoice.amount_due == invoice.amount_paid + invoice.amount_remaining
                assert invoice.amount_due == max(invoice.total + invoice.starting_balance, 0)
        charged = sum(
            each.amount_captured for each in self.api.charges.list({"limit": 100}).auto_paging_iter()
        )
        assert charged == sum(invoice.amount_paid for invoice in self._invoices())


@pytest.mark.parametrize("seed", range(4))
def test_previews_are_kept_and_invoices_add_up(
    standin: StandIn, shop: Shop, buyer: Callable[..., Any], seed: int
) -> None:
    life = Life(standin, shop, buyer, seed)
    for _ in range(7):
        if not life.go_on():
            break
        life.act()
    life.check()
