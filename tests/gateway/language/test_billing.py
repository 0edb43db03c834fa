"""Calls to language models through the gateway as it is deployed: what the ledger says of each dialect, streamed and not."""

import http.client
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from tests.gateway.kit import wait_for
from tests.gateway.language.kit import LONGEST, Models, User, cost_of, frames, token_meter, usage_meter

STREAMED = ["/chat/completions", "/completions", "/responses", "/messages"]
TOKENS = {"input": 15, "cached_input": 10, "output": 12, "reasoning": 4}
OF_MESSAGES = {"input": 15, "cached_input": 10, "output": 16}  # Anthropic does not tell thinking from output


@pytest.fixture
def user(models: Models) -> User:
    models.requests()
    return models.user()


def assert_billed(user: User, tokens: dict[str, int], **more: Any) -> dict[str, Any]:
    """One call with these tokens and nothing else, counted in full and nothing held any more."""
    row = user.row()
    counted = {name: value for name, value in row["props"].items() if name.endswith("_tokens")}
    assert counted == {f"{kind}_tokens": count for kind, count in tokens.items()}
    assert {name: row["props"].get(name) for name in more} == more
    assert (row["qty"], row.get("reason", ""), row["status"]) == (cost_of(**tokens), "", 200)
    assert user.tokens() == sum(tokens.values())
    settled = sorted(value for name, value in user.counters().items() if not name.startswith("r"))
    assert settled == sorted(n for n in (int(row["qty"] * 10**9), sum(tokens.values())) if n)
    user.assert_nothing_reserved()
    assert [event["rid"] for event in user.events() if "status" in event] == [
        row["rid"]
    ]  # one call, whatever it counts on
    return row


@pytest.mark.parametrize("path", STREAMED)
@pytest.mark.parametrize("stream", [False, True])
def test_tokens_of_each_kind_are_billed_by_the_price_row(user: User, path: str, stream: bool) -> None:
    answer = user.ask(path, stream=stream)
    assert answer.status == 200
    row = assert_billed(user, OF_MESSAGES if path == "/messages" else TOKENS)
    assert row["props"]["price"] > 0
    assert "usage_estimated" not in row["props"]
    assert "outcome" not in row["props"]


@pytest.mark.parametrize(("path", "tokens"), [("/embeddings", {"input": 7}), ("/images/generations", TOKENS)])
def test_embeddings_and_images(user: User, path: str, tokens: dict[str, int]) -> None:
    assert user.ask(path).status == 200
    assert_billed(user, tokens, model="gpt-test")


def test_pictures_without_usage_are_not_taken_for_text(user: User) -> None:
    assert user.ask("/images/generations", "usage=none").status == 200
    assert_billed(
        user, {"input": 3}, usage_estimated=True, estimated_by="o200k_base"
    )  # Say, something, the dot


@pytest.mark.parametrize(
    ("asked", "told", "count", "cost"),
    [
        ({"quality": "standard", "size": "1024x1024"}, "", 1, "0.04"),
        ({"quality": "hd", "size": "1024x1792", "n": 3}, "", 3, "0.36"),
        ({"quality": "hd", "size": "1024x1792", "n": 3}, "drawn=2", 2, "0.24"),
        ({"quality": "auto", "size": "auto"}, "quality=hd,size=1024x1792", 1, "0.12"),
        ({"quality": "standard"}, "quality=hd,size=1024x1792", 1, "0.04"),
        ({}, "", 1, "0.5"),
        ({}, "drawn=9", 1, "0.5"),
    ],
)
def test_pictures_are_billed_by_quality_and_size(
    user: User, asked: dict[str, Any], told: str, count: int, cost: str
) -> None:
    act = ",".join(part for part in ("usage=zero", told) if part)
    answer = user.ask("/images/generations", act, model="painter", **asked)
    assert (answer.status, answer.headers["farebox-units"]) == (200, cost)
    row = user.row()
    assert (row["qty"], row["props"]["pictures"]) == (Decimal(cost), count)
    quality = asked.get("quality", "auto")
    assert row["props"].get("picture_quality") == (
        quality if quality != "auto" else "hd" if "hd" in told else None
    )
    user.assert_nothing_reserved()


@pytest.mark.parametrize("field", ["quality", "size"])
@pytest.mark.parametrize("said", ["h\0d", "x" * 41, ""])
def test_what_cannot_be_the_name_of_a_picture_gets_into_no_row(user: User, field: str, said: str) -> None:
    """The ledger could not store it, and what it cannot store is not billed."""
    answer = user.ask("/images/generations", "usage=zero", model="painter", **{field: said})
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_model_request")
    assert user.ask("/images/generations", f"usage=zero,{field}={'y' * 41}", model="painter").status == 200
    assert f"picture_{field}" not in user.row()["props"]


