"""Two tabs, two people, one subscription: acts of the same moment leave one subscription and one proration each."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
import requests

from billing.stripe.catalogue_apply import apply_catalogue
from billing.stripe.changes import cancel_paid_plan, change_paid_plan, upgrade_price
from billing.stripe.checkout import finish_checkout
from billing.stripe.client import plain, stripe_client
from billing.stripe.reconcile import mend_unlike
from core.clock import now
from core.errors import PortalError
from plans.queries import newest_version
from tests.billing.stripe.conftest import TEST_KEY, Standin
from tests.billing.stripe.counts import Record, parts, words
from tests.billing.stripe.payer import Payer
from tests.billing.stripe.races import Race, assert_one_active, credits_given, race, server_deadlocks
from tests.eager import tasks_at_once
from tests.factories import create_plan

pytestmark = pytest.mark.django_db(transaction=True)
DAY = timedelta(days=1)
AT_ONCE = 50


@pytest.fixture
def standin(stripe_standin: Standin) -> Iterator[Standin]:
    """Four price lists without a trial, each dearer than the one before; nobody is a customer yet."""
    for number, fee_minor in enumerate((4_900, 19_900, 49_900, 99_900)):
        create_plan(f"list-{number}", fee_minor=fee_minor)
    apply_catalogue(at=now())
    with tasks_at_once():
        yield stripe_standin


def in_mid_month(payer: Payer, plan: str = "list-0") -> Payer:
    payer.subscribe(plan)
    payer.pass_time(10 * DAY)
    return payer


def upgrade(payer: Payer, plan: str) -> Callable[[], object]:
    at = payer.at
    version = newest_version(plan)
    return lambda: change_paid_plan(organization=payer.organization, version=version, by=None, at=at)


def paid_by(payer: Payer) -> list[int]:
    """What each invoice at Stripe charged, oldest first."""
    found = stripe_client().v1.invoices.list({"customer": payer.customer_id}).auto_paging_iter()
    return [plain(invoice)["amount_paid"] for invoice in found][::-1]


# R9 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", parts("R9", usual=1, size=10), ids=words)
def test_fifty_equal_upgrades_are_one(standin: Standin, part: range, record_property: Record) -> None:
    """The same request fifty times at once: one upgrade, one credit, one payment; the others hear that there is nothing to do."""
    for run in part:
        payer = in_mid_month(Payer.join(standin, f"Clicker {run}"))
        due = upgrade_price(payer.row, newest_version("list-1"), at=payer.at).due_minor
        found = race(*[upgrade(payer, "list-1")] * AT_ONCE)
        assert (found.errors, found.done, found.refused) == ([], 1, ["nothing_to_change"] * (AT_ONCE - 1))
        assert_one_active(payer)
        assert credits_given(payer) == 1
        assert len(paid_by(payer)) == 2
        assert abs(paid_by(payer)[1] - due) <= 1  # a second may pass between the preview and the act
        payer.leave()
    record_property("requests", AT_ONCE * len(part))
    record_property("effects", len(part))
    record_property("rounds", len(part))


@pytest.mark.parametrize("kind", ["timeout_before", "timeout_after", "error", "error_after"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/invoiceitems$"), ("POST", "/v1/subscriptions$"), ("DELETE", "/v1/subscriptions/")],
)
def test_an_upgrade_that_broke_off_anywhere_and_is_repeated_has_one_effect(
    standin: Standin, kind: str, method: str, path: str, record_property: Record
) -> None:
    """R9: Stripe fails before or after the effect of each request of ours, for good (our client has tried twice). Webhooks
    are lost, too: what was made is found by the comparison."""
    payer = in_mid_month(Payer.join(standin, "Unlucky"))
    standin.fault(kind, method, path, times=2, seconds=0)
    with suppress(PortalError):
        upgrade(payer, "list-1")()
    standin.control("faults", "DELETE")
    mend_unlike(at=payer.at)
    payer.pass_time(timedelta(minutes=1))
    race(upgrade(payer, "list-1"))
    mend_unlike(at=payer.at)

    assert_one_active(payer)
    assert payer.row.version.plan.slug == "list-1"
    assert len(paid_by(payer)) == 2
    assert credits_given(payer) == 1
    record_property("broken_off", 1)


@pytest.mark.parametrize("part", parts("R9", usual=1, size=100), ids=words)
def test_one_key_at_stripe_makes_one_thing(standin: Standin, part: range, record_property: Record) -> None:
    """R9: fifty equal requests with one Idempotency-Key; then the key with another body."""
    customer = in_mid_month(Payer.join(standin, "Key")).customer_id
    sent = {"customer": customer, "amount": "-100", "currency": "usd"}

    def post(key: str, body: dict[str, str]) -> requests.Response:
        """Again while the first of them is still at work."""
        headers = {"Authorization": f"Bearer {TEST_KEY}", "Idempotency-Key": key}
        while True:
            answer = requests.post(f"{standin.url}/v1/invoiceitems", body, headers=headers, timeout=60)
            if answer.status_code != 409:
                return answer

    for run in part:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(lambda _, key=f"farebox:test:{run}": post(key, sent), range(AT_ONCE)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.text for answer in answers}) == 1
        other = post(f"farebox:test:{run}", sent | {"amount": "-200"})
        assert (other.status_code, other.json()["error"]["type"]) == (400, "idempotency_error")
    made = stripe_client().v1.invoice_items.list({"customer": customer, "limit": 100})
    assert len(list(made.auto_paging_iter())) == len(part)
    record_property("keys", len(part))
    record_property("key_effects", len(part))
    record_property("refused", len(part))


# R11 -----------------------------------------------------------------------------------------------------------------


def subscribe_in_two_tabs(payer: Payer) -> None:
    """Both open Checkout, pay at once and come back; each way back is taken twice."""
    pages: list[str] = []
    good(race(*[lambda: pages.append(payer.checkout("list-0"))] * 2))
    back: list[str] = []
    race(*[lambda page=page: back.append(payer.fill_in(page)) for page in pages])
    ids = [url.rpartition("session_id=")[2] for url in back if url]
    assert len(ids) == 1
    at = payer.at
    good(
        race(
            *[
                lambda one=one: finish_checkout(organization=payer.organization, session_id=one, at=at)
                for one in ids * 2
            ]
        )
    )


def good(found: Race) -> Race:
    assert found.errors == []
    return found


def three_races(payer: Payer) -> int:
    """Two tabs subscribe; changes to two plans race; an upgrade races a cancellation. How many upgrades were made: each gives one
    fee back, and after each race one subscription runs on both sides. (To the cheaper plan it is a downgrade, if it comes second.)"""
    subscribe_in_two_tabs(payer)
    assert_one_active(payer)
    assert len(paid_by(payer)) == 1
    payer.pass_time(10 * DAY)
    assert good(race(upgrade(payer, "list-1"), upgrade(payer, "list-2"))).done >= 1
    assert_one_active(payer)
    upgrades = payer.organization.stripe_subscriptions.count() - 1
    assert credits_given(payer) == upgrades >= 1
    payer.pass_time(10 * DAY)
    at = payer.at
    ends = lambda: cancel_paid_plan(organization=payer.organization, by=None, at=at)  # noqa: E731
    assert good(race(upgrade(payer, "list-3"), ends)).done == 2
    payer.hear()
    assert_one_active(payer)
    assert credits_given(payer) == upgrades + 1
    assert len(paid_by(payer)) == upgrades + 2
    assert payer.row.version.plan.slug == "list-3"
    assert payer.row.cancels_at == payer.subscription.cancels_at
    return upgrades + 1


@pytest.mark.parametrize("part", parts("R11", usual=2, size=25), ids=words)
def test_races_leave_one_subscription(standin: Standin, part: range, record_property: Record) -> None:
    before, upgrades, prorations = server_deadlocks(), 0, 0
    for run in part:
        payer = Payer.join(standin, f"Racer {run}")
        upgrades += three_races(payer)
        prorations += credits_given(payer)
        payer.leave()
    deadlocks = server_deadlocks() - before
    for name, count in {
        "runs": len(part), "races": 3 * len(part), "upgrades": upgrades, "prorations": prorations, "deadlocks": deadlocks,
    }.items():  # fmt: skip
        record_property(name, count)
    assert deadlocks == 0
