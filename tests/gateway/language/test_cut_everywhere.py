"""Streams of models that are cut at every chunk, by their client or by the upstream, and usage that is missing, zero or
told twice (STACK.md, R15): each is billed as its policy says, and no socket is left hanging.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.gateway.kit import wait_for
from tests.gateway.language.kit import Models, User, cost_of, document
from tests.gateway.language.test_cut_streams import AT_ONCE, WORDS, Seen, assert_as_policy_says, watch
from tests.gateway.language.upstream import CACHED, INPUT, REASONING

Record = Callable[[str, object], None]
PATHS = ("/chat/completions", "/completions", "/responses", "/messages")
WATCHED = ("/chat/completions", "/messages")
CUT_WORDS = 12
ESTABLISHED, CLOSE_WAIT = "01", "08"


@pytest.fixture
def user(models: Models) -> User:
    return models.user()


def sockets(models: Models) -> Counter[str]:
    """The gateway's TCP sockets by state, without those that it keeps open to its upstreams for the next call."""
    inodes = {
        os.readlink(fd).removeprefix("socket:[").removesuffix("]")
        for fd in Path(f"/proc/{models.gateway.pid}/fd").iterdir()
        if _is_socket(fd)
    }
    port = urlsplit(models.gateway.url).port
    found: Counter[str] = Counter()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, here, _, state, *_ = fields = line.split()
        if fields[9] in inodes:
            is_client = int(here.partition(":")[2], 16) == port
            if state == CLOSE_WAIT or (state == ESTABLISHED and is_client):
                found["hung"] += 1
    return found


def _is_socket(fd: Path) -> bool:
    try:
        return os.readlink(fd).startswith("socket:[")
    except FileNotFoundError:  # closed meanwhile
        return False


def assert_no_socket_hangs(models: Models, record: Record) -> None:
    wait_for(lambda: not sockets(models)["hung"], within=10)
    record("hung", sockets(models)["hung"])


@pytest.mark.parametrize("policy", ["v1", "delivered", "free"])
def test_client_that_leaves_after_each_chunk(
    models: Models, user: User, policy: str, record_property: Record
) -> None:
    async def leave() -> list[Seen]:
        gate = asyncio.Semaphore(AT_ONCE)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one(path: str, after: int) -> Seen:
                async with gate:
                    name = f"every-{policy}-{path[1:5]}-{after}"
                    return await watch(session, user, f"/{policy}{path}", name, after)

            return await asyncio.gather(*(one(path, k) for path in WATCHED for k in range(WORDS + 1)))

    streams = asyncio.run(leave())
    rows = {row["rid"]: row for row in user.rows(len(streams))}
    assert len(rows) == len(streams) == len(WATCHED) * (WORDS + 1)
    for stream in streams:
        assert_as_policy_says(policy, stream, rows[stream.request_id], models.pieces(stream.name))
    record_property("client_cuts", len(streams))
    user.assert_nothing_reserved()
    assert_no_socket_hangs(models, record_property)


@pytest.mark.parametrize("product", ["v1", "delivered", "free"])
@pytest.mark.parametrize("path", PATHS)
def test_upstream_that_breaks_off_after_each_chunk(
    models: Models, user: User, path: str, product: str, record_property: Record
) -> None:
    """The client's connection is cut too, so that nobody takes the half for the whole; nothing is billed."""

    async def cut() -> int:
        broken = 0
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one(after: int) -> int:
                headers = {
                    "Authorization": f"Bearer {user.issued.clear}",
                    "X-Act": f"words={CUT_WORDS},cut={after}",
                }
                body = document(path, {"stream": True})
                async with session.post(
                    f"{user.api.url}/{product}{path}", data=body, headers=headers
                ) as response:
                    assert response.status == 200
                    try:
                        await response.read()
                    except aiohttp.ClientPayloadError:
                        return 1
                    return 0

            broken = sum(await asyncio.gather(*(one(after) for after in range(CUT_WORDS))))
        return broken

    assert asyncio.run(cut()) == CUT_WORDS
    rows = user.rows(CUT_WORDS)
    told = Counter((row["qty"], row["reason"], row["props"]["outcome"]) for row in rows)
    assert told == {(Decimal(0), "upstream_error", "upstream_cut"): CUT_WORDS}
    record_property("upstream_cuts", CUT_WORDS)
    assert user.tokens() == 0
    user.assert_nothing_reserved()
    assert_no_socket_hangs(models, record_property)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", PATHS)
def test_usage_that_is_missing_zero_or_told_twice(
    models: Models, user: User, path: str, *, stream: bool, record_property: Record
) -> None:
    thought = {} if path == "/messages" else {"reasoning": REASONING}
    out = CUT_WORDS + REASONING - sum(thought.values())
    true = cost_of(input=INPUT - CACHED, cached_input=CACHED, output=out, **thought)
    for number, kind in enumerate(("zero", "twice", "none"), 1):
        assert user.ask(path, f"usage={kind},words={CUT_WORDS}", stream=stream).status == 200
        row = user.rows(number)[-1]
        assert row.get("reason", "") == ""
        assert row["props"].get("usage_estimated", False) is (kind == "none")
        if kind == "none":
            assert row["qty"] > 0
        else:
            assert row["qty"] == (true if kind == "twice" else 0), (kind, row)
        record_property(f"usage_{kind}", 1)
    user.assert_nothing_reserved()