@pytest.mark.parametrize("path", STREAMED)
@pytest.mark.parametrize("stream", [False, True])
def test_without_usage_an_estimate_is_billed_and_says_so(user: User, path: str, stream: bool) -> None:
    body = user.ask(path, "usage=none", stream=stream)
    assert body.status == 200
    row = user.row()
    prompt = row["props"]["input_tokens"]
    assert prompt == (
        10 if path in ("/chat/completions", "/messages") else 3
    )  # a message has a role and marks
    assert_billed(
        user, {"input": prompt, "output": 13}, usage_estimated=True, estimated_by="o200k_base"
    )  # 12 words, a space


@pytest.mark.parametrize("path", STREAMED)
@pytest.mark.parametrize("stream", [False, True])
def test_usage_of_zero_bills_zero(user: User, path: str, stream: bool) -> None:
    assert user.ask(path, "usage=zero", stream=stream).status == 200
    row = assert_billed(user, {})
    assert "usage_estimated" not in row["props"]


@pytest.mark.parametrize("path", ["/chat/completions", "/messages"])
def test_usage_told_twice_is_billed_once(user: User, path: str) -> None:
    assert user.ask(path, "usage=twice", stream=True).status == 200
    assert_billed(user, OF_MESSAGES if path == "/messages" else TOKENS)


def test_usage_chunk_is_hidden_from_who_did_not_ask(user: User) -> None:
    hidden = user.ask(stream=True)
    shown = user.ask(stream=True, stream_options={"include_usage": True})
    assert b"usage" not in hidden.body
    assert frames(shown.body)[-2]["usage"]["completion_tokens"] == 16
    assert [frames(a.body)[-1] for a in (hidden, shown)] == ["[DONE]", "[DONE]"]
    assert len(frames(shown.body)) == len(frames(hidden.body)) + 1
    assert [row["qty"] for row in user.rows(2)] == [cost_of(**TOKENS)] * 2


def test_many_frames_pass_unchanged(models: Models, user: User) -> None:
    answer = user.ask("/messages", "words=3000", stream=True, max_tokens=4000)
    deltas = [f for f in frames(answer.body) if f["type"] == "content_block_delta"]
    assert (len(deltas), models.pieces("")) >= (3000, 3000)
    assert_billed(user, {"input": 15, "cached_input": 10, "output": 3004})


def test_owners_key_goes_up_and_the_callers_does_not(models: Models, user: User) -> None:
    answer = user.ask()
    user.ask("/messages")
    for request in models.requests():
        assert user.issued.clear not in str(request)
    assert b"upstream-key" not in answer.body
    assert "upstream-key" not in str(answer.headers)
    assert "openai-organization" not in answer.headers
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    assert "x-ratelimit-limit-requests" in answer.headers
    assert answer.headers["x-ratelimit-limit-requests"] != "99"


def test_an_upstream_that_refuses_the_owners_key_is_not_the_callers_business(user: User) -> None:
    answer = user.ask(model="gpt-wrong-key")
    assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_unavailable")
    assert b"upstr" not in answer.body.replace(b"upstream_unavailable", b"")
    row = user.row()
    assert (row["qty"], row["reason"]) == (0, "upstream_error")
    user.assert_nothing_reserved()


def test_servers_of_a_model_are_asked_in_order(models: Models, user: User) -> None:
    assert user.ask(model="gpt-failover").status == 200
    assert user.ask(model="gpt-renamed").status == 200
    assert [request["body"]["model"] for request in models.requests()] == ["gpt-failover", "inner-name"]
    first, second = user.rows(2)
    assert "upstream_model" not in first["props"]
    assert (second["props"]["model"], second["props"]["upstream_model"]) == ("gpt-renamed", "inner-name")


def test_upstream_reads_the_limits_that_were_reserved(models: Models, user: User) -> None:
    body = b'{"model":"gpt-unpriced","max_tokens":9,"messages":[],"max_tokens":5,"model":"gpt-test"}'
    assert user.ask(content=body).status == 200
    (request,) = models.requests()
    assert request["body"] == {"model": "gpt-test", "max_tokens": 5, "messages": []}


