"""Retries of calls to language models: the tokens are billed once, whoever broke the connection."""

import http.client
import time
from contextlib import suppress
from itertools import count
from typing import Any

import anthropic
import openai
import pytest

from plans.models import Route
from tests.examples.processes import Answer
from tests.gateway.kit import wait_for
from tests.gateway.language.kit import Models, User, document, frames

_number = count(1)
SAY: Any = [{"role": "user", "content": "Say something."}]


@pytest.fixture
def user(models: Models) -> User:
    models.requests()
    return models.user()


def a_key() -> str:
    return f"chat-{next(_number)}"


def ask(user: User, key: str, path: str = "/chat/completions", act: str = "", **body: Any) -> Answer:
    return user.call(path, "POST", document(path, body), product="v1", X_Act=act, Idempotency_Key=key)


def assert_billed_once(user: User, models: Models, *, replays: int) -> None:
    rows = user.rows(1 + replays)
    billed = [row for row in rows if not row.get("reason")]
    assert [row["qty"] > 0 for row in billed] == [True]
    assert [row["qty"] for row in rows if row.get("reason") == "replayed"] == [0] * replays
    assert {row["props"]["replay_of"] for row in rows if row.get("reason")} == {billed[0]["id"]}
    assert user.tokens() == sum(v for k, v in billed[0]["props"].items() if k.endswith("_tokens"))
    assert len(models.requests()) == 1
    user.assert_nothing_reserved()


def test_model_routes_keep_answers_for_an_hour_and_the_list_of_models_none(models: Models) -> None:
    installed = [route.pk for name, route in models.routes.items() if name.startswith("v1/")]
    kept = dict(Route.objects.filter(pk__in=installed).values_list("path", "replay_seconds"))
    assert {path for path, seconds in kept.items() if seconds == 0} == {"/models", "/models/*"}
    assert {seconds for seconds in kept.values()} == {0, 3600}


@pytest.mark.parametrize("path", ["/chat/completions", "/responses", "/messages"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_retry_gets_the_same_answer(models: Models, user: User, path: str, *, stream: bool) -> None:
    key = a_key()
    first, again = (ask(user, key, path, stream=stream) for _ in range(2))
    assert (first.status, again.status) == (200, 200)
    assert again.body == first.body
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert "idempotent-replayed" not in first.headers
    assert_billed_once(user, models, replays=1)


@pytest.mark.parametrize("stream", [False, True])
def test_who_left_in_mid_answer_gets_the_drained_one(models: Models, user: User, *, stream: bool) -> None:
    key, act = a_key(), "pause=0.05" if stream else "head=0.5"
    headers = {"Idempotency-Key": key, "X-Act": act}
    leave(user, headers, stream=stream)
    with openai_of(user, max_retries=4) as client:  # refused by 409 and Retry-After until the first has ended
        again: Any = client.chat.completions.with_raw_response.create(
            model="gpt-test", messages=SAY, stream=stream, extra_headers=headers
        )
        assert again.headers["idempotent-replayed"] == "true"
        told = again.parse()
        if stream:
            text = "".join(chunk.choices[0].delta.content or "" for chunk in told)
        else:
            text = told.choices[0].message.content
    assert text == "word " * 12
    assert_billed_once(user, models, replays=1)
    (billed,) = [row for row in user.rows(2) if not row.get("reason")]
    assert billed["props"]["outcome"] == "client_gone_drained"


def leave(user: User, headers: dict[str, str], *, stream: bool) -> None:
    """Give up on an answer: after a quarter of a second, or after the first piece of a stream."""
    with openai_of(user, timeout=0.25) as client:
        if not stream:
            with pytest.raises(openai.APITimeoutError):
                client.chat.completions.create(
                    model="gpt-test", messages=SAY, stream=False, extra_headers=headers
                )
            return
        answer = client.chat.completions.create(
            model="gpt-test", messages=SAY, stream=True, extra_headers=headers
        )
        next(iter(answer))
        answer.close()


def openai_of(user: User, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{user.api.url}/v1", api_key=user.issued.clear, **({"max_retries": 0} | options)
    )


def test_the_sdks_own_keys_survive_their_retries(models: Models, user: User) -> None:
    """An SDK that names its requests itself sends the same name with each try."""
    with openai_of(user, max_retries=2) as client:
        client._idempotency_header = "Idempotency-Key"
        act = {"X-Act": f"status=500,times=1,id={a_key()},retry_after=0"}
        for _ in range(2):
            answer = client.chat.completions.create(model="gpt-test", messages=SAY, extra_headers=act)
            assert answer.choices[0].message.content == "word " * 12
    reasons = [row.get("reason", "") for row in user.rows(3)]
    assert sorted(reasons) == ["", "", "upstream_error"]  # another request of the SDK has another name
    names = [dict(request["headers"])["idempotency-key"] for request in models.requests()]
    assert names[0] == names[1] != names[2]


def test_anthropics_sdk_gets_its_answer_again(models: Models, user: User) -> None:
    with anthropic.Anthropic(base_url=user.api.url, api_key=user.issued.clear, max_retries=0) as client:
        said = [
            client.messages.create(
                model="claude-test",
                max_tokens=100,
                messages=SAY,
                extra_headers={"Idempotency-Key": "message-1"},
            )
            for _ in range(2)
        ]
    assert said[0].content == said[1].content
    assert_billed_once(user, models, replays=1)


def test_another_body_is_422_in_the_shape_of_the_dialect(user: User) -> None:
    key = a_key()
    assert ask(user, key).status == 200
    refused = ask(user, key, temperature=0)
    assert (refused.status, refused.json["error"]["code"]) == (422, "idempotency_key_reused")
    with openai_of(user) as client, pytest.raises(openai.UnprocessableEntityError):
        client.chat.completions.create(
            model="gpt-test", messages=SAY, temperature=0, extra_headers={"Idempotency-Key": key}
        )


@pytest.mark.parametrize("act", ["fail=3", "cut=3", "usage=none,cut=0"])
def test_a_stream_that_broke_is_not_kept(models: Models, user: User, act: str) -> None:
    key = a_key()
    for _ in range(2):
        with stream_of(user, key, act) as response:
            with suppress(http.client.IncompleteRead):
                response.read()
            assert response.headers["Idempotent-Replayed"] is None
    wait_for(lambda: len(user.rows(2)) == 2)
    assert len(models.requests()) == 2


def stream_of(user: User, key: str, act: str) -> Any:
    return user.stream(act=act, headers={"Idempotency-Key": key})


def test_a_stream_that_a_limit_ended_is_not_kept(models: Models) -> None:
    user, key = models.user(quota=1200), a_key()
    for _ in range(2):
        answer = ask(user, key, act="words=1500,usage=none", stream=True)
        if answer.status == 200:
            assert frames(answer.body)[-1]["error"]["code"] == "quota_exceeded"
        assert "idempotent-replayed" not in answer.headers
        time.sleep(0.05)
