"""The official SDKs of OpenAI and Anthropic, unchanged but for base URL and key."""

from typing import Any

import anthropic
import openai
import pytest

from accounts.models import OrganizationStatus
from core.clock import now
from plans.caps import set_cap
from plans.models import CapSide
from plans.versions import raise_version
from tests.gateway.language.kit import Models, User

TEXT = "word " * 12
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SAY: Any = [{"role": "user", "content": "Say something."}]
WEATHER: Any = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.fixture
def user(models: Models) -> User:
    models.requests()
    return models.user()


def openai_of(user: User, *, key: str | None = None, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{user.api.url}/v1", api_key=key or user.issued.clear, **({"max_retries": 0} | options)
    )


def anthropic_of(user: User, *, key: str | None = None, **options: Any) -> anthropic.Anthropic:
    # Its paths begin with /v1 themselves.
    return anthropic.Anthropic(
        base_url=user.api.url, api_key=key or user.issued.clear, **({"max_retries": 0} | options)
    )


# --- OpenAI ------------------------------------------------------------------------------------------------------


def test_openai_chat_streams_and_tools(user: User) -> None:
    with openai_of(user) as client:
        chat = client.chat.completions.create(model="gpt-test", messages=SAY)
        assert chat.choices[0].message.content == TEXT
        assert chat.usage is not None
        assert chat.usage.total_tokens == 41
        stream = client.chat.completions.create(model="gpt-test", messages=SAY, stream=True)
        chunks = list(stream)
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == TEXT
        assert all(c.usage is None for c in chunks)
        counted = list(
            client.chat.completions.create(
                model="gpt-test", messages=SAY, stream=True, stream_options={"include_usage": True}
            )
        )
        assert counted[-1].usage is not None
        assert counted[-1].usage.total_tokens == 41
        tool: Any = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
        called = client.chat.completions.create(model="gpt-test", messages=SAY, tools=[tool])
        calls: Any = called.choices[0].message.tool_calls
        assert calls[0].function.name == "weather"
    assert [row["props"]["output_tokens"] for row in user.rows(4)] == [12] * 4


def test_openai_completions_responses_embeddings_images_models(user: User) -> None:
    with openai_of(user) as client:
        assert client.completions.create(model="gpt-test", prompt="Say").choices[0].text == TEXT
        assert client.responses.create(model="gpt-test", input="Say").output_text == TEXT
        events = list(client.responses.create(model="gpt-test", input="Say", stream=True))
        assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == TEXT
        assert events[-1].type == "response.completed"
        assert client.embeddings.create(model="gpt-test", input="Say").data[0].embedding == [0.25, 0.5]
        pictures = client.images.generate(model="gpt-test", prompt="a word").data or []
        assert pictures[0].b64_json
        assert "gpt-test" in [model.id for model in client.models.list()]
        assert client.models.retrieve("gpt-test").id == "gpt-test"
    assert len(user.rows(5)) == 5


def test_openai_pictures_in_bodies_count_as_pictures(models: Models, user: User) -> None:
    large = PICTURE * 2_000
    content: Any = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{large}"}},
    ]
    with openai_of(user) as client:
        client.chat.completions.create(
            model="gpt-test",
            messages=[{"role": "user", "content": content}],
            extra_headers={"X-Act": "usage=none"},
        )
    (request,) = models.requests()
    assert request["body"]["messages"][0]["content"] == content
    assert 2_000 < user.row()["props"]["input_tokens"] < 2_100


def refused(user: User, act: str = "", **options: Any) -> openai.APIStatusError:
    """The exception that a chat raises."""
    with openai_of(user, **options) as client, pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(
            model=options.get("model", "gpt-test"), messages=SAY, max_tokens=100, extra_headers={"X-Act": act}
        )
    return caught.value


def test_openai_errors_have_their_classes(models: Models, user: User) -> None:
    wrong = refused(user, key="fb_live_wrong")
    assert (type(wrong), wrong.code) == (openai.AuthenticationError, "invalid_key")
    with openai_of(user) as client:
        with pytest.raises(openai.NotFoundError) as missing:
            client.chat.completions.create(model="gpt-unheard-of", messages=SAY)
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as bad:
            client.chat.completions.create(model="gpt-test", messages=SAY, max_tokens=-1)
        assert bad.value.code == "invalid_model_request"
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="gpt-unpriced", messages=SAY)
    scoped = models.user(scopes=("product:delivered",))
    assert (type(error := refused(scoped)), error.code) == (openai.PermissionDeniedError, "out_of_scope")
    assert type(refused(user, "status=429")) is openai.RateLimitError
    assert type(refused(user, "status=500")) is openai.InternalServerError


def test_openai_sees_a_closed_door_as_402(user: User) -> None:
    suspend(user)
    error = refused(user)
    assert (type(error), error.status_code, error.code) == (openai.APIStatusError, 402, "suspended")


def suspend(user: User) -> None:
    user.organization.status = OrganizationStatus.SUSPENDED
    user.organization.save(update_fields=["status"])
    raise_version(user.organization)


def close_cap(user: User) -> None:
    set_cap(
        organization=user.organization,
        side=CapSide.CUSTOMER,
        amount_minor=0,
        spent_minor=0,
        by=None,
        at=now(),
    )


