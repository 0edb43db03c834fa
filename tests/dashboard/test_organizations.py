"""Further organizations, and the switcher."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from accounts.models import Organization, Role
from core.clock import now
from keys.models import ApiKey
from plans.queries import current_subscription
from tests.cast import Cast, create_cast
from tests.eager import tasks_at_once
from tests.factories import create_membership, create_user

pytestmark = pytest.mark.django_db(transaction=True)
NEW = "/organizations/new/"
SWITCH = "/organizations/switch/"


@pytest.fixture(autouse=True)
def cast(usage_redis: Any) -> Iterator[Cast]:
    with tasks_at_once():
        yield create_cast()


def client_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_person_without_an_organization_is_led_to_make_one() -> None:
    client = client_of(create_user())
    assert client.get("/usage/").headers["Location"] == NEW
    assert "You are in no organization yet" in client.get(NEW).content.decode()


def test_further_organization_has_its_plan_and_shows_its_key_once(cast: Cast) -> None:
    client = client_of(cast.alice)
    answer = client.post(NEW, {"name": " Northwind  Labs ", "plan": "professional"})
    organization = Organization.objects.get(name="Northwind Labs")
    key = ApiKey.objects.for_organization(organization).get()
    assert answer.status_code == 200
    assert "fb_test_" in answer.content.decode()
    assert key.last4 in answer.content.decode()
    assert current_subscription(organization, at=now()).version.plan.slug == "professional"
    assert "Northwind Labs" in client.get("/team/").content.decode()


@pytest.mark.parametrize("sent", [{"name": " ", "plan": "free"}, {"name": "Labs", "plan": "gratis"}, {}])
def test_bad_input_makes_nothing(cast: Cast, sent: dict[str, str]) -> None:
    answer = client_of(cast.alice).post(NEW, sent)
    assert answer.status_code == 422
    assert Organization.objects.count() == 2


def test_making_organizations_is_limited(cast: Cast) -> None:
    client = client_of(cast.alice)
    answers = [client.post(NEW, {"name": f"Labs {n}", "plan": "free"}).status_code for n in range(6)]
    assert answers == [200] * 5 + [429]


def test_strangers_sign_in_first(client: Client) -> None:
    assert client.get(NEW).status_code == 302
    assert client.post(SWITCH).status_code == 302


def test_person_in_two_organizations_switches_and_the_choice_stays(cast: Cast) -> None:
    create_membership(organization=cast.contoso, user=cast.bob, role=Role.BILLING)
    client = client_of(cast.bob)
    assert cast.alice.email in client.get("/team/").content.decode()
    client.post(SWITCH, {"organization": cast.contoso.public_id})
    page = client.get("/team/").content.decode()
    assert cast.charlie.email in page
    assert cast.alice.email not in page


@pytest.mark.parametrize("organization", ["northwind's", "org_unknown", ""])
def test_other_organizations_look_missing(cast: Cast, organization: str) -> None:
    client = client_of(cast.charlie)
    chosen = cast.northwind.public_id if organization == "northwind's" else organization
    assert client.post(SWITCH, {"organization": chosen}).status_code == 404
    assert cast.alice.email not in client.get("/team/").content.decode()


def test_membership_that_ended_ends_the_choice(cast: Cast) -> None:
    membership = create_membership(organization=cast.contoso, user=cast.bob)
    client = client_of(cast.bob)
    client.post(SWITCH, {"organization": cast.contoso.public_id})
    membership.delete()
    assert cast.charlie.email not in client.get("/team/").content.decode()


def test_archived_organization_is_not_shown(cast: Cast) -> None:
    Organization.objects.filter(pk=cast.northwind.pk).update(archived_at=now())
    assert client_of(cast.bob).get("/team/").headers["Location"] == NEW
