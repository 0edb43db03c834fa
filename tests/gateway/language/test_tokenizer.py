"""Counting tokens without asking anybody: against counts that are known, and how far four bytes a token are from them."""

import asyncio
import threading
import time
from typing import Any

import pytest

from gateway.language import tokenizer
from gateway.language.prompt import Prompt, prompt_of
from gateway.language.tokenizer import BYTES, CL100K, O200K, Estimate, encoding_of, estimate

ENGLISH = "The quick brown fox jumps over the lazy dog. " * 20
# Counts of OpenAI's own tokenizer (its cookbook, "How to count tokens with tiktoken"; the last ones by two other
# implementations that agree): text, cl100k_base, o200k_base.
KNOWN = [
    ("tiktoken is great!", 6, 6),
    ("antidisestablishmentarianism", 6, 6),
    ("2 + 2 = 4", 7, 7),
    ("お誕生日おめでとう", 9, 8),
    ("word " * 12, 13, 13),
    (ENGLISH, 201, 201),
    ("a" * 1_000, 125, 125),
]


def count(model: str, *texts: str) -> Estimate:
    return asyncio.run(estimate(model, texts))


@pytest.mark.parametrize(("text", "older", "newer"), KNOWN)
def test_counts_are_those_of_the_models_own_tokenizer(text: str, older: int, newer: int) -> None:
    assert count("gpt-4", text) == Estimate(older, CL100K)
    assert count("gpt-4o", text) == Estimate(newer, O200K)


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4", CL100K), ("gpt-4-turbo-2024-04-09", CL100K), ("gpt-3.5-turbo", CL100K), ("ft:gpt-3.5-turbo:acme", CL100K),
        ("text-embedding-3-small", CL100K), ("openai/gpt-4", CL100K), ("gpt-4o-mini", O200K), ("gpt-4.1", O200K),
        ("GPT-5", O200K), ("o3", O200K), ("claude-opus-4", O200K), ("llama3", O200K),
    ],
)  # fmt: skip
def test_vocabularies_by_name(model: str, encoding: str) -> None:
    assert encoding_of(model) == encoding


def test_special_words_and_halves_of_characters_are_text() -> None:
    assert count("gpt-4o", "<|endoftext|>").tokens > 1
    assert count("gpt-4o", "\ud83d halves").tokens > 0


def test_a_long_text_is_counted_in_pieces_and_the_rest_by_its_share() -> None:
    whole = count("gpt-4o", ENGLISH * 100).tokens
    assert abs(whole - 20_000) < 60  # a piece's end costs a token at most
    large = count("gpt-4o", ENGLISH * 4_000)  # 3.6 MB, of which one is counted
    assert abs(large.tokens - 800_000) < 4_000


def test_the_loop_is_not_held_up_by_a_long_text() -> None:
    count("gpt-4o", "loaded")

    async def work() -> float:
        longest, running = 0.0, asyncio.create_task(estimate("gpt-4o", [ENGLISH * 1_000]))
        while not running.done():
            begun = time.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - begun)
        assert (await running).tokens > 190_000
        return longest

    assert min(asyncio.run(work()) for _ in range(3)) < 0.02


def test_threads_load_a_vocabulary_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    class Bindings:
        def tokenizer_for_encoding(self, name: str) -> Any:
            made.append(name)
            time.sleep(0.05)
            return None

    monkeypatch.setattr(tokenizer, "_loaded", {})
    monkeypatch.setattr(tokenizer, "_bindings", Bindings)
    threads = [threading.Thread(target=tokenizer._counter, args=(O200K,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [O200K]


def test_without_the_package_four_bytes_are_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "_loaded", {})
    monkeypatch.setattr(tokenizer, "_bindings", lambda: None)
    assert count("gpt-4o", "Grüße", "!") == Estimate(2, BYTES)
    assert count("gpt-4o") == Estimate(0, BYTES)


def test_how_far_bytes_are_from_the_truth() -> None:
    """What the tokenizer is for: per cent by which four bytes a token miss, by kind of text."""
    texts = {
        "English": (ENGLISH, 12),
        "German": ("Die Straßenbahn fährt über die Brücke, während es heftig regnet. " * 10, 20),
        "Japanese": ("お誕生日おめでとう。今日はとても良い天気です。" * 10, 60),
        "JSON": ('{"id": 17, "name": "Acme", "tags": ["a", "b"], "price": 12.5}, ' * 10, 50),
    }
    for name, (text, most) in texts.items():
        true = count("gpt-4o", text).tokens
        by_bytes = -(-len(text.encode()) // 4)
        assert 100 * abs(by_bytes - true) / true < most, (name, true, by_bytes)


# --- what of a request is a prompt ---------------------------------------------------------------------------------

SAY = {"role": "user", "content": "Say it"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TOOL = {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize(
    ("body", "texts", "tokens"),
    [
        ({"messages": [SAY], "model": "gpt-4o", "user": "u"}, ["user", "Say it"], 6),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Look"}, PICTURE]}]}, ["user", "Look"], 6),
        ({"system": "Be short", "messages": [SAY], "max_tokens": 5}, ["Be short", "user", "Say it"], 6),
        ({"instructions": "Be short", "input": "Say"}, ["Be short", "Say"], 0),
        ({"input": [{"role": "user", "content": "Say"}]}, ["user", "Say"], 3),
        ({"input": ["one", "two"]}, ["one", "two"], 0),
        ({"input": [1, 2, 3]}, [], 3),
        ({"input": [[1, 2], [3]]}, [], 3),
        ({"prompt": "Say", "tools": [TOOL]}, ["Say", '[{"type":"function","function":{"name":"weather"}}]'], 0),
        ({"prompt": 5, "messages": None, "input": [True]}, [], 3),
    ],
)  # fmt: skip
def test_what_the_model_reads(body: dict[str, Any], texts: list[str], tokens: int) -> None:
    found = prompt_of(body)
    assert (sorted(found.texts), found.tokens) == (sorted(texts), tokens)
    assert isinstance(found, Prompt)


def test_the_cookbooks_chat_is_counted_as_the_api_counts_it() -> None:
    """OpenAI's example of a conversation: 129 tokens of gpt-3.5-turbo and gpt-4, 124 of gpt-4o, by the API's own usage."""
    system, example = {"role": "system"}, "example_"
    messages = [
        system | {"content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."},
        system | {"name": f"{example}user", "content": "New synergies will help drive top-line growth."},
        system | {"name": f"{example}assistant", "content": "Things working well together will increase revenue."},
        system | {"name": f"{example}user", "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."},
        system | {"name": f"{example}assistant", "content": "Let's talk later when we're less busy about how to do better."},
        {"role": "user", "content": "This late pivot means we don't have time to boil the ocean for the client deliverable."},
    ]  # fmt: skip
    prompt = prompt_of({"messages": messages})
    for model, true in (("gpt-4", 129), ("gpt-4o", 124)):
        found = count(model, *prompt.texts).tokens + prompt.tokens
        assert abs(found - true) <= 5, (model, found)
