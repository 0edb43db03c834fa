from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from billing.models import Statement
from tests.billing.kit import Customer

pytestmark = pytest.mark.django_db


def run(*args: str) -> str:
    out = StringIO()
    call_command("statements", *args, stdout=out)
    return out.getvalue()


def test_due_statements_are_made_and_equal() -> None:
    acme = Customer.start()
    acme.use(12_500)

    made = int(run("finalise").split()[0])

    assert made == Statement.objects.count() == 3
    assert run("recompute") == f"{made} statements recomputed, {made} equal, 0 differ\n"


def test_a_statement_that_differs_is_named() -> None:
    acme = Customer.start()
    acme.use(12_500)
    number = acme.finalise().number
    acme.finalise(1)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE usage_event SET quantity = quantity + 10")

    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("statements", "recompute", number, stdout=out)
    assert f"{number} line 2 quantity: stored 12500, recomputed 12510" in out.getvalue()
    assert "1 statements recomputed, 0 equal, 1 differ" in out.getvalue()


def test_a_statement_is_shown_with_its_tiers() -> None:
    acme = Customer.start()
    acme.use(12_500)
    statement = acme.finalise()

    for name in (statement.number, statement.public_id):
        text = run("show", name)
        assert "Invoice ACME-0001" in text
        assert "10,000 calls" in text
        assert "$51.50" in text
    with pytest.raises(CommandError, match="no statement"):
        run("show", "ACME-9999")
