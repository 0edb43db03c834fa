"""What of the catalogue is at Stripe now, as plain dictionaries by id; each list is fetched once."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import stripe

from billing.stripe.client import plain, stripe_client

_PAGE = 100


class Account:
    """One look at Stripe's account. What a list lacks is asked for by its id before it counts as gone: it may have been made
    after the list was read. Raises StripeNotConfigured, and stripe.StripeError from each list."""

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

    def product(self, stripe_id: str) -> dict[str, Any] | None:
        return _or_asked(self.products, stripe_id, self.api.products.retrieve)

    def meter(self, stripe_id: str) -> dict[str, Any] | None:
        return _or_asked(self.meters, stripe_id, self.api.billing.meters.retrieve)

    def price(self, product: str, stripe_id: str) -> dict[str, Any] | None:
        return _or_asked(
            self.prices(product),
            stripe_id,
            lambda found: self.api.prices.retrieve(found, {"expand": ["tiers"]}),
        )

    def _fetched(self, product: str) -> dict[str, dict[str, Any]]:
        found = self.api.prices.list({"product": product, "limit": _PAGE, "expand": ["data.tiers"]})
        return {price.id: plain(price) for price in found.auto_paging_iter()}


def _or_asked(
    listed: dict[str, dict[str, Any]], stripe_id: str, retrieve: Callable[[str], stripe.StripeObject]
) -> dict[str, Any] | None:
    if stripe_id and stripe_id not in listed:
        try:
            listed[stripe_id] = plain(retrieve(stripe_id))
        except stripe.InvalidRequestError as error:
            if error.http_status != 404:
                raise
    return listed.get(stripe_id)
