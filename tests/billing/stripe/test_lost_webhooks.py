"""R14: webhooks of 72 hours are lost for a town of customers, then the nightly job: all is found and mended in one run."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from billing.stripe import sync
from billing.stripe.changes import change_paid_plan
from billing.stripe.client import stripe_client
from billing.stripe.reconcile import find_unlike, mend_unlike
from plans.models import SubscriptionStatus
from plans.queries import newest_version
from plans.services import roll_periods
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.counts import Record, parts, words
from tests.billing.stripe.payer import FAILS_LATER, GOOD, Payer
from tests.billing.stripe.test_reconcile import tables

pytestmark = pytest.mark.django_db(transaction=True)
DAY, HOURS = timedelta(days=1), 72
Act = Callable[[Payer, pytest.MonkeyPatch], Any]


def nothing(payer: Payer, patch: pytest.MonkeyPatch) -> None:
    """What happens to everybody: the trial ends, the first month is charged."""


def sign_up(payer: Payer, patch: pytest.MonkeyPatch) -> None:
    assert payer.fill_in(payer.checkout())


def end_now(payer: Payer, patch: pytest.MonkeyPatch) -> None:
    stripe_client().v1.subscriptions.cancel(payer.row.stripe_id)


def end_later(payer: Payer, patch: pytest.MonkeyPatch) -> None:
    stripe_client().v1.subscriptions.update(payer.row.stripe_id, {"cancel_at_period_end": True})


def upgrade_and_crash(payer: Payer, patch: pytest.MonkeyPatch) -> None:
    """Stripe has made it, and nothing of it is here."""

    def crash(*args: Any, **kwargs: Any) -> None:
        raise ConnectionAbortedError

    version = newest_version("professional")
    with patch.context() as broken:
        broken.setattr(sync, "find_organization", crash)  # the first that is done with Stripe's answer
        with pytest.raises(ConnectionAbortedError):
            change_paid_plan(organization=payer.organization, version=version, by=None, at=payer.at)


def lose_metadata(payer: Payer, patch: pytest.MonkeyPatch) -> None:
    stripe_client().v1.customers.update(payer.customer_id, {"metadata": {"farebox_organization": ""}})


# What happens, the card, and what the customer is afterwards.
_S = SubscriptionStatus
LIVES: tuple[tuple[Act, str, SubscriptionStatus], ...] = (
    (nothing, GOOD, _S.ACTIVE),
    (nothing, FAILS_LATER, _S.PAST_DUE),
    (sign_up, GOOD, _S.ACTIVE),
    (end_now, GOOD, _S.CANCELLED),
    (end_later, GOOD, _S.CANCELLED),
    (upgrade_and_crash, GOOD, _S.ACTIVE),
    (lose_metadata, GOOD, _S.ACTIVE),
)


@pytest.fixture
def standin(stripe_standin: Standin) -> Standin:
    Payer.start(stripe_standin)
    return stripe_standin


@pytest.mark.parametrize("part", parts("R14", usual=1, size=20), ids=words)
def test_all_is_mended_in_one_run(
    standin: Standin, part: range, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    """A part of so many customers for each of these lives, in the last days of their trials."""
    town = [(Payer.join(standin, f"Citizen {number}"), *life) for number in part for life in LIVES]
    for payer, act, card, _ in town:
        if act is not sign_up:
            payer.subscribe(card=card)
            payer.hear()
    standin.control("clock/advance", "POST", {"seconds": 13 * 86_400})
    for payer, *_ in town:
        if payer.organization.stripe_subscriptions.exists():
            payer.hear()
    assert find_unlike(at=town[0][0].at) == []

    for payer, act, _, _ in town:
        act(payer, monkeypatch)
    standin.control("clock/advance", "POST", {"seconds": HOURS * 3_600})
    at = town[0][0].at
    roll_periods(at=at)
    done = mend_unlike(at=at)
    before = tables()
    again = mend_unlike(at=at)

    counts = {
        "customers": len(town), "found": len(done.mended) + len(done.left), "mended": len(done.mended),
        "left": len(done.left), "second": len(again.mended) + len(again.left),
    }  # fmt: skip
    for name, count in counts.items():
        record_property(name, count)
    assert done.left == []
    assert (again.mended, again.left, tables()) == ([], [], before)
    assert counts["mended"] >= len(town)
    for payer, act, _, status in town:
        assert (act.__name__, payer.subscription.status) == (act.__name__, status)
