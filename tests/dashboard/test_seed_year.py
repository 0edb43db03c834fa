from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from redis import Redis

from billing import batches
from billing.models import Statement, StatementLine
from tests.factories import create_organization

pytestmark = pytest.mark.django_db(transaction=True)


def run(**options: int) -> str:
    out = StringIO()
    call_command("seed_year", seed=1, stdout=out, **options)
    return out.getvalue()


def test_a_short_year_recomputes_reconciles_and_adds_up(usage_redis: Redis) -> None:
    said = run(customers=15, days=100)
    assert "0 differ" in said
    assert "reconcile equal" in said
    assert "movements add up in every month" in said
    assert Statement.objects.count() > 20


def test_a_changed_line_is_found(usage_redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof can fail: a statement that was rated wrongly differs from the ledger."""
    rated = batches.period_costs

    def one_cent_more(*args: object, **options: object) -> object:
        costs = rated(*args, **options)
        for cost in costs:
            first = cost.lines[0]
            object.__setattr__(
                cost, "lines", (first._replace(amount_minor=first.amount_minor + 1), *cost.lines[1:])
            )
        return costs

    monkeypatch.setattr(batches, "period_costs", one_cent_more)
    with pytest.raises(SystemExit):
        run(customers=3, days=70)
    assert StatementLine.objects.exists()


def test_the_year_is_for_an_empty_installation() -> None:
    create_organization()
    with pytest.raises(CommandError, match="empty installation"):
        run(customers=1, days=1)
