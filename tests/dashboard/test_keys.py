import re
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.test import Client
from django.urls import reverse

from accounts.models import Role
from core.clock import now
from keys.hashing import KEY_PATTERN, digest
from keys.models import ApiKey
from tests.cast import Cast, create_cast
from tests.factories import create_key, create_membership, create_user

pytestmark = pytest.mark.django_db
LIST, NEW = "/keys/", "/keys/new/"


@pytest.fixture
def cast() -> Cast:
    return create_cast()


@pytest.fixture
def alice(cast: Cast, client: Client) -> Client:
    EmailAddress.objects.update_or_create(
        user=cast.alice, email=cast.alice.email, defaults={"verified": True, "primary": True}
    )
    client.force_login(cast.alice)
    return client


def form(**changes: object) -> dict[str, object]:
    return {
        "name": "production",
        "mode": "live",
        "scopes": [],
        "expires_on": "",
        "calls_per_minute": "",
    } | changes


def test_without_keys_the_list_says_the_next_step(alice: Client) -> None:
    page = alice.get(LIST).content.decode()
    assert "No keys yet" in page
    assert reverse("dashboard:key-create") in page


def test_the_list_shows_prefix_and_last_four_but_never_the_key(alice: Client, cast: Cast) -> None:
    issued = create_key(organization=cast.northwind, name="batch", by=cast.alice)
    page = alice.get(LIST).content.decode()
    assert f"{issued.key.prefix}…{issued.key.last4}" in page
    assert issued.clear not in page


def test_the_list_costs_the_same_queries_for_one_key_and_for_many(
    alice: Client, cast: Cast, django_assert_max_num_queries
) -> None:  # type: ignore[no-untyped-def]
    for number in range(12):
        create_key(organization=cast.northwind, name=f"key {number}", by=cast.alice)
    with django_assert_max_num_queries(10):
        alice.get(LIST)


def test_a_new_key_is_shown_once_with_a_quick_start_that_holds_it(alice: Client, cast: Cast) -> None:
    answer = alice.post(NEW, form())
    found = KEY_PATTERN.search(answer.content.decode())
    assert found is not None
    assert ApiKey.objects.for_organization(cast.northwind).get(hash=digest(found[0])).mode == "live"
    assert f"Bearer {found[0]}" in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    assert found[0] not in alice.get(LIST).content.decode()


def test_a_live_key_waits_for_the_confirmed_address(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    answer = client.post(NEW, form(mode="live"))
    assert answer.status_code == 422
    assert not ApiKey.objects.for_organization(cast.northwind).exists()
    assert client.post(NEW, form(mode="test")).status_code == 200


@pytest.mark.parametrize(
    "bad",
    [
        {"name": ""},
        {"mode": "both"},
        {"scopes": ["product:foreign"]},
        {"expires_on": "2001-01-01"},
        {"calls_per_minute": "0"},
    ],
)
def test_a_bad_form_is_shown_again_with_its_errors(alice: Client, bad: dict[str, object]) -> None:
    answer = alice.post(NEW, form(**bad))
    assert answer.status_code == 422
    assert "needs your attention" in answer.content.decode()


def test_rotating_shows_the_new_key_and_leaves_the_old_one_its_grace(alice: Client, cast: Cast) -> None:
    old = create_key(organization=cast.northwind).key
    answer = alice.post(reverse("dashboard:key-rotate", args=[old.public_id]), {"grace": "24"})
    assert KEY_PATTERN.search(answer.content.decode())
    old.refresh_from_db()
    assert old.state(now()) == "rotating"
    assert old.state(now() + timedelta(hours=25)) == "expired"


def test_revoking_asks_for_the_name(alice: Client, cast: Cast) -> None:
    key = create_key(organization=cast.northwind, name="batch").key
    url = reverse("dashboard:key-revoke", args=[key.public_id])
    refused = alice.post(url, {"confirm": "other"})
    assert refused.status_code == 422
    assert "That is not the key&#x27;s name." in refused.content.decode()
    key.refresh_from_db()
    assert key.revoked_at is None
    assert alice.post(url, {"confirm": "batch"}).status_code == 302
    key.refresh_from_db()
    assert key.revoked_at is not None


def test_a_billing_member_sees_keys_but_makes_none(cast: Cast, client: Client) -> None:
    finance = create_user("finance@northwind.example")
    create_membership(organization=cast.northwind, user=finance, role=Role.BILLING)
    client.force_login(finance)
    assert client.get(LIST).status_code == 200
    assert client.get(NEW).status_code == 403
    assert client.post(NEW, form(mode="test")).status_code == 403


def test_a_strangers_key_is_not_there(cast: Cast, client: Client) -> None:
    key = create_key(organization=cast.northwind, name="batch").key
    client.force_login(cast.charlie)
    for name in ("key-rotate", "key-revoke"):
        url = reverse(f"dashboard:{name}", args=[key.public_id])
        assert client.post(url, {"confirm": "batch", "grace": "0"}).status_code == 404
    key.refresh_from_db()
    assert key.revoked_at is None


def test_the_thirty_first_key_of_an_hour_is_refused(alice: Client) -> None:
    statuses = [alice.post(NEW, form(name="")).status_code for _ in range(31)]
    assert statuses[-1] == 429
    assert set(statuses[:-1]) == {422}


def test_signed_out_people_are_sent_to_sign_in(client: Client) -> None:
    answer = client.get(LIST)
    assert answer.status_code == 302
    assert re.search(r"/accounts/login/\?next=/keys/", answer["Location"])