def test_openai_does_not_repeat_what_waiting_does_not_help(models: Models, user: User) -> None:
    close_cap(user)
    sent: list[str] = []
    error = refused(user, max_retries=3, http_client=counting_openai(sent))
    assert (type(error), error.code, len(sent)) == (openai.RateLimitError, "spend_cap_reached", 1)
    assert models.requests() == []


def counting_openai(sent: list[str]) -> Any:
    def count(request: Any) -> None:
        sent.append(str(request.url))

    return openai.DefaultHttpxClient(event_hooks={"request": [count]})


def test_openai_repeats_when_the_upstream_asks_for_it(models: Models, user: User) -> None:
    sent: list[str] = []
    headers = {"X-Act": "status=429,times=1,id=again-openai,retry_after=1"}
    with openai_of(user, max_retries=2, http_client=counting_openai(sent)) as client:
        chat = client.chat.completions.create(model="gpt-test", messages=SAY, extra_headers=headers)
    assert chat.choices[0].message.content == TEXT
    assert (len(sent), len(models.requests())) == (2, 2)
    first, second = user.rows(2)
    assert (first["qty"], first["reason"], second.get("reason", "")) == (0, "client_error", "")
    assert second["at"] - first["at"] >= 1_000_000  # as Retry-After said


def test_openai_raises_when_a_stream_meets_a_limit(models: Models) -> None:
    user = models.user(quota=1_500)
    with openai_of(user) as client, pytest.raises(openai.APIError) as caught:
        list(
            client.chat.completions.create(
                model="gpt-test", messages=SAY, stream=True, extra_headers={"X-Act": "words=3000"}
            )
        )
    assert caught.value.code == "quota_exceeded"


# --- Anthropic ---------------------------------------------------------------------------------------------------


def test_anthropic_messages_streams_and_tools(user: User) -> None:
    with anthropic_of(user) as client:
        message = client.messages.create(model="claude-test", max_tokens=100, messages=SAY)
        text: Any = message.content[0]
        assert (text.text, message.usage.output_tokens) == (TEXT, 16)
        with client.messages.stream(model="claude-test", max_tokens=100, messages=SAY) as stream:
            assert "".join(stream.text_stream) == TEXT
            assert stream.get_final_message().usage.output_tokens == 16
        tool: Any = {"name": "weather", "input_schema": WEATHER}
        called = client.messages.create(model="claude-test", max_tokens=100, messages=SAY, tools=[tool])
        assert called.content[0].type == "tool_use"
        assert "claude-test" in [model.id for model in client.models.list()]
    assert [row["props"]["output_tokens"] for row in user.rows(3)] == [16] * 3


def test_anthropic_pictures_in_bodies(models: Models, user: User) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    content: Any = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
    with anthropic_of(user) as client:
        client.messages.create(
            model="claude-test", max_tokens=100, messages=[{"role": "user", "content": content}]
        )
    (request,) = models.requests()
    assert request["body"]["messages"][0]["content"] == content
    assert user.row()["qty"] > 0


def refused_message(
    user: User, act: str = "", *, model: str = "claude-test", **options: Any
) -> anthropic.APIStatusError:
    with anthropic_of(user, **options) as client, pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model=model, max_tokens=100, messages=SAY, extra_headers={"X-Act": act})
    return caught.value


def test_anthropic_errors_have_their_classes(models: Models, user: User) -> None:
    assert type(refused_message(user, key="fb_live_wrong")) is anthropic.AuthenticationError
    assert type(refused_message(user, model="gpt-unheard-of")) is anthropic.NotFoundError
    assert type(refused_message(user, model="")) is anthropic.BadRequestError
    assert type(refused_message(models.user(scopes=("product:free",)))) is anthropic.PermissionDeniedError
    assert type(refused_message(user, "status=429")) is anthropic.RateLimitError
    assert type(refused_message(user, "status=500")) is anthropic.InternalServerError
    suspend(user)
    closed = refused_message(user)
    body: Any = closed.body
    assert (closed.status_code, body["error"]["code"]) == (402, "suspended")


def test_anthropic_repeats_only_what_may_help(models: Models, user: User) -> None:
    with anthropic_of(user, max_retries=2) as client:
        headers = {"X-Act": "status=529,times=1,id=again-anthropic,retry_after=1"}
        client.messages.create(model="claude-test", max_tokens=100, messages=SAY, extra_headers=headers)
    assert len(models.requests()) == 2
    assert len(user.rows(2)) == 2
    close_cap(user)
    sent: list[str] = []

    def count(request: Any) -> None:
        sent.append(str(request.url))

    client_of_http = anthropic.DefaultHttpxClient(event_hooks={"request": [count]})
    error = refused_message(user, max_retries=3, http_client=client_of_http)
    assert (type(error), len(sent), models.requests()) == (anthropic.RateLimitError, 1, [])


def test_anthropic_raises_when_a_stream_meets_a_limit(models: Models) -> None:
    user = models.user(quota=1_500)
    options: Any = {"model": "claude-test", "max_tokens": None, "messages": SAY, "stream": True}
    with anthropic_of(user) as client:
        stream = client.messages.create(**options, extra_headers={"X-Act": "words=3000"})
        with pytest.raises(anthropic.APIStatusError) as caught:
            list(stream)
    assert "quota" in str(caught.value)
