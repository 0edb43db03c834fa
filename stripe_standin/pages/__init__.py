"""Pages that a browser can click through: Checkout, the customer portal, hosted invoices. Forms work without scripts."""

import re
import traceback
from collections.abc import Callable
from urllib.parse import parse_qsl

from stripe_standin.errors import StripeError
from stripe_standin.pages import checkout, invoice, portal
from stripe_standin.pages.html import page
from stripe_standin.pages.response import Page
from stripe_standin.world import World

_ROUTES: list[tuple[str, str, Callable[..., Page]]] = [
    ("GET", r"/c/pay/(cs_\w+)", checkout.show),
    ("POST", r"/c/pay/(cs_\w+)", checkout.submit),
    ("GET", r"/p/session/(\w+)", portal.home),
    ("GET", r"/p/session/(\w+)/payment-method", portal.card_form),
    ("POST", r"/p/session/(\w+)/payment-method", portal.save_card),
    ("GET", r"/p/session/(\w+)/information", portal.information_form),
    ("POST", r"/p/session/(\w+)/information", portal.save_information),
    ("GET", r"/p/session/(\w+)/cancel/(sub_\w+)", portal.cancel_form),
    ("POST", r"/p/session/(\w+)/cancel/(sub_\w+)", portal.cancel),
    ("POST", r"/p/session/(\w+)/renew/(sub_\w+)", portal.renew),
    ("GET", r"/i/(in_\w+)/(\w+)", invoice.show),
    ("POST", r"/i/(in_\w+)/(\w+)", invoice.submit),
    ("GET", r"/i/(in_\w+)/(\w+)/pdf", invoice.pdf),
    ("GET", r"/receipts/(ch_\w+)", invoice.receipt),
    ("GET", r"/credit_notes/(cn_\w+)/pdf", invoice.credit_note),
]


def answer(world: World, method: str, path: str, query: str, body: str) -> Page:
    for verb, pattern, act in _ROUTES:
        if verb == method and (match := re.fullmatch(pattern, path)):
            form = {name: value.strip() for name, value in parse_qsl(body or query, keep_blank_values=True)}
            try:
                return act(world, form, *match.groups())
            except StripeError as error:
                return page("message", status=error.status, title="This can't be done", text=str(error))
            except Exception:
                world.violations.append(f"{method} {path}: {traceback.format_exc()}")
                return page(
                    "message", status=500, title="The stand-in failed", text="See /_standin/violations."
                )
    return page("message", status=404, title="Page not found", text="There is nothing at this address.")
