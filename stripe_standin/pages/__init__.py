"""Pages that a browser can click through: Checkout, the customer portal, hosted invoices."""

from stripe_standin.pages.response import Page
from stripe_standin.world import World


def answer(world: World, method: str, path: str, query: str, body: str) -> Page:
    return Page(b"Not found", status=404, content_type="text/plain")