@pytest.mark.parametrize("path", ["/chat/completions", "/messages"])
@pytest.mark.parametrize("status", [400, 429, 500, 529])
def test_refusals_of_the_upstream_pass_and_are_free(user: User, path: str, status: int) -> None:
    answer = user.ask(path, f"status={status},retry_after=3", stream=True)
    assert (answer.status, answer.headers["retry-after"]) == (status, "3")
    assert answer.json["error"]["code"] == "of_the_upstream"
    row = user.row()
    assert (row["qty"], row["reason"]) == (0, "client_error" if status < 500 else "upstream_error")
    assert user.tokens() == 0
    user.assert_nothing_reserved()


def test_an_answer_that_nobody_can_read_is_free(user: User) -> None:
    assert user.ask(act="json=bad").body == b'{"id": "broken'
    assert (user.row()["qty"], user.row()["reason"]) == (0, "upstream_error")
    user.assert_nothing_reserved()


@pytest.mark.parametrize("path", STREAMED)
def test_a_stream_that_the_upstream_cuts_is_cut_and_free(user: User, path: str) -> None:
    with user.stream(path, "cut=5") as response, pytest.raises(http.client.IncompleteRead):
        response.read()
    row = user.row()
    assert (row["qty"], row["reason"], row["props"]["outcome"]) == (0, "upstream_error", "upstream_cut")
    assert user.tokens() == 0
    user.assert_nothing_reserved()


@pytest.mark.parametrize("path", STREAMED)
def test_an_error_in_mid_stream_is_passed_on_and_free(user: User, path: str) -> None:
    answer = user.ask(path, "fail=5", stream=True)
    assert answer.body.count(b"word ") == 5
    assert frames(answer.body)[-1]["error"]["message"] == "no"
    row = user.row()
    assert (row["qty"], row["reason"], row["props"]["outcome"]) == (0, "upstream_error", "upstream_failed")
    user.assert_nothing_reserved()


def test_slow_upstreams_are_left(user: User) -> None:
    answer = user.ask(act="head=4")
    assert (answer.status, answer.json["error"]["code"]) == (504, "upstream_timeout")
    assert user.row()["reason"] == "upstream_timeout"
    user.assert_nothing_reserved()


@pytest.mark.parametrize("path", ["/chat/completions", "/messages"])
def test_refusals_speak_the_dialect(user: User, path: str) -> None:
    cases: list[tuple[int, str, Any]] = [
        (404, "model_not_found", {"model": "gpt-unheard-of"}),
        (503, "model_without_price", {"model": "gpt-unpriced"}),
        (400, "invalid_model_request", {"model": 5}),
        (400, "invalid_model_request", {"max_tokens": "many"}),
        (400, "invalid_model_request", {"service_tier": "priority"}),
        (400, "invalid_model_request", {"n": 129}),
    ]
    for status, code, body in cases:
        answer = user.ask(path, **body)
        assert (answer.status, answer.json["error"]["code"]) == (status, code)
        assert answer.json.get("type") == ("error" if path == "/messages" else None)
    answer = user.ask(path, content=b'{"model": ')
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_model_request")
    answer = user.call(path, "POST", b"{}", key="fb_live_wrong", product="v1")
    assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_key")
    assert answer.json["error"]["type"] == "authentication_error"
    assert user.events() == []


def test_models_are_listed(models: Models, user: User) -> None:
    answer = user.call("/models", product="v1")
    names = [row["id"] for row in answer.json["data"]]
    assert {"gpt-test", "claude-test"} <= set(names)
    assert user.call("/models/gpt-test", product="v1").json["id"] == "gpt-test"
    assert user.call("/models/none", product="v1").json["error"]["code"] == "model_not_found"
    assert (models.requests(), user.events()) == ([], [])


@pytest.mark.parametrize(
    ("body", "output"),
    [
        ({"stream": False}, LONGEST),
        ({"stream": False, "n": 2}, 2 * LONGEST),
        ({"stream": False, "n": 2, "max_tokens": 30}, 60),
        ({"max_completion_tokens": 300}, 300),
        ({}, 1024),
    ],
)
def test_what_may_come_is_reserved(user: User, body: dict[str, Any], output: int) -> None:
    """The prompt and the longest answers; of a stream without a limit its first slice."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(lambda: user.ask(act="head=0.7", **({"stream": True} | body)))
        held = wait_for(lambda: {k: v for k, v in user.counters().items() if k.startswith("r")})
        assert answer.result().status == 200
    cost, tokens = held[f"r{usage_meter().pk}"], held[f"r{token_meter().pk}"]
    assert output < tokens < output + 120
    assert cost == int(cost_of(input=tokens - output, reasoning=output) * 10**9)
    assert_billed(user, TOKENS)
