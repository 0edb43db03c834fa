"""Sign-up by real clients: one act, the key in the answer of that POST and nowhere else, nothing told about addresses."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.test import Client

from accounts.models import Membership, Organization, Role, User
from core.clock import now
from keys.hashing import digest, is_well_formed
from keys.models import ApiKey, Mode
from plans.default_catalogue import install_default_catalogue
from plans.models import Plan, SubscriptionStatus
from plans.queries import current_subscription
from tests.eager import tasks_at_once
from tests.factories import (
    PASSWORD,
    create_key,
    create_membership,
    create_organization,
    create_product,
    create_route,
    create_user,
)

pytestmark = pytest.mark.django_db(transaction=True)
SIGN_UP = "/accounts/signup/"
WELCOME = "/welcome/"
FORM = {
    "email": "dana@fabrikam.example",
    "password1": PASSWORD,
    "organization_name": "Fabrikam  Routing",
    "plan": "starter",
}
KEY = re.compile(r"fb_(?:test|live)_[0-9A-Za-z]{38}")


@pytest.fixture(autouse=True)
def _world(usage_redis: Any) -> Iterator[None]:
    install_default_catalogue(at=now())
    create_route(create_product(), "/v1/search")
    with tasks_at_once():
        yield


def sign_up(client: Client, **changes: str) -> Any:
    return client.post(SIGN_UP, FORM | changes)


def key_in(response: Any) -> str:
    keys = set(KEY.findall(response.content.decode()))
    assert len(keys) == 1
    return str(keys.pop())


def mail_to(address: str, *, about: str) -> str:
    found = [message for message in mail.outbox if message.to == [address] and about in message.subject]
    assert len(found) == 1, [(message.to, message.subject) for message in mail.outbox]
    return str(found[0].body)


def link_in(text: str) -> str:
    """The path of the only link that is not the portal itself."""
    links = re.findall(r"https?://[^/\s]+(/[^\s]+)", text)
    return str(links[0])


def test_form_shows_and_carries_the_plan_that_was_picked(client: Client) -> None:
    page = client.get(SIGN_UP, {"plan": "starter"}).content.decode()
    assert "Starter" in page
    assert 'name="plan" value="starter"' in page


def test_unknown_plan_in_the_address_falls_back_to_the_first_of_the_pricing_page(client: Client) -> None:
    assert 'name="plan" value="free"' in client.get(SIGN_UP, {"plan": "gratis"}).content.decode()


def test_sign_up_is_one_act(client: Client) -> None:
    response = sign_up(client)
    user = User.objects.get(email="dana@fabrikam.example")
    organization = Organization.objects.get(name="Fabrikam Routing")
    assert response.status_code == 200
    assert Membership.objects.get(user=user).role == Role.OWNER
    assert 0 <= organization.shard < 64
    subscription = current_subscription(organization, at=now())
    assert (subscription.version.plan.slug, subscription.status) == ("starter", SubscriptionStatus.TRIALING)
    assert not EmailAddress.objects.get(user=user).verified


def test_key_is_shown_in_the_answer_of_sign_up_and_never_again(client: Client) -> None:
    response = sign_up(client)
    clear = key_in(response)
    assert is_well_formed(clear)
    assert clear.startswith("fb_test_")
    assert ApiKey.objects.get(hash=digest(clear)).mode == Mode.TEST
    assert response["Cache-Control"].startswith("max-age=0")
    for path in (WELCOME, "/keys/", "/usage/", "/quick-start/"):
        assert clear not in client.get(path).content.decode()
    assert clear not in str(dict(client.session)) + str(client.cookies)
    assert all(clear not in message.body for message in mail.outbox)


def test_quick_start_holds_the_key_and_a_real_route(client: Client) -> None:
    page = sign_up(client).content.decode()
    clear = KEY.search(page)
    assert clear is not None
    assert page.count(clear[0]) == 4  # the card, curl, Python, JavaScript
    assert page.count("http://127.0.0.1:9090/places/v1/search") == 3
    assert "Confirm your address for the live key" in page


def test_reloading_the_answer_makes_no_second_account(client: Client) -> None:
    sign_up(client)
    again = sign_up(client)
    assert again.status_code == 302
    assert (User.objects.count(), ApiKey.objects.count()) == (1, 1)


def test_customer_is_welcomed_and_staff_are_told(client: Client) -> None:
    create_user("staff@farebox.example", is_staff=True)
    sign_up(client)
    assert "Fabrikam Routing is set up on Starter, free for 14 days" in mail_to(
        FORM["email"], about="Welcome"
    )
    notice = mail_to("staff@farebox.example", about="New customer")
    organization = Organization.objects.get()
    assert organization.public_id in notice
    assert f"http://127.0.0.1:8000/admin/accounts/organization/{organization.pk}/change/" in notice


def test_mails_link_to_the_portal_whatever_host_the_client_names(client: Client, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["evil.example"]
    client.post(SIGN_UP, FORM, headers={"host": "evil.example"})
    assert mail.outbox
    assert all("evil.example" not in message.body for message in mail.outbox)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"email": "not-an-address"}, "valid email address"),
        ({"password1": "short"}, "too short"),
        ({"organization_name": "   "}, "This field is required"),
        ({"organization_name": "x" * 121}, "at most 120 characters"),
        ({"plan": "gratis"}, "This plan is not available"),
        ({"plan": ""}, "This field is required"),
    ],
)
def test_bad_input_is_told_at_its_field_and_nothing_is_made(
    client: Client, changes: dict[str, str], told: str
) -> None:
    response = sign_up(client, **changes)
    assert response.status_code == 422
    assert told in response.content.decode()
    assert (User.objects.count(), Organization.objects.count()) == (0, 0)


def test_plan_that_is_not_public_cannot_be_chosen(client: Client) -> None:
    Plan.objects.filter(slug="enterprise").update(is_public=False)
    assert sign_up(client, plan="enterprise").status_code == 422
    assert Organization.objects.count() == 0


def test_sign_up_is_closed_while_nothing_is_on_sale(client: Client) -> None:
    Plan.objects.update(is_public=False)
    assert "closed" in client.get(SIGN_UP).content.decode()


def test_sign_up_goes_through_while_the_broker_is_away(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accounts.tasks.send_mail.apply_async", _no_broker)
    assert key_in(sign_up(client)).startswith("fb_test_")
    assert mail_to(FORM["email"], about="Welcome")  # sent by this process instead


def test_sign_up_goes_through_when_no_mail_can_leave(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.tasks.send_mail.apply_async", _no_broker)
    monkeypatch.setattr("accounts.tasks.EmailMultiAlternatives.send", _no_broker)
    assert key_in(sign_up(client)).startswith("fb_test_")


def _no_broker(*_: object, **__: object) -> None:
    raise ConnectionRefusedError


# --- nothing is told about addresses ------------------------------------------------------------------------------


def make_known(email: str = FORM["email"]) -> User:
    user = create_user(email, password="another long password")
    EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
    create_organization("Known Ltd", owner=user)
    return user


def test_sign_up_with_a_known_address_looks_like_any_other(client: Client) -> None:
    unknown = sign_up(Client(), email="new@fabrikam.example")
    known = make_known()
    response = sign_up(client, email=known.email.upper())
    plain = [
        re.sub(
            r"(fb_test_|csrf[^\"]*\"[^\"]*\"?value=\")\w+|[\w.]+@[\w.]+|value=\"\w{64}\"|\w{64}",
            "",
            page.content.decode(),
        )
        for page in (unknown, response)
    ]
    assert response.status_code == unknown.status_code == 200
    assert plain[0] == plain[1]


def test_owner_of_a_known_address_is_warned_and_keeps_it(client: Client) -> None:
    known = make_known()
    sign_up(client)
    warning = mail_to(known.email, about="You have an account already")
    assert "confirm-email" not in warning
    assert EmailAddress.objects.get(verified=True).user == known
    assert Membership.objects.filter(user=known).count() == 1


def test_second_account_of_an_address_signs_in_with_its_own_password(client: Client) -> None:
    known = make_known()
    sign_up(client)
    for password, organization in ((PASSWORD, "Fabrikam Routing"), ("another long password", "Known Ltd")):
        visitor = Client()
        answer = visitor.post("/accounts/login/", {"login": known.email, "password": password})
        assert answer.status_code == 302
        assert organization in visitor.get("/team/").content.decode()


def test_unconfirmed_account_never_gets_a_live_key(client: Client) -> None:
    make_known()
    sign_up(client)
    assert client.post(WELCOME, {"mode": "live"}).status_code == 403
    assert not ApiKey.objects.filter(mode=Mode.LIVE).exists()


def test_reset_goes_to_the_one_who_confirmed(client: Client) -> None:
    make_known()
    sign_up(client)
    mail.outbox.clear()
    Client().post("/accounts/password/reset/", {"email": FORM["email"]})
    assert len(mail.outbox) == 1


def test_reset_of_an_unknown_address_answers_alike_and_sends_nothing(client: Client) -> None:
    known = make_known()
    answers = [
        Client().post("/accounts/password/reset/", {"email": email})
        for email in (known.email, "nobody@example.com")
    ]
    assert [answer.headers["Location"] for answer in answers] == ["/accounts/password/reset/done/"] * 2
    assert [message.to for message in mail.outbox] == [[known.email]]


# --- confirmation, live key, reset --------------------------------------------------------------------------------


def confirm(client: Client) -> Any:
    path = link_in(mail_to(FORM["email"], about="Confirm"))
    assert client.get(path).status_code == 200
    return client.post(path)


def test_confirmed_address_leads_to_the_live_key(client: Client) -> None:
    sign_up(client)
    assert confirm(client).headers["Location"] == WELCOME
    assert "Create my live key" in client.get(WELCOME).content.decode()
    clear = key_in(client.post(WELCOME, {"mode": "live"}))
    assert ApiKey.objects.get(hash=digest(clear)).mode == Mode.LIVE
    assert clear not in client.get(WELCOME).content.decode()


def test_confirming_in_another_browser_leads_through_sign_in(client: Client) -> None:
    sign_up(client)
    assert confirm(Client()).headers["Location"] == "/accounts/login/?next=/welcome/"


def test_first_key_is_issued_once(client: Client) -> None:
    sign_up(client)
    assert client.post(WELCOME, {"mode": "test"}).headers["Location"] == "/keys/"
    assert ApiKey.objects.count() == 1


def test_test_key_can_be_taken_later(client: Client) -> None:
    alice = create_user()
    create_organization(owner=alice)
    client.force_login(alice)
    assert "Create my test key" in client.get(WELCOME).content.decode()
    assert key_in(client.post(WELCOME, {"mode": "test"})).startswith("fb_test_")


def test_unknown_mode_is_refused(client: Client) -> None:
    alice = create_user()
    create_organization(owner=alice)
    client.force_login(alice)
    assert client.post(WELCOME, {"mode": "gold"}).status_code == 400


def test_billing_member_sees_the_page_but_makes_no_key(client: Client) -> None:
    organization = create_organization()
    member = create_membership(organization=organization, role=Role.BILLING)
    client.force_login(member.user)
    assert "Create my test key" not in client.get(WELCOME).content.decode()
    assert client.post(WELCOME, {"mode": "test"}).status_code == 403
    assert not ApiKey.objects.exists()


def test_steps_tick_themselves(client: Client) -> None:
    alice = create_user()
    organization = create_organization(owner=alice)
    create_key(organization=organization, mode="live")
    client.force_login(alice)
    page = client.get(WELCOME).content.decode()
    assert page.count("is-done") == 2  # account and live key


def test_password_is_reset_by_the_link(client: Client) -> None:
    sign_up(client)
    mail.outbox.clear()
    visitor = Client()
    visitor.post("/accounts/password/reset/", {"email": FORM["email"]})
    link = link_in(mail_to(FORM["email"], about="password"))
    form = visitor.get(link, follow=True)
    set_at = form.redirect_chain[-1][0]
    visitor.post(set_at, {"password1": "a brand new password", "password2": "a brand new password"})
    answer = visitor.post("/accounts/login/", {"login": FORM["email"], "password": "a brand new password"})
    assert answer.headers["Location"] == "/usage/"


# --- limits -------------------------------------------------------------------------------------------------------


def test_eleventh_sign_up_of_an_address_is_refused(client: Client) -> None:
    answers = [sign_up(Client(), email=f"p{n}@example.com", plan="free").status_code for n in range(11)]
    assert answers == [200] * 10 + [429]
    assert Client().get(SIGN_UP).status_code == 200


def test_sign_in_is_limited_after_wrong_passwords(client: Client) -> None:
    known = make_known()
    for _ in range(5):
        client.post("/accounts/login/", {"login": known.email, "password": "wrong wrong wrong"})
    answer = client.post("/accounts/login/", {"login": known.email, "password": "another long password"})
    assert answer.status_code != 302
    assert "Too many failed login attempts" in answer.content.decode()


def test_who_reloads_the_page_of_the_first_key_is_sent_to_the_keys() -> None:
    client = Client(enforce_csrf_checks=True)
    form = client.get(SIGN_UP)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form.content.decode())
    assert token is not None
    sent = FORM | {"csrfmiddlewaretoken": token[1]}
    assert key_in(client.post(SIGN_UP, sent))
    reloaded = client.post(
        SIGN_UP, sent, follow=True
    )  # the browser sends the same form again; signing in made a new token
    assert reloaded.redirect_chain == [("/keys/", 302)]
    assert b"shown only once" in reloaded.content
    assert client.post("/keys/new/", {"csrfmiddlewaretoken": "old"}).status_code == 403


def test_staff_without_an_organization_land_on_their_overview() -> None:
    staff = create_user("staff@farebox.example", is_staff=True)
    EmailAddress.objects.create(user=staff, email=staff.email, verified=True, primary=True)
    answer = Client().post("/accounts/login/", {"login": staff.email, "password": PASSWORD})
    assert (answer.status_code, answer["Location"]) == (302, "/staff/")
