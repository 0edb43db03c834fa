import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from accounts.models import Organization
from billing.credits import credit_balances
from billing.models import Invoice, InvoiceState, Statement
from billing.queries import mrr_by_plan
from billing.recompute import recompute, standing_statements
from billing.revenue import Movement
from billing.revenue_report import revenue_report
from core.clock import now
from dashboard.seeding.world import ROUTES
from keys.hashing import is_well_formed
from metering.costs import period_cost
from metering.models import UsageEvent
from plans.caps import cap_in_force
from plans.cost_baselines import find_cost_prices
from plans.models import RouteCost
from plans.queries import current_period


def assert_documents_are_alive(northwind: Organization) -> None:
    """Statements of ended periods equal what the ledger says, most are paid, one is late; credit, a cap, costs, revenue."""
    at = now()
    assert Statement.objects.filter(organization=northwind, total_minor__gte=4900).count() >= 2
    assert [found for one in standing_statements() for found in recompute(one)] == []
    states = list(Invoice.objects.values_list("state", flat=True))
    assert states.count(InvoiceState.PAST_DUE) == 1
    assert set(states) == {InvoiceState.PAST_DUE, InvoiceState.PAID}
    assert credit_balances(northwind, at=at) == {"USD": 2_500}
    cap = cap_in_force(northwind, at=at)
    assert cap is not None
    assert cap.amount_minor >= 10_000
    assert RouteCost.objects.count() == len(ROUTES)
    assert find_cost_prices("USD", at=at) is not None
    report = revenue_report(month=at.date().replace(day=1), currency="USD", at=at)
    assert report.now.end_minor == 4900 + 2 * 19900
    assert any(one.fixed_minor for one in report.charged)
    assert any(one.moved_minor[Movement.NEW] for one in report.months)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_seed_is_alive_equal_and_made_once(
    usage_redis: Any, settings: Any, tmp_path: Path, client: Client
) -> None:
    settings.VAR_DIR = tmp_path
    call_command("seed", customers=3, stdout=io.StringIO())

    facts = json.loads((tmp_path / "demo.json").read_text())
    assert is_well_formed(facts["key"])
    assert (tmp_path / "demo.json").stat().st_mode & 0o077 == 0
    assert Organization.objects.count() == 3
    northwind = Organization.objects.get(name="Northwind Maps")
    days = UsageEvent.objects.for_organization(northwind).dates("occurred_at", "day")
    assert len(days) > 85
    assert period_cost(northwind, period=current_period(northwind, at=now())).total_minor >= 4900
    assert sum(plan.mrr_minor for plan in mrr_by_plan(at=now())) == 4900 + 2 * 19900
    assert_documents_are_alive(northwind)
    call_command("reconcile", stdout=io.StringIO())  # raises SystemExit unless all are equal

    assert client.login(email=facts["customer"]["email"], password=facts["customer"]["password"])
    assert "Northwind Maps" in client.get("/usage/").content.decode()

    before = UsageEvent.objects.count()
    call_command("seed", if_empty=True, customers=3, stdout=io.StringIO())
    assert UsageEvent.objects.count() == before
