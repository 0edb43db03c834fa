"""What `manage.py check` says about being paid: nothing here keeps an installation from starting."""

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Info, Tags, register


@register(Tags.compatibility)
def check_payment(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Whether cards can be taken, and what invoices by hand lack."""
    if settings.STRIPE_SECRET_KEY:
        return []
    found: list[CheckMessage] = [
        Info(
            "Stripe is not set up: free plans work, paid plans are collected by hand.",
            hint="To take cards, set STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET (docs/stripe.md).",
            id="billing.I001",
        )
    ]
    if settings.STRIPE_TRIAL_NEEDS_CARD:
        found.append(
            checks.Warning(
                "FAREBOX_TRIAL_NEEDS_CARD is set, and no card can be taken: trials begin without one.",
                hint="Set STRIPE_SECRET_KEY (docs/stripe.md), or leave FAREBOX_TRIAL_NEEDS_CARD out.",
                id="billing.W001",
            )
        )
    if not settings.INVOICE_PAY_TO:
        found.append(
            Info(
                "Invoices do not say where to pay.",
                hint="Set FAREBOX_INVOICE_PAY_TO, lines separated by | (docs/billing.md).",
                id="billing.I002",
            )
        )
    return found
