"""What callers of models are told about limits, and that the official SDKs do as they are told."""

import re
import time
from datetime import UTC, datetime
from typing import Any

import anthropic
import openai
import pytest

from gateway.language.answers import duration
from plans.models import LanguageModel
from tests.gateway.kit import wait_for
from tests.gateway.language.kit import Models, User
from tests.gateway.language.test_sdks import SAY, anthropic_of, counting_openai, openai_of

OPENAI, ANTHROPIC = "/chat/completions", "/messages"


def on_route(models: Models, path: str, calls: int, seconds: int, **more: Any) -> dict[str, Any]:
    return {
        "scope": "route",
        "route": models.routes["v1" + path],
        "calls": calls,
        "window_seconds": seconds,
    } | more


def on_model(name: str, calls: int, seconds: int = 60, **more: Any) -> dict[str, Any]:
    model = LanguageModel.objects.get(name=name)
    return {"scope": "model", "model": model, "calls": calls, "window_seconds": seconds} | more


def test_durations_are_written_as_openai_does() -> None:
    assert [duration(n) for n in (0, 7, 60, 360, 3_600, 3_725)] == [
        "0s",
        "7s",
        "1m0s",
        "6m0s",
        "1h0m0s",
        "1h2m5s",
    ]


def test_every_limit_has_a_name_and_the_nearest_is_told(models: Models) -> None:
    user = models.user(
        per_minute=100_000,
        limits=(
            on_route(models, OPENAI, 50, 60),
            on_model("gpt-test", 3_000, 3_600, measure="output_tokens"),
        ),
    )
    headers = user.ask(max_tokens=300).headers
    assert [policy.split(";")[0] for policy in headers["ratelimit-policy"].split(", ")] == [
        '"minute"', '"tokens-minute"', '"route-minute"', '"model-output-tokens-hour"'
    ]  # fmt: skip
    assert headers["ratelimit"].startswith('"model-output-tokens-hour";r=2700;t=')
    assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == ("3000", "2700")
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("50", "49")
    assert headers["x-ratelimit-reset-requests"] == "1m0s"
    assert (headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-remaining-tokens"]) == ("3000", "2700")
    assert re.fullmatch(r"(1h0m0s|59m\d+s)", headers["x-ratelimit-reset-tokens"])
    after = user.ask(
        max_tokens=300
    ).headers  # 16 tokens were written (4 of them thoughts), the rest came back
    assert after["x-ratelimit-remaining-tokens"] == str(3_000 - 16 - 300)


def test_anthropics_names_tell_prompts_and_answers_apart(models: Models) -> None:
    user = models.user(
        limits=(
            on_model("claude-test", 9_000, measure="input_tokens"),
            on_model("claude-test", 1_000, measure="output_tokens"),
        )
    )
    headers = user.ask(ANTHROPIC, model="claude-test", max_tokens=400).headers
    assert headers["anthropic-ratelimit-output-tokens-limit"] == "1000"
    assert headers["anthropic-ratelimit-output-tokens-remaining"] == "600"
    assert headers["anthropic-ratelimit-input-tokens-limit"] == "9000"
    assert 8_800 < int(headers["anthropic-ratelimit-input-tokens-remaining"]) < 9_000
    assert headers["anthropic-ratelimit-tokens-limit"] == "1000"  # the nearer of them
    reset = datetime.strptime(headers["anthropic-ratelimit-tokens-reset"], "%Y-%m-%dT%H:%M:%SZ").replace(
        tzinfo=UTC
    )
    assert 50 < (reset - datetime.now(UTC)).total_seconds() <= 61
    refused = user.ask(ANTHROPIC, model="claude-test", max_tokens=1_001)
    assert refused.json["error"]["code"] == "request_larger_than_limit"


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
def test_refusals_tell_it_too(models: Models, path: str) -> None:
    name = "claude-test" if path == ANTHROPIC else "gpt-test"
    user = models.user(limits=(on_route(models, path, 1, 30),))
    assert user.ask(path, model=name, max_tokens=50).status == 200
    refused = user.ask(path, model=name, max_tokens=50)
    assert (refused.status, refused.json["error"]["code"]) == (429, "route_rate_limited")
    headers = refused.headers
    assert 0 < int(headers["retry-after"]) <= 31
    assert headers["retry-after-ms"] == headers["retry-after"] + "000"
    assert headers["ratelimit"].startswith('"route-30s";r=0;t=')
    if path == ANTHROPIC:
        assert headers["anthropic-ratelimit-requests-limit"] == "1"
        assert headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    else:
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert headers["x-ratelimit-reset-requests"].endswith("s")
    other = OPENAI if path == ANTHROPIC else ANTHROPIC
    assert user.ask(other, model="claude-test" if path == OPENAI else "gpt-test", max_tokens=50).status == 200


def test_calls_at_the_same_time_with_a_model(models: Models) -> None:
    user = models.user(limits=(on_model("gpt-test", 1, 0, measure="concurrency"),))
    with user.stream(stream=True, max_tokens=300, act="words=100,pause=0.02") as stream:
        assert stream.status == 200
        refused = user.ask(max_tokens=50)
        assert (refused.status, refused.json["error"]["code"]) == (429, "model_concurrency_limited")
        assert refused.headers["retry-after"] == "1"
        assert user.ask(model="gpt-failover", max_tokens=50).status == 200
        stream.read()
    wait_for(lambda: user.ask(max_tokens=50).status == 200)


# --- the SDKs ----------------------------------------------------------------------------------------------------


def chat(client: openai.OpenAI) -> None:
    client.chat.completions.create(model="gpt-test", messages=SAY, max_tokens=50)


def test_openai_waits_as_it_is_told(models: Models) -> None:
    user, sent = models.user(limits=(on_route(models, OPENAI, 1, 3),)), list[str]()
    with openai_of(user, max_retries=2, http_client=counting_openai(sent)) as client:
        chat(client)
        chat(client)
    assert len(sent) == 3  # one refusal, and one wait that was long enough
    first, second = user.rows(2)
    assert 3_000_000 <= second["at"] - first["at"] < 30_000_000


def test_anthropic_waits_as_it_is_told(models: Models) -> None:
    user = models.user(limits=(on_model("claude-test", 1, 3),))
    sent: list[str] = []
    http = anthropic.DefaultHttpxClient(
        event_hooks={"request": [lambda request: sent.append(str(request.url))]}
    )
    with anthropic_of(user, max_retries=2, http_client=http) as client:
        for _ in range(2):
            client.messages.create(model="claude-test", max_tokens=50, messages=SAY)
    assert len(sent) == 3
    first, second = user.rows(2)
    assert 3_000_000 <= second["at"] - first["at"] < 30_000_000


def test_openai_does_not_wait_for_an_hour(models: Models) -> None:
    user, sent = models.user(limits=(on_route(models, OPENAI, 1, 3_600),)), list[str]()
    with openai_of(user, max_retries=3, http_client=counting_openai(sent)) as client:
        chat(client)
        begun = time.monotonic()
        with pytest.raises(openai.RateLimitError) as caught:
            chat(client)
    assert time.monotonic() - begun < 10
    assert len(sent) == 2
    assert (caught.value.code, caught.value.response.headers["x-should-retry"]) == (
        "route_rate_limited",
        "false",
    )
    assert int(caught.value.response.headers["retry-after"]) > 3_500


def test_a_limit_of_one_model_leaves_the_others_alone(models: Models) -> None:
    user: User = models.user(limits=(on_model("gpt-test", 2), on_model("gpt-failover", 1)))
    assert [user.ask(max_tokens=9).status for _ in range(3)] == [200, 200, 429]
    assert [user.ask(model="gpt-failover", max_tokens=9).status for _ in range(2)] == [200, 429]
    assert user.ask(model="gpt-renamed", max_tokens=9).status == 200
