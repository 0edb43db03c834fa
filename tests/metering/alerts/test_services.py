"""Alerts from crossing to notice: each once, back below, restrictions, periods, roles."""

import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core import mail
from django.db import connection

from accounts.models import AuditEvent, Organization, Role
from core.clock import now
from core.errors import Forbidden
from metering.alerts.queries import alert_standings
from metering.alerts.rounds import changed_organizations, evaluate_changed
from metering.alerts.services import (
    MOST_ALERTS,
    AlertInvalid,
    AlertTerms,
    TooManyAlerts,
    WebhookInvalid,
    change_alert,
    choose_mail,
    create_alert,
    ensure_defaults,
    evaluate_organization,
    lift_restriction,
    remove_alert,
    send_test,
    set_webhook,
)
from metering.models import Alert, AlertAction, AlertClock, AlertDelivery, AlertFiring, AlertKind
from plans.caps import set_cap
from plans.models import CapSide, Period, Restriction
from plans.queries import current_period
from plans.standing import find_standing, mode_terms
from tests.eager import tasks_at_once
from tests.factories import create_membership, create_user
from tests.metering.alerts.kit import customer, default, fired, told, use, used
from tests.plans.price_kit import component, meter, put_on, version_of

HOOK = "https://hooks.example/services/T0/B0/secret"


@pytest.fixture
def organization(db: None) -> Organization:
    return customer()


def restrictions(organization: Organization) -> list[tuple[str, int | None, bool]]:
    rows = Restriction.objects.for_organization(organization).order_by("pk")
    return [(row.kind, row.calls_per_minute, row.lifted_at is None) for row in rows]


def minute_limit(organization: Organization) -> int:
    standing = find_standing(organization, at=now())
    return dict(mode_terms(standing, mode="live", test_plan="free").windows)[60]


def make(organization: Organization, kind: AlertKind, threshold: object, **terms: object) -> Alert:
    wanted = AlertTerms(kind, Decimal(str(threshold)), **terms)  # type: ignore[arg-type]
    return create_alert(organization=organization, terms=wanted, by=None, at=now())


def test_the_defaults_fire_each_once(organization: Organization) -> None:
    assert used(organization, 799) == 0
    assert used(organization, 800) == 1
    assert used(organization, 850) == 0
    assert used(organization, 1300) == 2
    assert used(organization, 1400) == 0
    assert fired(organization) == [(80, True), (100, True), (120, True)]
    assert restrictions(organization) == [("throttle", 10, True)]
    assert [row[:2] for row in told(organization)] == [
        ("fired", "mail"), ("fired", "mail"), ("fired", "webhook"), ("fired", "mail"),
    ]  # fmt: skip
    assert minute_limit(organization) == 10


def test_a_removed_default_does_not_come_back(organization: Organization) -> None:
    ensure_defaults(organization, at=now())
    remove_alert(alert=default(organization, 80), by=None, at=now())
    assert used(organization, 900) == 0
    assert Alert.objects.for_organization(organization).filter(removed_at=None).count() == 2


def test_a_correction_takes_it_back_below_and_lifts_the_throttle(organization: Organization) -> None:
    used(organization, 1300)
    version = organization.version
    assert used(organization, 900) == 2
    assert fired(organization) == [(80, True), (100, False), (120, False)]
    assert restrictions(organization) == [("throttle", 10, False)]
    organization.refresh_from_db()
    assert organization.version > version
    assert minute_limit(organization) == 1_000_000
    assert ("recovered", "mail", "alice@northwind.example") in told(organization)
    used(organization, 1000)  # crossed once more, after it was told that it was below
    assert fired(organization)[-1] == (100, True)
    assert AlertFiring.objects.get(recovered_at=None, alert__threshold=100).crossing == 2


def test_a_raised_threshold_is_back_below(organization: Organization) -> None:
    used(organization, 850)
    alert = default(organization, 80)
    change_alert(alert=alert, terms=AlertTerms(AlertKind.INCLUDED, Decimal(90)), by=None, at=now())
    assert [row.recovered_at is None for row in AlertFiring.objects.for_organization(organization)] == [False]
    assert told(organization)[-1][0] == "recovered"


