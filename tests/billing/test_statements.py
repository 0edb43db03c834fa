from datetime import timedelta
from decimal import Decimal

import pytest

from billing.credits import CreditRefused, credit_balances
from billing.late import late_periods
from billing.models import Invoice, LineKind, Statement, StatementKind, StatementState
from billing.recompute import recompute
from billing.statements import (
    PeriodRuns,
    StatementKept,
    adjust_ended,
    finalise_due,
    finalise_statement,
    issue_credit_note,
    regenerate_statement,
    void_statement,
)
from metering.costs import period_cost
from plans.models import Meter
from plans.services import cancel_subscription, roll_periods
from tests.billing.kit import HOUR, Customer
from tests.factories import create_plan

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Customer:
    return Customer.start("Acme Maps")


def test_a_statement_is_the_live_cost_of_its_period(acme: Customer) -> None:
    acme.use(12_500)
    live = period_cost(acme.organization, period=acme.period())

    statement = acme.finalise()

    assert statement.total_minor == live.total_minor == 4_900 + 250
    assert [line.amount_minor for line in statement.lines.all()] == [4_900, 250]
    assert (statement.number, statement.state, statement.bill_to) == (
        "ACMEMAPS-0001",
        "finalised",
        "Acme Maps",
    )
    tiers = list(
        statement.lines.get(kind=LineKind.USAGE).tiers.values_list("quantity", "unit_price", "amount")
    )
    assert tiers == [(10_000, 0, 0), (2_500, Decimal("0.001"), Decimal("2.5"))]
    invoice = Invoice.objects.get(statement=statement)
    assert (invoice.amount_minor, invoice.state) == (5_150, "open")
    assert recompute(statement) == []


def test_a_period_in_its_grace_is_not_finalised(acme: Customer) -> None:
    end = acme.period().ends_at

    with pytest.raises(PeriodRuns):
        finalise_statement(period=acme.period(), at=end + timedelta(minutes=44))
    assert finalise_due(at=end + timedelta(minutes=44)) == 0
    assert finalise_due(at=end + timedelta(minutes=45)) == 1


def test_finalising_again_changes_nothing(acme: Customer) -> None:
    first = acme.finalise()

    assert acme.finalise() == first
    assert finalise_due(at=acme.period().ends_at + HOUR) == 0
    assert Statement.objects.count() == 1


def test_numbers_run_per_account_without_a_gap(acme: Customer) -> None:
    other = Customer.start("Acme Maps", shard=3)
    at = acme.period(2).ends_at + HOUR

    assert finalise_due(at=at) == 6
    numbers = Statement.objects.for_organization(acme.organization).order_by("starts_at")
    assert list(numbers.values_list("number", flat=True)) == [f"ACMEMAPS-000{n}" for n in (1, 2, 3)]
    theirs = Statement.objects.for_organization(other.organization).earliest("starts_at").number
    assert theirs.endswith("-0001")
    assert theirs != "ACMEMAPS-0001"


def test_nothing_to_pay_is_a_statement_without_an_invoice() -> None:
    free = Customer.start(version=create_plan("gratis"))
    free.use(400)

    statement = free.finalise()

    assert statement.total_minor == 0
    assert not Invoice.objects.exists()


def test_late_usage_is_a_line_on_the_next_statement(acme: Customer) -> None:
    acme.use(9_000)
    first = acme.finalise()
    acme.use(3_000)  # 1,000 still included, 2,000 at 0.001
    acme.use(50, month=1)

    second = acme.finalise(1)

    line = second.lines.get(kind=LineKind.ADJUSTMENT)
    assert (line.quantity, line.amount_minor, line.of_period) == (3_000, 200, acme.period())
    assert line.since == first.cut_at
    assert list(line.tiers.values_list("quantity", "amount")) == [(1_000, 0), (2_000, 2)]
    assert second.total_minor == 4_900 + 200
    assert recompute(first) == recompute(second) == []
    assert not acme.finalise(2).lines.filter(kind=LineKind.ADJUSTMENT).exists()


def test_late_usage_of_a_cancelled_customer_is_an_adjustment_document(acme: Customer) -> None:
    cancel_subscription(subscription=acme.subscription, by=None, at=acme.period().starts_at + HOUR)
    end = acme.period().ends_at
    roll_periods(at=end)
    acme.use(9_000)
    first = acme.finalise()
    acme.use(3_000)

    assert adjust_ended(at=end + HOUR) == 1

    document = Statement.objects.get(kind=StatementKind.ADJUSTMENT)
    assert (document.corrects, document.total_minor, document.number) == (first, 200, "ACMEMAPS-0002")
    assert Invoice.objects.get(statement=document).amount_minor == 200
    assert recompute(document) == []
    assert adjust_ended(at=end + HOUR) == 0


