"""Two tabs, two people, one subscription: acts of the same moment leave one subscription and one proration."""

import os
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from billing.stripe.changes import cancel_paid_plan, change_paid_plan, upgrade_price
from billing.stripe.checkout import finish_checkout
from plans.queries import newest_version
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import Payer
from tests.billing.stripe.races import assert_one_active, credits_given, race
from tests.billing.stripe.test_invoices_equal import use
from tests.eager import tasks_at_once

pytestmark = pytest.mark.django_db(transaction=True)
DAY = timedelta(days=1)
RUNS = int(
    os.environ.get("FAREBOX_STRIPE_REPEAT", "1")
)  # `python -m tests.billing.stripe.figures` asks for more


@pytest.fixture
def payer(stripe_standin: Standin) -> Iterator[Payer]:
    with tasks_at_once():
        yield Payer.start(stripe_standin)


@pytest.fixture
def past_trial(payer: Payer) -> Payer:
    """Alice on Starter, ten days into her first paid month."""
    payer.subscribe()
    payer.pass_time(24 * DAY + timedelta(hours=2))
    payer.hear()
    return payer


def upgrade(payer: Payer, plan: str = "professional") -> Callable[[], object]:
    at = payer.at
    return lambda: change_paid_plan(
        organization=payer.organization, version=newest_version(plan), by=None, at=at
    )


@pytest.mark.parametrize("run", range(RUNS))
def test_two_equal_upgrades_are_one(past_trial: Payer, run: int) -> None:
    """R9: a double click, and the same request repeated: one effect."""
    payer = past_trial
    act = upgrade(payer)
    found = race(act, act, act)

    assert found.errors == []
    assert (found.done, found.refused) == (1, ["nothing_to_change"] * 2)
    payer.hear()
    assert_one_active(payer)
    assert credits_given(payer) == 1
    assert [one.billing_reason for one in payer.invoices].count("subscription_create") == 2


@pytest.mark.parametrize("run", range(RUNS))
def test_two_upgrades_race(past_trial: Payer, run: int) -> None:
    """R11: to two different plans. The later one may go on from the first, whose fee it then gives back."""
    payer = past_trial
    found = race(upgrade(payer), upgrade(payer, "enterprise"))
    assert found.errors == []
    assert found.done >= 1
    payer.hear()
    assert_one_active(payer)
    assert credits_given(payer) >= 1


@pytest.mark.parametrize("run", range(RUNS))
def test_an_upgrade_races_a_cancellation(past_trial: Payer, run: int) -> None:
    """R11: whichever comes first, what is left says the same on both sides."""
    payer, at = past_trial, past_trial.at
    found = race(upgrade(payer), lambda: cancel_paid_plan(organization=payer.organization, by=None, at=at))
    assert found.errors == []
    assert found.done == 2
    payer.hear()
    assert_one_active(payer)
    assert credits_given(payer) == 1
    assert payer.row.version.plan.slug == "professional"
    assert payer.row.cancels_at == payer.subscription.cancels_at


@pytest.mark.parametrize("run", range(RUNS))
def test_two_tabs_subscribe(payer: Payer, run: int) -> None:
    """R11: two tabs open Checkout and pay at once, and both come back."""
    pages: list[str] = []
    assert race(*[lambda: pages.append(payer.checkout())] * 2).errors == []
    back: list[str] = []
    race(*[lambda page=page: back.append(payer.fill_in(page)) for page in pages])
    ids = [url.rpartition("session_id=")[2] for url in back if url]
    at = payer.at
    found = race(
        *[
            lambda one=one: finish_checkout(organization=payer.organization, session_id=one, at=at)
            for one in ids * 2
        ]
    )
    assert (found.errors, found.refused) == ([], [])
    assert len(ids) == 1
    payer.hear()
    assert_one_active(payer)


@pytest.mark.parametrize("seed", range(10 * RUNS))
def test_what_was_shown_is_charged(payer: Payer, seed: int) -> None:
    """R13: changes at random moments of the paid month, with random usage before them."""
    chance = random.Random(seed)
    payer.subscribe()
    payer.pass_time(14 * DAY + timedelta(hours=2))
    payer.hear()
    payer.pass_time(timedelta(seconds=chance.randrange(60, 27 * 86_400)))
    if used := chance.choice((0, chance.randrange(1, 49_999), 60_000)):
        use(payer, used)
    at = payer.at.replace(microsecond=0)
    version = newest_version(chance.choice(("professional", "enterprise")))
    shown = upgrade_price(payer.row, version, at=at)
    change_paid_plan(organization=payer.organization, version=version, by=None, at=at)
    payer.hear()
    charged: Any = payer.invoices[-1]
    assert (charged.total_minor, charged.state) == (shown.due_minor, "paid")
    assert_one_active(payer)