def test_percent_of_cap_follows_the_cap(organization: Organization) -> None:
    ensure_defaults(organization, at=now())
    make(organization, AlertKind.CAP, 50)
    for amount, open_alerts in ((1000, 0), (400, 1), (1000, 0), (None, 0)):
        use(organization, 1300)  # 3.00 spent
        spent = 300
        set_cap(
            organization=organization, side=CapSide.CUSTOMER, amount_minor=amount, spent_minor=spent, by=None, at=now()
        )  # fmt: skip
        evaluate_changed(at=now())
        rows = AlertFiring.objects.for_organization(organization).filter(alert__kind="cap", recovered_at=None)
        assert rows.count() == open_alerts, amount


def test_spend_and_meter_alerts(organization: Organization) -> None:
    make(organization, AlertKind.SPEND, "2.50", currency="USD")
    make(organization, AlertKind.SPEND, "2.50", currency="EUR")
    make(organization, AlertKind.METER, 1250, meter=meter("units"), action=AlertAction.BLOCK)
    used(organization, 1249)
    assert not AlertFiring.objects.filter(alert__kind__in=("spend", "meter")).exists()
    used(organization, 1250)
    found = AlertFiring.objects.filter(alert__kind__in=("spend", "meter")).order_by("alert__kind")
    assert [(row.alert.kind, row.alert.currency) for row in found] == [("meter", ""), ("spend", "USD")]
    assert ("block", None, True) in restrictions(organization)
    assert "$2.50" in found[1].text


def test_disabled_alerts_say_and_do_nothing(organization: Organization) -> None:
    used(organization, 1300)
    alert = default(organization, 120)
    before = len(told(organization))
    off = AlertTerms(
        AlertKind.INCLUDED, Decimal(120), AlertAction.THROTTLE, calls_per_minute=10, enabled=False
    )
    change_alert(alert=alert, terms=off, by=None, at=now())
    assert restrictions(organization) == [("throttle", 10, False)]
    assert used(organization, 2000) == 0
    assert len(told(organization)) == before


def test_a_restriction_lifted_by_hand_stays_lifted(organization: Organization) -> None:
    used(organization, 1300)
    lift_restriction(firing=AlertFiring.objects.get(alert__threshold=120), by=None, at=now())
    assert used(organization, 1500) == 0
    assert restrictions(organization) == [("throttle", 10, False)]


def test_a_changed_rate_takes_the_place_of_the_old_one(organization: Organization) -> None:
    used(organization, 1300)
    terms = AlertTerms(AlertKind.INCLUDED, Decimal(120), AlertAction.THROTTLE, calls_per_minute=3)
    change_alert(alert=default(organization, 120), terms=terms, by=None, at=now())
    assert restrictions(organization) == [("throttle", 10, False), ("throttle", 3, True)]
    assert minute_limit(organization) == 3


def test_late_usage_fires_for_its_own_period_and_imposes_nothing(organization: Organization) -> None:
    first = current_period(organization, at=now())
    after = first.ends_at + timedelta(minutes=5)
    use(organization, 1300, period=first)
    assert evaluate_organization(organization, at=after) == 3
    assert {row.period_id for row in AlertFiring.objects.all()} == {first.pk}
    assert restrictions(organization) == []
    following = Period.objects.for_organization(organization).get(starts_at=first.ends_at)
    use(organization, 800, period=following)
    assert evaluate_organization(organization, at=after) == 1
    assert AlertFiring.objects.latest("pk").period_id == following.pk


def test_a_round_looks_at_what_changed(organization: Organization) -> None:
    use(organization, 800)
    at = now()
    assert evaluate_changed(at=at) == 1
    assert AlertClock.objects.get().seen_until == at
    assert organization.pk in changed_organizations(since=at - timedelta(hours=1), at=at)
    assert changed_organizations(since=at + timedelta(seconds=1), at=at) == []
    assert evaluate_changed(at=now()) == 0


@pytest.mark.django_db(transaction=True)
def test_many_rounds_at_once_fire_once() -> None:
    organization = customer()
    use(organization, 1300)
    gate, faults = threading.Barrier(8), list[BaseException]()

    def run() -> None:
        try:
            gate.wait()
            for _ in range(3):
                evaluate_organization(Organization.objects.get(pk=organization.pk), at=now())
        except BaseException as fault:
            faults.append(fault)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert fired(organization) == [(80, True), (100, True), (120, True)]
    assert len(told(organization)) == 4
    assert restrictions(organization) == [("throttle", 10, True)]


@pytest.mark.django_db(transaction=True)
def test_the_mail_says_what_happened() -> None:
    organization = customer("Maps & Sons")
    with tasks_at_once():
        used(organization, 800)
    (sent,) = mail.outbox
    assert sent.subject == "Alert: 80 % of the included quantity, Maps & Sons"
    assert "800 units in the period" in sent.body
    assert "/alerts/" in sent.body


