import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from accounts.models import Organization
from billing.queries import mrr_by_plan
from core.clock import now
from keys.hashing import is_well_formed
from metering.costs import period_cost
from metering.models import UsageEvent
from plans.queries import current_period


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
    call_command("reconcile", stdout=io.StringIO())  # raises SystemExit unless all are equal

    assert client.login(email=facts["customer"]["email"], password=facts["customer"]["password"])
    assert "Northwind Maps" in client.get("/usage/").content.decode()

    before = UsageEvent.objects.count()
    call_command("seed", if_empty=True, customers=3, stdout=io.StringIO())
    assert UsageEvent.objects.count() == before
