"""The mail before a trial at Stripe ends: when, what is charged then, and whether a card is there."""

from datetime import datetime

from django.db.models import Q

from billing.collection import mail_about
from billing.models import StripeCustomer, StripeSubscription
from core.money import format_money


def tell_trial_end(row: StripeSubscription) -> bool:
    """Tell the people who pay that this trial ends, once for each end that it has; whether they were told now.

    Nobody is told where nothing is going to be charged: cancelled for that moment, ended, or not in a trial.
    """
    ends_at = row.current_period_end
    if row.status != "trialing" or row.ended_at is not None or ends_at is None:
        return False
    if row.cancels_at is not None and row.cancels_at <= ends_at or not _claim(row, ends_at):
        return False
    version = row.next_version or row.version
    customer = StripeCustomer.objects.for_organization(row.organization).first()
    context = {
        "plan": version.plan.name,
        "trial_ends_at": ends_at,
        "fee": format_money(version.fee_minor, version.currency) if version.fee_minor else "",
        "interval": version.interval,
        "card": customer.card if customer is not None else "",
    }
    mail_about(row.organization, "trial_ending", context)
    return True


def _claim(row: StripeSubscription, ends_at: datetime) -> bool:
    """Of two that tell it at once, one does."""
    untold = StripeSubscription.objects.filter(pk=row.pk).exclude(
        Q(trial_end_told=ends_at, trial_end_told__isnull=False)
    )
    return untold.update(trial_end_told=ends_at) > 0
