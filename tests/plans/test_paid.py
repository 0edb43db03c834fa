"""What a collector says about payment, and what becomes of periods, status and revenue."""

from datetime import UTC, datetime, timedelta

import pytest

from accounts.models import Organization
from plans.default_catalogue import install_default_catalogue
from plans.models import PlanVersion, Subscription, SubscriptionEvent, SubscriptionStatus
from plans.paid import end_subscription, subscribe_paid
from plans.queries import newest_version
from plans.services import start_subscription
from tests.factories import create_organization

pytestmark = pytest.mark.django_db

AT = datetime(2026, 11, 3, 10, 20, 30, 450_000, tzinfo=UTC)
LATER = datetime(2026, 11, 5, 8, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def organization() -> Organization:
    install_default_catalogue(at=AT)
    return create_organization("Acme Maps", plan="")


def pay(
    organization: Organization,
    version: PlanVersion,
    starts_at: datetime,
    trial_ends_at: datetime | None = None,
) -> Subscription:
    subscription = subscribe_paid(
        organization=organization, version=version, starts_at=starts_at, trial_ends_at=trial_ends_at,
        by=None, at=starts_at + timedelta(seconds=3),
    )  # fmt: skip
    subscription.refresh_from_db()
    return subscription


def borders(subscription: Subscription) -> list[tuple[datetime, bool]]:
    rows = subscription.periods.order_by("starts_at")
    spans = list(rows.values_list("starts_at", "ends_at", "is_trial"))
    assert all(one[1] == two[0] for one, two in zip(spans, spans[1:], strict=False)), "periods tile"
    return [(start, is_trial) for start, _, is_trial in spans]


def kinds(organization: Organization) -> list[tuple[str, int]]:
    rows = SubscriptionEvent.objects.for_organization(organization).order_by("pk")
    return list(rows.values_list("kind", "mrr_minor"))


def test_a_new_customer_starts_paid_at_the_collectors_second(organization: Organization) -> None:
    starter = newest_version("starter")
    subscription = pay(organization, starter, LATER)

    assert (subscription.status, subscription.version) == (SubscriptionStatus.ACTIVE, starter)
    assert borders(subscription)[0] == (LATER, False)
    assert kinds(organization) == [("started", 4_900)]


def test_a_trial_that_goes_on_keeps_its_period(organization: Organization) -> None:
    starter = newest_version("starter")
    trial = start_subscription(organization=organization, version=starter, by=None, at=AT)
    assert trial.trial_ends_at == AT.replace(microsecond=0) + timedelta(days=14)
    before = borders(trial)

    subscription = pay(organization, starter, LATER, trial.trial_ends_at)

    assert (subscription.pk, subscription.status) == (trial.pk, SubscriptionStatus.ACTIVE)
    assert borders(subscription) == before
    assert kinds(organization)[-1] == ("trial_converted", 4_900)


def test_charged_at_once_ends_the_trial(organization: Organization) -> None:
    starter = newest_version("starter")
    start_subscription(organization=organization, version=starter, by=None, at=AT)

    subscription = pay(organization, starter, LATER)

    assert borders(subscription)[:2] == [(AT, True), (LATER, False)]
    assert subscription.trial_ends_at == LATER


def test_free_is_left_for_a_paid_plan(organization: Organization) -> None:
    free = start_subscription(organization=organization, version=newest_version("free"), by=None, at=AT)

    subscription = pay(organization, newest_version("professional"), LATER)

    assert subscription.pk == free.pk
    assert borders(subscription)[:2] == [(AT, False), (LATER, False)]
    assert [p.version.plan.slug for p in subscription.periods.order_by("starts_at")[:2]] == [
        "free",
        "professional",
    ]
    assert kinds(organization)[-1] == ("plan_changed", 19_900)


def test_who_pays_in_the_very_second_keeps_the_period_that_calls_were_counted_in(
    organization: Organization,
) -> None:
    free = start_subscription(organization=organization, version=newest_version("free"), by=None, at=AT)
    first = free.periods.earliest("starts_at")

    subscription = pay(organization, newest_version("starter"), AT.replace(microsecond=0))

    assert borders(subscription)[:2] == [
        (AT, False),
        (AT.replace(microsecond=0) + timedelta(seconds=1), False),
    ]
    assert subscription.periods.earliest("starts_at").pk == first.pk


def test_saying_it_twice_changes_nothing(organization: Organization) -> None:
    starter = newest_version("starter")
    once = pay(organization, starter, LATER)
    before, said = borders(once), kinds(organization)

    again = pay(organization, starter, LATER)

    assert (again.pk, borders(again), kinds(organization)) == (once.pk, before, said)


def test_an_end_closes_the_present_period_and_lets_another_begin(organization: Organization) -> None:
    subscription = pay(organization, newest_version("starter"), LATER)

    end_subscription(subscription=subscription, by=None, at=LATER + DAY)
    end_subscription(subscription=subscription, by=None, at=LATER + 2 * DAY)

    subscription.refresh_from_db()
    assert (subscription.status, subscription.ended_at) == (SubscriptionStatus.CANCELLED, LATER + DAY)
    assert subscription.periods.latest("starts_at").ends_at == LATER + DAY
    assert kinds(organization)[-1] == ("ended", 0)
    again = pay(organization, newest_version("starter"), LATER)
    assert again.pk != subscription.pk
    assert borders(again)[0] == (LATER + DAY, False)
