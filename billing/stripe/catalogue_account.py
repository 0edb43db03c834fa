"""What of the catalogue is at Stripe now, as plain dictionaries by id; each list is fetched once."""

from functools import cached_property
from typing import Any

from billing.stripe.client import plain, stripe_client

_PAGE = 100


class Account:
    """One look at Stripe's account. Raises StripeNotConfigured, and stripe.StripeError from each list."""

    def __init__(self) -> None:
        self.api = stripe_client().v1
        self._prices: dict[str, dict[str, dict[str, Any]]] = {}

    @cached_property
    def products(self) -> dict[str, dict[str, Any]]:
        found = self.api.products.list({"limit": _PAGE}).auto_paging_iter()
        return {product.id: plain(product) for product in found}

    @cached_property
    def meters(self) -> dict[str, dict[str, Any]]:
        found = self.api.billing.meters.list({"limit": _PAGE}).auto_paging_iter()
        return {meter.id: plain(meter) for meter in found}

    def prices(self, product: str) -> dict[str, dict[str, Any]]:
        """Active or not, with their tiers; none for a product that is not there."""
        if product not in self._prices:
            self._prices[product] = self._fetched(product) if product in self.products else {}
        return self._prices[product]

    def _fetched(self, product: str) -> dict[str, dict[str, Any]]:
        found = self.api.prices.list({"product": product, "limit": _PAGE, "expand": ["data.tiers"]})
        return {price.id: plain(price) for price in found.auto_paging_iter()}
