"""Several servers of one model, each with a name and a credential of its own: they share calls and stand in for each other."""

from collections import Counter
from itertools import count
from typing import Any

import pytest

from gateway.pools import EJECT_AFTER
from gateway.routes import load_route_table
from plans.models import LanguageModel, LanguageUpstream, Route
from tests.factories import create_product, create_route
from tests.gateway.kit import wait_for
from tests.gateway.language.kit import KEY, Models, User, add_model

DEAD = "http://127.0.0.1:9"
_number = count(1)


@pytest.fixture
def user(models: Models) -> User:
    models.requests()
    return models.user()


def model(models: Models, *urls: str, **first: Any) -> str:
    """A new model whose servers have the same position, once the gateway knows it; `first`: what is different at the first."""
    name = f"pooled-{next(_number)}"
    made = add_model(name, *((url, f"inner-{number}") for number, url in enumerate(urls)))
    rows = LanguageUpstream.objects.filter(model=made)
    rows.update(position=0)
    if first:
        rows.filter(upstream_name="inner-0").update(**first)
    listed = models.user()
    wait_for(lambda: listed.call(f"/models/{name}", product="v1").status == 200)
    return name


def asked(models: Models) -> Counter[str]:
    return Counter(request["body"]["model"] for request in models.requests())


def test_servers_of_a_position_share_the_calls_by_weight(models: Models, user: User) -> None:
    name = model(models, models.upstream.url, models.upstream.url, weight=3)
    assert {user.ask(model=name).status for _ in range(8)} == {200}
    assert asked(models) == {"inner-0": 6, "inner-1": 2}
    assert [row["qty"] > 0 for row in user.rows(8)] == [True] * 8


def test_a_server_that_is_away_is_not_seen_and_nothing_is_billed_twice(models: Models, user: User) -> None:
    name = model(models, DEAD, models.upstream.url)
    assert {user.ask(model=name).status for _ in range(14)} == {200}
    rows = user.rows(14)
    assert len({row["qty"] for row in rows}) == 1
    assert (
        sorted(row["props"].get("attempts", 1) for row in rows)
        == [1] * (14 - EJECT_AFTER) + [2] * EJECT_AFTER
    )
    assert asked(models) == {"inner-1": 14}
    user.assert_nothing_reserved()


def test_what_a_server_may_have_worked_on_is_not_asked_again(models: Models, user: User) -> None:
    name = model(models, models.upstream.url, models.upstream.url)
    assert user.ask(act="status=503", model=name).status == 503
    assert asked(models).total() == 1
    (row,) = user.rows(1)
    assert (row["qty"], row["reason"]) == (0, "upstream_error")
    assert "attempts" not in row["props"]
    user.assert_nothing_reserved()


def test_a_server_that_refuses_the_owners_credential_is_left_out(models: Models, user: User) -> None:
    name = model(models, models.upstream.url, models.upstream.url, credential="Bearer wrong")
    statuses = Counter(user.ask(model=name).status for _ in range(16))
    assert statuses == {502: EJECT_AFTER, 200: 16 - EJECT_AFTER}


def test_each_server_gets_its_own_credential_only(models: Models, user: User) -> None:
    name = model(
        models, models.upstream.url, models.upstream.url, credential_header="x-api-key", credential=KEY
    )
    assert {user.ask(model=name).status for _ in range(2)} == {200}
    sent = {
        request["body"]["model"]: {header.lower(): value for header, value in request["headers"]}
        for request in models.requests()
    }
    assert sent["inner-0"].get("x-api-key") == KEY
    assert "authorization" not in sent["inner-0"]
    assert sent["inner-1"].get("authorization") == f"Bearer {KEY}"
    assert "x-api-key" not in sent["inner-1"]


@pytest.mark.django_db
def test_a_model_whose_servers_cannot_be_used_is_not_asked_of_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its prompts were meant for them: neither the environment's server nor the product's gets them."""
    route = create_route(create_product("v1"), "/chat/completions")
    Route.objects.filter(pk=route.pk).update(dialect="chat_completions")
    for name in ("inside", "mixed", "free"):
        add_model(name)
    inside, mixed = (LanguageModel.objects.get(name=name) for name in ("inside", "mixed"))
    for made in (inside, mixed):
        LanguageUpstream.objects.create(model=made, base_url="http://user:hidden-word@vllm:8000/v1")
    LanguageUpstream.objects.create(model=mixed, base_url="http://vllm:8000/v1")
    assert set(load_route_table().models) == {"mixed", "free"}
    assert "inside at a server" in caplog.text
    assert "hidden-word" not in caplog.text
    LanguageUpstream.objects.filter(model=inside).update(is_active=False)
    assert set(load_route_table().models) == {"inside", "mixed", "free"}
