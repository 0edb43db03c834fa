"""Our statements are Stripe's invoices: months with usage, late usage, an upgrade in mid-period, compared line by line."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing.models import StatementKind, StripeFinding, StripeInvoice, StripeItem, StripeUsage
from billing.statements import (
    StatementKept,
    finalise_due,
    issue_credit_note,
    regenerate_statement,
    void_statement,
)
from billing.stripe.changes import change_paid_plan, upgrade_price
from billing.stripe.compare import compare_invoice, compare_invoices
from billing.stripe.items import send_items
from billing.stripe.sender import send_usage
from billing.stripe.sync import end_replaced
from billing.stripe.usage import fill_ending, fill_usage
from core.clock import to_micros
from core.ids import event_id, new_nonce
from metering.events import Event
from metering.services import ingest_history
from plans.models import Meter, Period
from plans.queries import newest_version
from plans.services import roll_periods
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import Payer

pytestmark = pytest.mark.django_db(transaction=True)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def payer(stripe_standin: Standin) -> Payer:
    """Alice on Starter, whose trial is over: her first paid month runs."""
    payer = Payer.start(stripe_standin)
    payer.subscribe()
    payer.pass_time(14 * DAY + 2 * HOUR)
    payer.hear()
    return payer


def use(payer: Payer, quantity: int) -> Event:
    """Usage of this moment in the stand-in's time."""
    roll_periods(at=payer.at)
    period = present(payer)
    at_us = to_micros(payer.at)
    event = Event(
        id=event_id(at_us, new_nonce()), occurred_at_us=at_us, received_at_us=at_us, mode="live", door="ingest",
        organization_id=payer.organization.pk, meter_id=Meter.objects.get(slug="api_calls").pk, period_id=period.pk,
        quantity=Decimal(quantity),
    )  # fmt: skip
    assert ingest_history([event], at=payer.at).stored == 1
    return event


def present(payer: Payer) -> Period:
    rows = Period.objects.for_organization(payer.organization)
    return rows.get(starts_at__lte=payer.at, ends_at__gt=payer.at)


def end_month(payer: Payer) -> StripeInvoice:
    """What beat does around a period's end, in its order; Stripe's invoice of it, finalised."""
    end_replaced()
    period = present(payer)
    payer.pass_time(period.ends_at - payer.at - 2 * timedelta(minutes=1))
    fill_usage(at=payer.at)
    send_usage(at=payer.at)
    payer.pass_time(timedelta(minutes=50))
    roll_periods(at=payer.at)
    payer.hear()
    finalise_due(at=payer.at)
    fill_ending(at=payer.at)
    send_usage(at=payer.at)
    send_items(at=payer.at)
    payer.pass_time(2 * HOUR)
    payer.hear()
    return payer.invoices[-1]


def assert_equal(payer: Payer) -> None:
    payer.pass_time(HOUR)
    compare_invoices(at=payer.at)
    for invoice in payer.invoices:
        for pair in compare_invoice(invoice, at=payer.at):
            assert pair.ours is None or pair.is_equal, pair
    assert list(StripeFinding.objects.values_list("text", flat=True)) == []
    assert not StripeUsage.objects.exclude(state="sent").exists()
    assert not StripeItem.objects.filter(sent_at=None).exists()


def statement_totals(payer: Payer) -> list[int]:
    rows = payer.organization.statements.filter(kind=StatementKind.PERIOD).order_by("starts_at")
    return [total for total in rows.values_list("total_minor", flat=True) if total]


def test_120_000_calls_on_starter_are_119_dollars_on_both_sides(payer: Payer) -> None:
    use(payer, 90_000)
    payer.pass_time(3 * DAY)
    use(payer, 30_000)

    invoice = end_month(payer)

    assert statement_totals(payer) == [11_900]
    assert invoice.total_minor == 11_900  # 70,000 x 0.001 of this month, and the fee of the next
    assert invoice.state == "paid"
    assert not payer.organization.invoices.exists()  # nobody is asked twice
    assert_equal(payer)


def test_late_usage_is_an_item_on_the_next_invoice(payer: Payer) -> None:
    use(payer, 60_000)
    first_period = present(payer)
    end_month(payer)
    late_us = to_micros(first_period.starts_at + DAY)
    late = Event(
        id=event_id(late_us, new_nonce()), occurred_at_us=late_us, received_at_us=to_micros(payer.at), mode="live",
        door="ingest", organization_id=payer.organization.pk, meter_id=Meter.objects.get(slug="api_calls").pk,
        period_id=first_period.pk, quantity=Decimal(5_000),
    )  # fmt: skip
    ingest_history([late], at=payer.at)

    invoice = end_month(payer)

    assert invoice.total_minor == 4_900 + 500
    assert statement_totals(payer) == [5_900, 5_400]
    assert_equal(payer)


def test_an_upgrade_in_mid_period_is_equal_on_both_sides(payer: Payer) -> None:
    payer.pass_time(5 * DAY)
    use(payer, 52_000)
    use(payer, 0 + 1)
    payer.pass_time(5 * DAY)
    professional = newest_version("professional")
    price = upgrade_price(payer.row, professional, at=payer.at)
    assert price.credit_minor == 0  # the included quantity is used up: nothing of the fee is left

    change_paid_plan(organization=payer.organization, version=professional, by=None, at=payer.at)
    payer.hear()
    assert payer.invoices[-1].total_minor == price.due_minor == 19_900
    payer.pass_time(HOUR)
    finalise_due(at=payer.at)
    invoice = end_month(payer)

    assert statement_totals(payer) == [4_900 + 200, 19_900]
    assert invoice.total_minor == 19_900 + 200
    assert_equal(payer)


def test_the_credit_of_an_upgrade_is_the_statements(payer: Payer) -> None:
    payer.pass_time(10 * DAY)
    use(payer, 1_000)
    payer.pass_time(HOUR)
    professional = newest_version("professional")
    price = upgrade_price(payer.row, professional, at=payer.at)
    assert 0 < price.credit_minor < 4_900

    change_paid_plan(organization=payer.organization, version=professional, by=None, at=payer.at)
    payer.hear()
    payer.pass_time(HOUR)
    finalise_due(at=payer.at)
    end_month(payer)

    assert statement_totals(payer)[0] == 4_900 - price.credit_minor
    assert_equal(payer)


def test_a_document_by_card_is_credited_not_voided(payer: Payer) -> None:
    use(payer, 90_000)
    end_month(payer)
    statement = payer.organization.statements.filter(kind=StatementKind.PERIOD).latest("starts_at")

    for act in (void_statement, regenerate_statement):
        with pytest.raises(StatementKept, match="by card"):
            act(statement=statement, reason="Test", by=None, at=payer.at)
    issue_credit_note(statement=statement, amount_minor=1_000, reason="An outage", by=None, at=payer.at)

    assert end_month(payer).total_minor == 4_900 - 1_000
    assert_equal(payer)
