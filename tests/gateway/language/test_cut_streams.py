"""Clients that leave in mid-stream: the ledger says of each stream what its route's policy says.

A few in every run; a thousand by `python -m tests.gateway.language.cut_streams 1000`.
"""

import asyncio
import os
import random
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from tests.gateway.language.kit import Models, User, cost_of, document
from tests.gateway.language.upstream import CACHED, INPUT, REASONING

STREAMS = int(os.environ.get("CUT_STREAMS", "60"))
WORDS, PAUSE, AT_ONCE = 30, 0.01, 50
PATHS = ("/chat/completions", "/messages")


@dataclass
class Seen:
    """One stream as its client saw it."""

    path: str
    name: str
    request_id: str
    pieces: int
    is_whole: bool


@pytest.mark.parametrize("policy", ["v1", "delivered", "free"])
def test_every_stream_is_billed_as_its_policy_says(models: Models, policy: str) -> None:
    user = models.user()
    streams = asyncio.run(cut_streams(user, policy, STREAMS))
    rows = {row["rid"]: row for row in user.rows(len(streams))}
    assert len(rows) == len(streams) == STREAMS

    outcomes: dict[str, int] = {}
    for stream in streams:
        row = rows[stream.request_id]
        assert_as_policy_says(policy, stream, row, models.pieces(stream.name))
        outcome = row["props"].get("outcome", "whole")
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    cost, tokens = sum(row["qty"] for row in rows.values()), sum(map(tokens_of, rows.values()))
    assert user.tokens() == tokens
    assert sum(v for k, v in user.counters().items() if not k.startswith("r")) == tokens + int(cost * 10**9)
    user.assert_nothing_reserved()
    assert len(outcomes) == 2, outcomes  # whole ones and those that were left
    print(f"\n{policy}: {outcomes}, {tokens} tokens, {cost} USD; reservations left: 0")  # noqa: T201 - the sums of a long run


def tokens_of(row: dict[str, Any]) -> int:
    return sum(count for name, count in row["props"].items() if name.endswith("_tokens"))


async def cut_streams(user: User, policy: str, count: int) -> list[Seen]:
    """Open them, some at a time, and leave each after a number of pieces that only chance knows."""
    gate, chance = asyncio.Semaphore(AT_ONCE), random.Random(1)
    plan = [(PATHS[n % 2], f"{policy}-{n}", chance.randrange(WORDS * 5 // 4)) for n in range(count)]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(path: str, name: str, pieces: int) -> Seen:
            async with gate:
                return await watch(session, user, f"/{policy}{path}", name, pieces)

        return await asyncio.gather(*(one(*facts) for facts in plan))


async def watch(
    session: aiohttp.ClientSession, user: User, address: str, name: str, leave_after: int
) -> Seen:
    """Read so many pieces, then be gone without a word."""
    path = "/" + address.split("/", 2)[2]
    headers = {
        "Authorization": f"Bearer {user.issued.clear}",
        "X-Act": f"words={WORDS},pause={PAUSE},id={name}",
    }
    body = document(path, {"stream": True, "max_tokens": 100})
    async with session.post(user.api.url + address, data=body, headers=headers) as response:
        assert response.status == 200
        read, is_whole = b"", False
        async for chunk in response.content.iter_any():
            read += chunk
            if read.count(b"word ") > leave_after:
                break
        else:
            is_whole = True
        response.close()
        return Seen(path, name, response.headers["X-Request-Id"], read.count(b"word "), is_whole)


def assert_as_policy_says(policy: str, stream: Seen, row: dict[str, Any], written: int) -> None:
    """Whole streams (also those whose client left when all had been sent) and drained ones at the upstream's count, others by
    what was delivered, or not at all."""
    counted = {n.removesuffix("_tokens"): c for n, c in row["props"].items() if n.endswith("_tokens")}
    outcome = row["props"].get("outcome")
    thought = {} if stream.path == "/messages" else {"reasoning": REASONING}
    true = {
        "input": INPUT - CACHED,
        "cached_input": CACHED,
        "output": WORDS + REASONING - sum(thought.values()),
    } | thought
    if outcome is None:
        assert (counted, written) == (true, WORDS)
    else:
        assert not stream.is_whole
        assert (
            outcome
            == {
                "v1": "client_gone_drained",
                "delivered": "client_gone_delivered",
                "free": "client_gone_free",
            }[policy]
        )
    if outcome is not None and policy == "v1":
        assert (counted, written) == (true, WORDS)
    if outcome is not None and policy == "delivered":
        assert (
            stream.pieces <= counted.get("output", 0) <= written + 2
        )  # words, and the space after the last one
        assert row["props"]["usage_estimated"] is True
        if stream.path == "/messages":
            assert (counted["input"], counted["cached_input"]) == (INPUT - CACHED, CACHED)
    if outcome is not None and policy == "free":
        assert (row["qty"], row["reason"], counted) == (0, "client_gone", {})
    else:
        assert (row["qty"], row.get("reason", "")) == (cost_of(**counted), "")