def test_members_choose_their_mails(organization: Organization) -> None:
    developer = create_membership(organization=organization, user=create_user("dev@northwind.example"))
    owner = organization.memberships.get(role=Role.OWNER)
    ensure_defaults(organization, at=now())
    choose_mail(alert=default(organization, 80), membership=developer, by_mail=True)
    choose_mail(alert=default(organization, 80), membership=owner, by_mail=False)
    used(organization, 1000)
    assert [row[2] for row in told(organization) if row[1] == "mail"] == [
        "dev@northwind.example", "alice@northwind.example",
    ]  # fmt: skip


def test_a_test_is_marked_and_changes_nothing(organization: Organization) -> None:
    ensure_defaults(organization, at=now())
    set_webhook(organization=organization, url=HOOK, by=None, at=now())
    made = send_test(alert=default(organization, 100), by=None, at=now())
    assert [(row.channel, row.state, row.recipient) for row in made] == [
        ("mail", "sent", "alice@northwind.example"), ("webhook", "waiting", "hooks.example"),
    ]  # fmt: skip
    assert all("Test, nothing was reached" in row.text for row in made)
    assert fired(organization) == []
    assert HOOK not in str(list(AlertDelivery.objects.values_list())) + str(
        list(AuditEvent.objects.values_list())
    )


def test_only_some_roles_change_alerts(organization: Organization) -> None:
    developer = create_user()
    create_membership(organization=organization, user=developer)
    ensure_defaults(organization, at=now())
    alert, terms = default(organization, 80), AlertTerms(AlertKind.INCLUDED, Decimal(50))
    with pytest.raises(Forbidden):
        create_alert(organization=organization, terms=terms, by=developer, at=now())
    with pytest.raises(Forbidden):
        change_alert(alert=alert, terms=terms, by=developer, at=now())
    with pytest.raises(Forbidden):
        remove_alert(alert=alert, by=developer, at=now())
    with pytest.raises(Forbidden):
        set_webhook(organization=organization, url=HOOK, by=developer, at=now())
    with pytest.raises(Forbidden):
        send_test(alert=alert, by=developer, at=now())


@pytest.mark.parametrize(
    "terms",
    [
        AlertTerms(AlertKind.INCLUDED, Decimal(0)), AlertTerms(AlertKind.INCLUDED, Decimal(10_001)),
        AlertTerms(AlertKind.SPEND, Decimal(5)), AlertTerms(AlertKind.METER, Decimal(10) ** 16),
        AlertTerms(AlertKind.INCLUDED, Decimal(5), AlertAction.THROTTLE),
        AlertTerms(AlertKind.INCLUDED, Decimal(5), AlertAction.THROTTLE, calls_per_minute=0),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(organization: Organization, terms: AlertTerms) -> None:
    with pytest.raises(AlertInvalid):
        create_alert(organization=organization, terms=terms, by=None, at=now())


def test_there_is_an_end_to_alerts(organization: Organization) -> None:
    ensure_defaults(organization, at=now())
    for number in range(MOST_ALERTS - 3):
        Alert.objects.create(
            organization=organization, kind="included", threshold=200 + number, created_at=now()
        )
    with pytest.raises(TooManyAlerts):
        make(organization, AlertKind.INCLUDED, 70)


@pytest.mark.parametrize(
    "url", ["http://hooks.example/x", "https://", "https://u:p@hooks.example/", "ftp://x", "https://a b/", "x", "https://[::1/"]
)  # fmt: skip
def test_webhooks_that_are_none(organization: Organization, url: str) -> None:
    with pytest.raises(WebhookInvalid):
        set_webhook(organization=organization, url=url, by=None, at=now())


def test_the_quota_that_an_alert_is_of_is_the_one_at_which_the_door_refuses(
    organization: Organization,
) -> None:
    """Two prices of one meter, 100 and 300: calls are refused at 400."""
    tokens = meter("tokens", dimensions=["model"])
    put_on(
        organization,
        version_of(
            component(tokens, included=100), component(tokens, included=300, match={"model": "large"})
        ),
    )
    terms = AlertTerms(AlertKind.QUOTA, Decimal(50))
    alert = create_alert(organization=organization, terms=terms, by=None, at=now())
    (row,) = (one for one in alert_standings(organization, at=now()) if one.alert.pk == alert.pk)
    assert row.measure is not None
    assert row.measure.limit == 200
