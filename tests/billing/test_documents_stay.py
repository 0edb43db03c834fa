"""What was charged or credited cannot be changed, whoever tries: the triggers of the database."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction
from django.db.utils import IntegrityError

from accounts.models import Organization
from billing.models import (
    CreditAccount,
    CreditEntry,
    CreditGrant,
    CreditTransaction,
    LineKind,
    Statement,
    StatementKind,
    StatementLine,
    StatementState,
    StatementTier,
)
from tests.factories import create_organization

AT = datetime(2026, 3, 1, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def _statement(organization: Organization, total_minor: int = 500) -> Statement:
    period = organization.periods.earliest("starts_at")
    return Statement.objects.create(
        organization=organization,
        subscription=period.subscription,
        period=period,
        version=period.version,
        kind=StatementKind.PERIOD,
        number="ACME-0001",
        currency="USD",
        total_minor=total_minor,
        starts_at=period.starts_at,
        ends_at=period.ends_at,
        cut_at=AT,
        finalised_at=AT,
    )


def _line(statement: Statement, amount_minor: int = 500, position: int = 1) -> StatementLine:
    return StatementLine.objects.create(
        statement=statement,
        position=position,
        kind=LineKind.FEE,
        text="Starter",
        quantity=Decimal(1),
        amount_minor=amount_minor,
    )


@pytest.fixture
def organization() -> Organization:
    return create_organization(plan="starter", at=AT - timedelta(days=60))


def test_a_final_statement_stays(organization: Organization) -> None:
    statement = _statement(organization)

    for change in ({"total_minor": 1}, {"number": "ACME-0002"}, {"cut_at": AT - timedelta(days=1)}):
        with pytest.raises(IntegrityError, match="final"), transaction.atomic():
            Statement.objects.filter(pk=statement.pk).update(**change)
    with pytest.raises(IntegrityError, match="final"), transaction.atomic():
        Statement.objects.filter(pk=statement.pk).delete()


def test_a_statement_may_become_void_once(organization: Organization) -> None:
    statement = _statement(organization)

    Statement.objects.filter(pk=statement.pk).update(
        state=StatementState.VOID, voided_at=AT, void_reason="typo"
    )

    with pytest.raises(IntegrityError, match="final"), transaction.atomic():
        Statement.objects.filter(pk=statement.pk).update(state=StatementState.FINALISED, voided_at=None)


def test_lines_and_tiers_stay(organization: Organization) -> None:
    line = _line(_statement(organization))
    tier = StatementTier.objects.create(
        line=line, position=1, start=0, quantity=1, unit_price=Decimal(5), amount=Decimal(5)
    )

    for row in (line, tier):
        rows = type(row)._default_manager.filter(pk=row.pk)
        with pytest.raises(IntegrityError, match="added, never changed"), transaction.atomic():
            rows.update(quantity=2)
        with pytest.raises(IntegrityError, match="added, never changed"), transaction.atomic():
            rows._raw_delete(rows.db)  # type: ignore[attr-defined]


def test_lines_must_add_up_to_the_total(organization: Organization) -> None:
    statement = _statement(organization)

    with pytest.raises(IntegrityError, match="add up"), transaction.atomic():
        _line(statement, amount_minor=499)
    _line(statement)
    with pytest.raises(IntegrityError, match="add up"), transaction.atomic():
        _line(statement, amount_minor=1, position=2)


def test_lines_and_tiers_need_their_parents(organization: Organization) -> None:
    statement = _statement(organization)
    line = _line(statement)

    with pytest.raises(IntegrityError, match="add up"), transaction.atomic():
        _line(Statement(pk=statement.pk + 1000))
    with pytest.raises(IntegrityError, match="belongs to a line"), transaction.atomic():
        StatementTier.objects.create(
            line_id=line.pk + 1000, position=1, start=0, quantity=1, unit_price=0, amount=0
        )


def test_one_statement_per_period_may_stand(organization: Organization) -> None:
    first = _statement(organization)

    first.pk, first.public_id, first.number = None, "stm_other", "ACME-0002"
    with pytest.raises(IntegrityError, match="statement_one_per_period"), transaction.atomic():
        first.save(force_insert=True)


def test_a_credit_transaction_sums_to_zero(organization: Organization) -> None:
    grant = _grant(organization)

    with pytest.raises(IntegrityError, match="sum to zero"):
        _enter(grant, {CreditAccount.CUSTOMER: 100, CreditAccount.GRANTED: -99})
    _enter(grant, {CreditAccount.CUSTOMER: 100, CreditAccount.GRANTED: -100})


def test_a_grant_is_never_used_up_twice(organization: Organization) -> None:
    grant = _grant(organization)
    _enter(grant, {CreditAccount.CUSTOMER: 100, CreditAccount.GRANTED: -100})

    with pytest.raises(IntegrityError, match="more of credit grant"):
        _enter(grant, {CreditAccount.CUSTOMER: -101, CreditAccount.APPLIED: 101})


def test_credit_rows_stay(organization: Organization) -> None:
    grant = _grant(organization)
    entry = _enter(grant, {CreditAccount.CUSTOMER: 100, CreditAccount.GRANTED: -100})

    with pytest.raises(IntegrityError, match="added, never changed"), transaction.atomic():
        CreditEntry.objects.filter(pk=entry.pk).update(amount_minor=7)
    with pytest.raises(IntegrityError, match="added, never changed"), transaction.atomic():
        CreditGrant.objects.filter(pk=grant.pk).update(amount_minor=7)
    with pytest.raises(IntegrityError, match="added, never changed"), transaction.atomic():
        CreditTransaction.objects.filter(pk=entry.transaction_id).update(at=AT)


def _grant(organization: Organization) -> CreditGrant:
    return CreditGrant.objects.create(
        organization=organization, source="granted", currency="USD", amount_minor=100, reason="Welcome", at=AT
    )


@transaction.atomic
def _enter(grant: CreditGrant, amounts: dict[CreditAccount, int]) -> CreditEntry:
    act = CreditTransaction.objects.create(organization=grant.organization, kind="grant", at=AT)
    entries = [
        CreditEntry.objects.create(
            organization=grant.organization,
            transaction=act,
            grant=grant,
            account=account,
            currency="USD",
            amount_minor=amount,
        )
        for account, amount in amounts.items()
    ]
    with connection.cursor() as cursor:  # as at the commit
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
    return entries[0]
