"""Yearly plans paid by card: to a dearer monthly one and back, and what waits for the year's end, on both sides."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from billing.models import StripeFinding
from billing.statements import finalise_due
from billing.stripe.catalogue_apply import apply_catalogue
from billing.stripe.changes import cancel_paid_plan, change_paid_plan, upgrade_price
from billing.stripe.client import plain, stripe_client
from billing.stripe.compare import compare_invoices
from billing.stripe.items import send_items
from plans.models import PlanVersion
from plans.periods import next_month
from plans.queries import newest_version
from plans.services import roll_periods
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import Payer
from tests.factories import create_plan

pytestmark = pytest.mark.django_db(transaction=True)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def payer(stripe_standin: Standin) -> Payer:
    """Alice on a small yearly plan for 490 a year, which has just begun."""
    payer = Payer.start(stripe_standin)
    unit = Decimal("0.01")
    create_plan("small-year", fee_minor=49_000, unit_price=unit, interval="year")
    create_plan("big-month", fee_minor=19_900, unit_price=unit)
    create_plan("tiny-month", fee_minor=900, unit_price=unit)
    apply_catalogue(at=payer.at)
    payer.subscribe("small-year")
    payer.hear()
    return payer


def change(payer: Payer, plan: str) -> PlanVersion:
    version = newest_version(plan)
    assert change_paid_plan(organization=payer.organization, version=version, by=None, at=payer.at) == ""
    payer.hear()
    return version


def to(payer: Payer, moment: datetime) -> None:
    payer.pass_time(moment - payer.at + 2 * HOUR)
    for _ in range(
        2
    ):  # the first one lays months that nobody saw, the second one begins what waited for one of them
        roll_periods(at=payer.at)
    payer.hear()


def present_start(payer: Payer) -> datetime:
    return payer.subscription.periods.filter(starts_at__lte=payer.at).latest("starts_at").starts_at


def year_end(payer: Payer) -> datetime:
    """A year after the beginning, as Stripe counts it: the end of the fee's own period."""
    found = plain(stripe_client().v1.subscriptions.retrieve(payer.row.stripe_id))
    return datetime.fromtimestamp(
        max(item["current_period_end"] for item in found["items"]["data"]), payer.at.tzinfo
    )


def test_more_credit_than_the_new_fee_pays_the_next_months_too(payer: Payer) -> None:
    payer.pass_time(29 * DAY)  # a month may have thirty days: nothing else falls due then
    price = upgrade_price(payer.row, newest_version("big-month"), at=payer.at.replace(microsecond=0))
    assert 40_000 < price.credit_minor < 49_000
    assert (price.due_minor, price.left_minor) == (0, price.credit_minor - 19_900)

    version = change(payer, "big-month")

    first = payer.invoices[-1]
    assert (first.total_minor, first.due_minor, first.state) == (-price.left_minor, 0, "paid")
    customer = stripe_client().v1.customers.retrieve(payer.organization.stripe_customer.stripe_id)
    assert customer.balance == -price.left_minor
    assert payer.row.version == payer.subscription.version == version

    # The next month takes the rest; nothing is charged twice and nothing is lost.
    to(payer, payer.row.current_period_end)  # type: ignore[arg-type]
    finalise_due(at=payer.at)
    send_items(at=payer.at)
    payer.pass_time(2 * HOUR)
    payer.hear()
    renewal = plain(stripe_client().v1.invoices.retrieve(payer.invoices[-1].stripe_id))
    assert renewal["total"] == 19_900
    assert renewal["amount_paid"] == max(19_900 - price.left_minor, 0)
    compare_invoices(at=payer.at)
    assert list(StripeFinding.objects.values_list("text", flat=True)) == []


def test_a_downgrade_waits_for_the_years_end_on_both_sides(payer: Payer) -> None:
    payer.pass_time(40 * DAY)
    roll_periods(at=payer.at)
    payer.hear()
    end = year_end(payer)

    version = change(payer, "tiny-month")

    found = plain(stripe_client().v1.subscriptions.retrieve(payer.row.stripe_id, {"expand": ["schedule"]}))
    assert [phase["end_date"] for phase in found["schedule"]["phases"]][0] == int(end.timestamp())
    before = next_month(present_start(payer), present_start(payer))
    to(payer, before)
    assert payer.subscription.version.plan.slug == payer.row.version.plan.slug == "small-year"

    to(payer, end)
    assert payer.subscription.version == payer.row.version == version
    assert present_start(payer) == end
    charged = [one.total_minor for one in payer.invoices if one.total_minor]
    assert charged == [49_000, 900]


def test_a_yearly_plan_is_cancelled_for_the_years_end(payer: Payer) -> None:
    payer.pass_time(40 * DAY)
    roll_periods(at=payer.at)
    payer.hear()
    end = year_end(payer)
    cancelled = cancel_paid_plan(organization=payer.organization, by=None, at=payer.at)
    payer.hear()
    assert cancelled.cancels_at == payer.row.cancels_at == end

    to(payer, payer.row.current_period_end)  # type: ignore[arg-type]
    assert payer.row.ended_at is None
    to(payer, end)
    assert payer.subscription.ended_at == end
