"""The alerts of the page "Alerts and caps": what it shows, who may change what, and what a change does."""

from decimal import Decimal

import pytest
from django.test import Client

from accounts.models import Role
from core.clock import now
from metering.alerts.services import ensure_defaults
from metering.alerts.webhook import Posted
from metering.models import Alert, AlertPreference, AlertSettings
from plans.models import Restriction
from tests.cast import Cast, create_cast
from tests.factories import create_membership, create_user
from tests.metering.alerts.kit import default, use, used
from tests.plans.price_kit import component, meter, put_on, version_of

pytestmark = pytest.mark.django_db
PAGE, NEW, HOOK = "/alerts/", "/alerts/new/", "/alerts/webhook/"
TERMS = {
    "kind": "included",
    "meter": "",
    "threshold": "50",
    "action": "notify",
    "by_mail": "on",
    "enabled": "on",
}


@pytest.fixture
def cast() -> Cast:
    cast = create_cast()
    put_on(
        cast.northwind,
        version_of(component(meter("units"), included=Decimal(1000), unit_price=Decimal("0.01"))),
    )
    return cast


def page(client: Client, address: str = PAGE) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_the_first_look_shows_the_defaults(cast: Cast, client: Client) -> None:
    use(cast.northwind, 600)
    client.force_login(cast.alice)
    text = page(client)
    for words in (
        "80 % of the included quantity",
        "600 of 800 units",
        "throttle to 10 calls a minute",
        "webhook (none set)",
    ):
        assert words in text
    assert 'value="75"' in text
    assert "Nothing reached yet" in text


def test_what_was_reached_and_who_was_told(cast: Cast, client: Client) -> None:
    used(cast.northwind, 1300)
    client.force_login(cast.bob)
    text = page(client, "/alerts/history/")
    assert "120 % of the included quantity reached: 1,300 units" in text
    assert "alice@northwind.example" in text
    assert "no webhook is set" in text
    assert "Imposed" in page(client)


def test_an_alert_is_made_changed_and_removed(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    assert client.post(NEW, TERMS).status_code == 302
    alert = Alert.objects.get(threshold=50)
    edit = f"/alerts/{alert.public_id}/"
    assert 'value="50"' in page(client, edit)
    changed = TERMS | {"kind": "spend", "threshold": "12.50", "action": "block"}
    assert client.post(edit, changed).status_code == 302
    assert "$12.50 spent on usage" in page(client)
    assert client.post(f"{edit}remove/").status_code == 302
    assert "its history stays" in page(client)
    assert "$12.50 spent on usage" not in page(client)
    assert client.get(edit).status_code == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": "0"}, {"threshold": "-5"}, {"threshold": "x"}, {"threshold": "10001"}, {"kind": "none"},
        {"meter": "unknown"}, {"action": "throttle"}, {"action": "throttle", "calls_per_minute": "0"},
        {"kind": "spend", "threshold": "1.005"},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_asked_again(cast: Cast, client: Client, changes: dict[str, str]) -> None:
    client.force_login(cast.alice)
    assert client.post(NEW, TERMS | changes).status_code == 422
    assert not Alert.objects.filter(is_default=False).exists()


def test_all_alerts_gone_says_what_to_do(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    ensure_defaults(cast.northwind, at=now())
    Alert.objects.for_organization(cast.northwind).update(removed_at=now())
    assert "Make an alert" in page(client)


def test_a_throttle_is_lifted_by_hand(cast: Cast, client: Client) -> None:
    used(cast.northwind, 1300)
    client.force_login(cast.alice)
    assert client.post(f"/alerts/{default(cast.northwind, 120).public_id}/lift/").status_code == 302
    assert not Restriction.objects.filter(lifted_at=None).exists()
    assert "Lifted by hand" in page(client)


def test_the_webhook_is_kept_and_only_its_host_shown(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    assert client.post(HOOK, {"url": "http://inside/"}).status_code == 422
    assert client.post(HOOK, {"url": "https://hooks.example/services/very-secret"}).status_code == 302
    text = page(client)
    assert "hooks.example" in text
    assert "very-secret" not in text
    client.post(HOOK, {"remove": "1"})
    assert AlertSettings.objects.get().webhook_url == ""


def test_a_test_shows_how_each_channel_went(
    cast: Cast, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.force_login(cast.alice)
    client.post(HOOK, {"url": "https://hooks.example/services/very-secret"})
    monkeypatch.setattr("metering.alerts.delivery.post_text", lambda url, text: Posted(False, "answered 410"))
    answer = client.post(f"/alerts/{default(cast.northwind, 100).public_id}/test/", follow=True)
    text = answer.content.decode()
    assert "Test by e-mail to alice@northwind.example: mail queued." in text
    assert "Test by webhook to hooks.example: answered 410." in text


def test_a_developer_sees_and_chooses_own_mails_only(cast: Cast, client: Client) -> None:
    ensure_defaults(cast.northwind, at=now())
    client.force_login(cast.bob)
    assert "New alert" not in page(client)
    alert = default(cast.northwind, 80)
    assert client.post(f"/alerts/{alert.public_id}/mail/", {"by_mail": "on"}).status_code == 302
    chosen = AlertPreference.objects.get()
    assert (chosen.alert, chosen.membership.user, chosen.by_mail) == (alert, cast.bob, True)
    assert client.post(NEW, TERMS).status_code == 403


@pytest.mark.parametrize("role", [Role.ADMIN, Role.BILLING])
def test_admins_and_billing_members_change_alerts(cast: Cast, client: Client, role: Role) -> None:
    member = create_user()
    create_membership(organization=cast.northwind, user=member, role=role)
    client.force_login(member)
    assert client.post(NEW, TERMS).status_code == 302
