"""Stripe's webhooks as a test delivers them: each event once, in order, or what has come since the last time."""

from typing import Any

from billing.stripe.client import stripe_client
from tests.billing.stripe.test_webhooks import post


class Ear:
    """Posts to `/webhooks/stripe` what Stripe has to tell and this one has not heard yet."""

    def __init__(self) -> None:
        self.heard: set[str] = set()

    def new(self) -> list[dict[str, Any]]:
        """Oldest first."""
        listed = stripe_client().v1.events.list({"limit": 100}).auto_paging_iter()
        found = [event.to_dict(for_json=True) for event in listed]
        return [event for event in found[::-1] if event["id"] not in self.heard]

    def listen(self) -> list[str]:
        """Deliver all that is new; the types. Each has to be answered with 200."""
        told = self.new()
        for event in told:
            assert post(event) == 200, event["type"]
            self.heard.add(event["id"])
        return [event["type"] for event in told]
