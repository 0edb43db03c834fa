"""Limits of tokens and money for calls to language models: at the door, and in the middle of a stream."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from core.clock import now
from plans.caps import set_cap
from plans.daily_tokens import set_daily_tokens
from plans.models import CapSide
from tests.gateway.kit import wait_for
from tests.gateway.language.kit import Models, User, cost_of, frames, token_meter, usage_meter

PROMPT = 70  # reserved for the small bodies of these tests, at most
LONG = 3_000  # words, more than two slices


def limit_day(user: User, tokens: int) -> None:
    set_daily_tokens(organization=user.organization, tokens=tokens, reason="agreed", by=None, at=now())


def limit_spend(user: User, amount_minor: int) -> None:
    set_cap(
        organization=user.organization, side=CapSide.CUSTOMER, amount_minor=amount_minor, spent_minor=0, by=None, at=now()
    )  # fmt: skip


def assert_model_refused(answer: Any, code: str, status: int = 429) -> None:
    assert (answer.status, answer.json["error"]["code"]) == (status, code)
    assert answer.headers["x-should-retry"] == "false"


def test_a_quota_of_tokens_is_held_by_what_may_come(models: Models) -> None:
    user = models.user(quota=600)
    assert user.ask(max_tokens=300).status == 200  # 41 of them were used
    assert_model_refused(user.ask(max_tokens=600), "quota_exceeded")
    assert user.ask(max_tokens=300).status == 200
    assert user.tokens() == 82
    user.assert_nothing_reserved()


def test_a_cap_of_money_is_held_by_what_may_come(models: Models) -> None:
    user = models.user()
    limit_spend(user, 1)  # a thousand tokens of an answer may cost that
    models.requests()
    assert_model_refused(user.ask(max_tokens=1001), "spend_cap_reached")
    assert models.requests() == []
    assert user.ask(max_tokens=900).status == 200
    assert user.row()["qty"] == cost_of(input=15, cached_input=10, output=12, reasoning=4)
    user.assert_nothing_reserved()


def test_tokens_of_a_day_are_one_pot_of_all_models(models: Models) -> None:
    user = models.user()
    limit_day(user, 500)
    assert user.ask(max_tokens=300).status == 200
    assert user.ask("/messages", max_tokens=300).status == 200
    assert_model_refused(user.ask("/messages", max_tokens=400), "daily_token_limit_reached")
    limit_day(user, 1000)
    assert user.ask("/messages", max_tokens=400).status == 200
    user.assert_nothing_reserved()


@pytest.mark.parametrize("path", ["/chat/completions", "/messages"])
def test_tokens_of_a_minute_count_what_may_come_until_it_is_known(models: Models, path: str) -> None:
    user = models.user(per_minute=1_000)
    prefix = "anthropic-ratelimit-tokens-" if path == "/messages" else "x-ratelimit-"
    first = user.ask(path, max_tokens=600)
    assert first.status == 200
    assert first.headers[prefix + ("limit" if path == "/messages" else "limit-tokens")] == "1000"
    left = int(first.headers[prefix + ("remaining" if path == "/messages" else "remaining-tokens")])
    assert 1_000 - 600 - 120 < left < 400
    assert user.ask(path, max_tokens=600).status == 200  # 41 were used, the rest was given back
    refused = user.ask(path, max_tokens=900)
    assert (refused.status, refused.json["error"]["code"]) == (429, "token_rate_limited")
    assert int(refused.headers["retry-after"]) > 0
    assert "x-should-retry" not in refused.headers
    assert_model_refused(user.ask(path, max_tokens=1_001), "request_larger_than_limit")
    user.assert_nothing_reserved()


def test_a_slice_above_the_tokens_of_a_minute_ends_the_stream(models: Models) -> None:
    user = models.user(per_minute=2_000)
    answer = user.ask(act=f"words={LONG}", stream=True)
    assert frames(answer.body)[-1]["error"]["code"] == "token_rate_limited"
    assert 800 < answer.body.count(b"word ") < 1_024
    user.assert_nothing_reserved()


def test_what_never_fits_is_refused_at_once(models: Models) -> None:
    user = models.user()
    limit_day(user, 500)
    answer = user.ask(max_tokens=501)
    assert_model_refused(answer, "request_larger_than_limit")
    assert user.events() == []


@pytest.mark.parametrize("path", ["/chat/completions", "/messages", "/responses", "/completions"])
def test_an_answer_without_a_limit_is_reserved_slice_by_slice(models: Models, path: str) -> None:
    user = models.user()
    body: dict[str, Any] = {"max_tokens": None} if path == "/messages" else {}
    answer = user.ask(path, f"words={LONG}", stream=True, **body)
    assert answer.status == 200
    assert user.row()["props"]["output_tokens"] + user.row()["props"].get("reasoning_tokens", 0) == LONG + 4
    assert user.tokens() == 25 + LONG + 4
    user.assert_nothing_reserved()


@pytest.mark.parametrize("path", ["/chat/completions", "/messages", "/responses", "/completions"])
@pytest.mark.parametrize("limit", ["quota", "day", "cap"])
def test_the_slice_that_does_not_fit_ends_the_stream(models: Models, path: str, limit: str) -> None:
    user = models.user(quota=2_000 if limit == "quota" else None)
    if limit == "day":
        limit_day(user, 2_000)
    if limit == "cap":
        limit_spend(user, 2)  # 2,000 tokens at the dearest price
    body: dict[str, Any] = {"max_tokens": None} if path == "/messages" else {}
    answer = user.ask(path, f"words={LONG}", stream=True, **body)
    assert answer.status == 200
    last = frames(answer.body)[-1]
    codes = {"quota": "quota_exceeded", "day": "daily_token_limit_reached", "cap": "spend_cap_reached"}
    assert last["error"]["code"] == codes[limit]
    delivered = answer.body.count(b"word ")
    row = user.row()
    assert 800 < delivered < 1_024
    assert (row.get("reason", ""), row["props"]["outcome"]) == ("", "limit_reached")
    assert row["props"]["usage_estimated"] is True
    assert row["props"]["output_tokens"] == delivered + 1  # words, and the space after the last one
    assert 0 < row["qty"] <= Decimal("0.02")
    user.assert_nothing_reserved()


@pytest.mark.parametrize("limit", ["quota", "day", "cap"])
def test_of_many_at_once_exactly_as_many_pass_as_fit(models: Models, limit: str) -> None:
    """60 calls at once, and room for as many as what each of them reserves allows."""
    held = reserved_by_one_call(models.user())
    tokens, cost = held[f"r{token_meter().pk}"], held[f"r{usage_meter().pk}"]
    user, fits = models.user(quota=20 * tokens + 10 if limit == "quota" else None), 20
    if limit == "day":
        limit_day(user, 20 * tokens + 10)
    if limit == "cap":
        limit_spend(user, 10)
        fits = 10**8 // cost
    with ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(lambda _: user.ask(act="head=1.5", max_tokens=500).status, range(60)))
    assert (answers.count(200), answers.count(429)) == (fits, 60 - fits)
    assert user.tokens() == 41 * fits
    user.assert_nothing_reserved()


def reserved_by_one_call(user: User) -> dict[str, int]:
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(lambda: user.ask(act="head=0.7", max_tokens=500))
        held = wait_for(lambda: {k: v for k, v in user.counters().items() if k.startswith("r") and v})
        assert asking.result().status == 200
    return dict(held)
