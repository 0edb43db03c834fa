"""Marks of requests under way: one first, whoever asks, and an end that nobody has to wait for."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from core.redis import usage_redis
from core.redis_layout import mark_key
from gateway.replays import marks as module
from gateway.replays.marks import Claim, Mark, Marks
from gateway.replays.place import Place
from metering.engine import AsyncEngine

PLACE = Place.of(3, 7, mode="live", route="route_1", key=b"a")
KEY = mark_key(3, 7, PLACE.name)


def with_marks(work: Callable[[Marks], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        with usage_redis() as client:
            client.delete(KEY)
        engine = AsyncEngine()
        try:
            await work(Marks(engine))
        finally:
            await engine.aclose()

    asyncio.run(run())


def test_of_many_claims_one_is_first() -> None:
    async def work(marks: Marks) -> None:
        claims = await asyncio.gather(*[marks.claim(Mark.new(PLACE)) for _ in range(50)])
        assert sorted(claims, key=lambda claim: claim.value) == [Claim.FIRST] + [Claim.RUNNING] * 49

    with_marks(work)


@pytest.mark.parametrize("is_stored", [True, False])
def test_the_end_says_whether_there_is_an_answer(*, is_stored: bool) -> None:
    async def work(marks: Marks) -> None:
        first = Mark.new(PLACE)
        await marks.claim(first)
        await marks.end(first, is_stored=is_stored)
        assert not marks.holds(first)
        assert await marks.claim(Mark.new(PLACE)) is (Claim.STORED if is_stored else Claim.FIRST)

    with_marks(work)


def test_after_a_lost_answer_one_is_first_again() -> None:
    async def work(marks: Marks) -> None:
        first = Mark.new(PLACE)
        await marks.claim(first)
        await marks.end(first, is_stored=True)
        claims = await asyncio.gather(*[marks.claim_after(Mark.new(PLACE)) for _ in range(10)])
        assert claims.count(Claim.FIRST) == 1
        assert claims.count(Claim.RUNNING) == 9

    with_marks(work)


def test_only_its_own_word_ends_a_mark() -> None:
    async def work(marks: Marks) -> None:
        late, other = Mark.new(PLACE), Mark.new(PLACE)
        await marks.claim(late)
        with usage_redis() as client:
            client.delete(KEY)  # it expired
        assert await marks.claim(other) is Claim.FIRST
        await marks.end(late, is_stored=True)
        assert await marks.claim(Mark.new(PLACE)) is Claim.RUNNING

    with_marks(work)


def test_a_mark_lives_a_minute_and_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.05)

    async def work(marks: Marks) -> None:
        await marks.claim(Mark.new(PLACE))
        with usage_redis() as client:
            assert 59_000 < client.pttl(KEY) <= 60_000
            client.pexpire(KEY, 5_000)
            marks.start()
            await asyncio.sleep(0.3)
            assert client.pttl(KEY) > 59_000
        await marks.stop()

    with_marks(work)
