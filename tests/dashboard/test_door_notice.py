"""The banner that says why calls are refused, or when they will be, and leads to what mends it."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Membership, Role
from core.clock import now
from dashboard.door_notice import DoorNotice, find_notice
from plans.models import Subscription
from plans.queries import current_subscription
from plans.services import activate_subscription, mark_past_due, suspend_for_payment
from plans.suspension import suspend_organization
from tests.cast import Cast, create_cast
from tests.dashboard.test_payment_card import fails

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return create_cast()


def notice(cast: Cast, *, role: Role = Role.OWNER, later: timedelta = timedelta(0)) -> DoorNotice | None:
    membership = Membership.objects.for_organization(cast.northwind).get(user=cast.alice)
    membership.role = role
    return find_notice(membership, at=now() + later)


def subscription(cast: Cast) -> Subscription:
    return current_subscription(cast.northwind, at=now())


def owes(cast: Cast) -> Subscription:
    paid = activate_subscription(subscription=subscription(cast), by=None, at=now())
    return mark_past_due(subscription=paid, by=None, at=now())


def test_an_open_door_has_no_banner(cast: Cast) -> None:
    assert notice(cast) is None
    activate_subscription(subscription=subscription(cast), by=None, at=now())
    assert notice(cast) is None


def test_a_trial_that_is_over_leads_to_the_plans(cast: Cast) -> None:
    found = notice(cast, later=timedelta(days=15))
    assert found is not None
    assert (found.kind, found.title, found.url) == ("bad", "Your trial is over.", reverse("dashboard:plan"))


def test_an_overdue_payment_says_until_when_calls_pass_and_leads_to_the_page_where_it_is_paid(
    cast: Cast, client: Client
) -> None:
    fails(cast)
    found = notice(cast)
    assert found is not None
    assert (found.kind, found.url, found.action) == ("warn", "https://pay.test/in_test", "Pay $49.00")
    assert found.until == subscription(cast).past_due_since + timedelta(days=7)  # type: ignore[operator]
    over = notice(
        cast, later=timedelta(days=8)
    )  # the door closed by itself, the event follows within a minute
    assert over is not None
    assert (over.kind, over.until) == ("bad", None)

    client.force_login(cast.alice)
    shown = client.get("/keys/").content.decode()
    assert "Your calls pass until" in shown
    assert 'href="https://pay.test/in_test"' in shown


def test_a_suspended_one_says_that_calls_are_refused(cast: Cast) -> None:
    suspend_for_payment(subscription=owes(cast), by=None, at=now())
    found = notice(cast)
    assert found is not None
    assert (found.kind, found.text) == ("bad", "Calls are refused with 402 until it is made.")
    assert found.url == reverse("dashboard:plan")  # no invoice is open: the plan page says what to do


def test_developers_read_who_can_mend_it(cast: Cast) -> None:
    owes(cast)
    found = notice(cast, role=Role.DEVELOPER)
    assert found is not None
    assert "billing members" in found.text
    assert found.url == ""


def test_an_ended_plan_leads_to_the_plans(cast: Cast) -> None:
    Subscription.objects.filter(pk=subscription(cast).pk).update(ended_at=now(), status="cancelled")
    found = notice(cast)
    assert found is not None
    assert (found.title, found.action) == ("Your plan has ended.", "Choose a plan")


def test_staff_suspended_it(cast: Cast) -> None:
    suspend_organization(organization=cast.northwind, reason="abuse", by=None, at=now())
    cast.northwind.refresh_from_db()
    found = notice(cast)
    assert found is not None
    assert "Write to support" in found.text
