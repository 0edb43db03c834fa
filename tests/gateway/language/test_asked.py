"""What is read off a request's body: limits, pictures, and what goes up to the upstream."""

import orjson
import pytest

from gateway.language.asked import DEEPEST, BadModelRequest, read_request
from plans.models import Dialect

CHAT = Dialect.CHAT_COMPLETIONS


def chat(**body: object) -> bytes:
    return orjson.dumps({"model": "gpt-test", "messages": []} | body)


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 5, "n": 3}, 15),
        ({"max_output_tokens": 0}, 0),
    ],
)
def test_the_longest_answer(body: dict[str, int], limit: int | None) -> None:
    assert read_request(CHAT, chat(**body)).output_limit == limit
    assert read_request(Dialect.EMBEDDINGS, chat(**body)).output_limit == 0


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{", b"null", b'{"model": ""}', b'{"model": 1}', b'{"model": "a", "stream": "yes"}',
        b'{"model": "a", "max_tokens": 1.5}', b'{"model": "a", "max_tokens": true}', b'{"model": "a", "max_tokens": -1}',
        b'{"model": "a", "max_tokens": 10000001}', b'{"model": "a", "n": 129}', b'{"model": "a", "service_tier": "priority"}',
        b'{"model": "a", "x": ' + b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1) + b"}",
        b'{"model": "a", "x": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(content: bytes) -> None:
    with pytest.raises(BadModelRequest):
        read_request(CHAT, content)


def test_a_body_that_is_deep_enough_goes_up() -> None:
    nested = b'{"model":"a","x":' + b"[" * DEEPEST + b"]" * DEEPEST + b"}"
    assert read_request(CHAT, nested).for_upstream("a") == nested


def test_pictures_and_sounds_count_as_such() -> None:
    data = "A" * 30_000
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
        {"type": "input_audio", "input_audio": {"format": "wav", "data": data}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    asked = read_request(CHAT, chat(messages=[{"role": "user", "content": parts}]))
    assert asked.images == 3
    assert 0 < asked.text_bytes < 1_000
    assert asked.input_bound(2) == 6_000 + -(-asked.text_bytes // 2)


def test_usage_of_streams_is_asked_for_where_it_is_not_told() -> None:
    def sent(dialect: str, **body: object) -> dict[str, object]:
        value: dict[str, object] = orjson.loads(read_request(dialect, chat(**body)).for_upstream("inner"))
        assert value.pop("model") == "inner"
        assert value.pop("messages") == []
        return value

    told = {"include_usage": True}
    assert sent(CHAT, stream=True) == {"stream": True, "stream_options": told}
    assert sent(CHAT, stream=True, stream_options={"a": 1}) == {
        "stream": True,
        "stream_options": {"a": 1} | told,
    }
    assert sent(CHAT) == {}
    assert sent(Dialect.MESSAGES, stream=True) == {"stream": True}
    assert sent(Dialect.RESPONSES, stream=True) == {"stream": True}
