"""When the catalogue goes to Stripe: after a version was published, again until it is there, and a look every night.

Selling never waits for Stripe: publishing only queues a task (billing/tasks.py), and what did not arrive is found by our rows.
"""

from datetime import datetime

import stripe
import structlog

from billing.stripe.catalogue_rows import incomplete_versions
from billing.stripe.catalogue_sync import apply_catalogue, check_catalogue
from billing.stripe.client import is_configured

log = structlog.get_logger(__name__)


def lay_out_incomplete(*, at: datetime) -> int:
    """Make what is missing of each version; how many versions were incomplete. Asks nothing of Stripe when none was."""
    if not is_configured():
        return 0
    versions = incomplete_versions(at=at)
    for version in versions:
        try:
            applied = apply_catalogue(version=version, at=at)
        except stripe.StripeError as error:  # away: beat asks again
            log.warning("stripe_catalogue_waits", version=str(version), error=str(error))
            break
        for text in applied.done:
            log.info("stripe_catalogue", done=text)
    return len(versions)


def check_nightly(*, at: datetime) -> int:
    """Hold the catalogue against Stripe and keep the findings, then put right what is safe; how many differences."""
    if not is_configured():
        return 0
    try:
        found = check_catalogue(at=at)
        for each in found:
            log.warning("stripe_catalogue_difference", text=each.text)
        if found and apply_catalogue(at=at).done:
            found = check_catalogue(at=at)
    except stripe.StripeError as error:
        log.warning("stripe_catalogue_not_checked", error=str(error))
        return 0
    if found:
        log.error("stripe_catalogue_differs", count=len(found), first=str(found[0]))
    return len(found)