def test_late_usage_that_changes_nothing_is_rated_once(acme: Customer) -> None:
    """Of a meter that the plan has no price for; what comes afterwards is billed as ever."""
    cancel_subscription(subscription=acme.subscription, by=None, at=acme.period().starts_at + HOUR)
    end = acme.period().ends_at
    roll_periods(at=end)
    acme.use(9_000)
    first = acme.finalise()
    free = Meter.objects.create(slug="unsold", name="Unsold", unit="unit")
    acme.use(7, meter=free)
    assert [late.covered_to for late in late_periods(at=end + HOUR)] == [first.cut_at]

    assert adjust_ended(at=end + HOUR) == 0

    assert late_periods(at=end + HOUR) == []
    acme.use(3_000)
    assert adjust_ended(at=end + HOUR) == 1
    document = Statement.objects.get(kind=StatementKind.ADJUSTMENT)
    assert (document.total_minor, document.lines.get().since) == (200, first.cut_at)
    assert recompute(document) == []
    void_statement(statement=document, reason="A test", by=None, at=end + HOUR)
    assert [late.covered_to for late in late_periods(at=end + HOUR)] == [first.cut_at]
    assert adjust_ended(at=end + HOUR) == 1


def test_a_void_statement_stays_and_its_replacement_is_linked(acme: Customer) -> None:
    acme.use(9_000)
    first = acme.finalise()
    acme.use(3_000)

    second = regenerate_statement(statement=first, reason="Wrong address", by=None, at=first.finalised_at)

    first.refresh_from_db()
    assert (first.state, first.void_reason) == (StatementState.VOID, "Wrong address")
    assert first.invoice.state == "void"
    assert (second.replaces, second.number, second.total_minor) == (first, "ACMEMAPS-0002", 5_100)
    assert recompute(second) == []
    assert not acme.finalise(1).lines.filter(kind=LineKind.ADJUSTMENT).exists()  # it is in the new one


def test_what_a_later_statement_billed_is_not_billed_again(acme: Customer) -> None:
    acme.use(9_000)
    first = acme.finalise()
    acme.use(3_000)
    second = acme.finalise(1)

    again = regenerate_statement(statement=first, reason="Wrong address", by=None, at=second.finalised_at)

    assert (again.total_minor, again.cut_at) == (4_900, first.cut_at)


def test_the_middle_one_of_three_documents_is_made_again_but_not_only_voided(acme: Customer) -> None:
    """Without it, late usage between its cut and the last document's would be on no document any more."""
    acme.use(9_000)
    acme.finalise()
    acme.use(3_000)
    middle = acme.finalise(1)
    acme.use(4_000)
    last = acme.finalise(2)
    at = last.finalised_at

    with pytest.raises(StatementKept, match="make it again"):
        void_statement(statement=middle, reason="Test", by=None, at=at)
    again = regenerate_statement(statement=middle, reason="Test", by=None, at=at)

    assert (again.cut_at, again.total_minor) == (middle.cut_at, middle.total_minor)
    assert [recompute(one) for one in (again, last)] == [[], []]
    void_statement(statement=last, reason="Test", by=None, at=at)


def test_a_void_period_is_not_finalised_by_itself(acme: Customer) -> None:
    statement = acme.finalise()
    void_statement(statement=statement, reason="Test", by=None, at=statement.finalised_at)

    assert finalise_due(at=acme.period().ends_at + HOUR) == 0


def test_a_credit_note_takes_off_the_invoice_first(acme: Customer) -> None:
    statement = acme.finalise()

    note = issue_credit_note(
        statement=statement, amount_minor=1_000, reason="An outage", by=None, at=statement.finalised_at
    )

    assert (note.total_minor, note.corrects, note.number) == (-1_000, statement, "ACMEMAPS-0002")
    assert Invoice.objects.get(statement=statement).due_minor == 3_900
    assert credit_balances(acme.organization, at=statement.finalised_at) == {}
    with pytest.raises(StatementKept):
        void_statement(statement=statement, reason="Test", by=None, at=statement.finalised_at)


def test_credit_notes_never_exceed_what_remains(acme: Customer) -> None:
    statement = acme.finalise()
    at = statement.finalised_at
    issue_credit_note(statement=statement, amount_minor=4_000, reason="An outage", by=None, at=at)

    for amount in (901, 0, -5):
        with pytest.raises(CreditRefused):
            issue_credit_note(statement=statement, amount_minor=amount, reason="More", by=None, at=at)
    issue_credit_note(statement=statement, amount_minor=900, reason="The rest", by=None, at=at)
    assert Invoice.objects.get(statement=statement).state == "paid"


def test_a_correction_of_a_period_long_ago_has_a_document_of_its_own(acme: Customer) -> None:
    acme.use(9_000)
    first = acme.finalise()
    acme.use(3_000)
    at = acme.period().ends_at + timedelta(days=200)
    roll_periods(at=at)

    assert adjust_ended(at=acme.period().ends_at + HOUR) == 0  # the next statement takes it
    assert adjust_ended(at=at) == 1
    assert Statement.objects.get(kind=StatementKind.ADJUSTMENT).corrects == first


def test_a_late_reading_stands_on_into_the_next_period() -> None:
    stored = Meter.objects.create(
        slug="storage", name="Storage", unit="GB-day", aggregation="time_weighted", time_unit="day"
    )
    version = create_plan("disk", included=Decimal(0), unit_price=Decimal("0.10"), meter=stored)
    acme = Customer.start(version=version)
    first, second = acme.finalise(), acme.finalise(1)
    acme.use(2, meter=stored)  # from the middle of the first period on, never ended

    late = acme.finalise(2)

    of_periods = {line.of_period: line.amount_minor for line in late.lines.filter(kind=LineKind.ADJUSTMENT)}
    assert of_periods == {acme.period(): 280, acme.period(1): 620}  # 14 and 31 days of 2 GB
    assert [recompute(one) for one in (first, second, late)] == [[], [], []]
