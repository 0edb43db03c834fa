"""The store of answers: encrypted, bound to its place, and never larger than it may be."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import redis
from django.conf import settings
from django.test import override_settings

from gateway.replays.place import Place
from gateway.replays.shelf import PREFIX, Kept, Shelf

T = TypeVar("T")
KEPT = Kept("f" * 64, "0190-event", 201, [(b"content-type", b"text/plain")], b"secret answer " * 20)


@pytest.fixture
def cache() -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(settings.CACHE_URL) as client:
        client.flushdb()
        yield client
        client.flushdb()


def place(org: int = 7, number: int = 1) -> Place:
    return Place.of(3, org, mode="live", route="route_1", key=b"%d" % number)


def at_shelf(work: Callable[[Shelf], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        shelf = Shelf()
        try:
            return await work(shelf)
        finally:
            await shelf.aclose()

    return asyncio.run(run())


def found(where: Place) -> Kept | None:
    return at_shelf(lambda shelf: shelf.find(where))


def keep(*places: Place, kept: Kept = KEPT, seconds: int = 60) -> list[bool]:
    async def work(shelf: Shelf) -> list[bool]:
        return [await shelf.keep(one, kept, seconds=seconds) for one in places]

    return at_shelf(work)


@pytest.mark.parametrize("body", [b"", b"one\ntwo\x00", b"large " * 20_000])
def test_an_answer_comes_back_as_it_was(cache: "redis.Redis", body: bytes) -> None:
    kept = Kept(KEPT.fingerprint, KEPT.event, 404, [(b"x-name", "caf\xe9".encode("latin-1"))], body)
    assert keep(place(), kept=kept) == [True]
    assert found(place()) == kept
    assert found(place(org=8)) is None
    assert 0 < cache.ttl(f"{PREFIX}a:{place().name}") <= 60


def test_nothing_of_it_can_be_read_in_the_cache(cache: "redis.Redis") -> None:
    keep(place())
    dump = b"".join(cache.dump(key) or b"" for key in cache.scan_iter())
    assert b"secret" not in dump
    assert b"text/plain" not in dump


def test_an_answer_moved_to_another_place_is_none(cache: "redis.Redis") -> None:
    keep(place())
    cache.rename(f"{PREFIX}a:{place().name}", f"{PREFIX}a:{place(org=8).name}")
    assert found(place(org=8)) is None
    cache.set(f"{PREFIX}a:{place().name}", b"not ours")
    assert found(place()) is None


def bytes_of(cache: "redis.Redis") -> dict[str, int]:
    counted: Any = cache.hgetall(f"{PREFIX}bytes")
    return {name.decode(): int(value) for name, value in counted.items()}


def test_each_organization_and_all_together_are_bounded(cache: "redis.Redis") -> None:
    keep(place())
    size = bytes_of(cache)["all"]
    cache.flushdb()
    # Encrypted texts of one length are compressed to not quite one length.
    with override_settings(REPLAY_ORGANIZATION_BYTES=3 * size + 200, REPLAY_TOTAL_BYTES=5 * size + 300):
        assert keep(*[place(7, n) for n in range(5)]) == [True] * 5
        assert [found(place(7, n)) is not None for n in range(5)] == [False, False, True, True, True]
        assert keep(*[place(8, n) for n in range(3)]) == [True] * 3
        counted = bytes_of(cache)
        assert counted["all"] == counted["7"] + counted["8"] <= 5 * size + 300
        assert counted["7"] < counted["8"] <= 3 * size + 200
        assert [found(place(7, n)) is not None for n in range(2, 5)] == [False, True, True]
    with override_settings(REPLAY_TOTAL_BYTES=size // 2):
        assert keep(place(9)) == [False]
        assert found(place(9)) is None


def test_the_accounts_forget_what_ended_or_was_evicted(cache: "redis.Redis") -> None:
    keep(place(7, 1), place(7, 2), seconds=1)
    cache.delete(f"{PREFIX}a:{place(7, 2).name}")  # as a server that is full does
    asyncio.run(asyncio.sleep(1.1))
    keep(place(8), seconds=60)
    assert set(bytes_of(cache)) == {"all", "8"}
    assert cache.zcard(f"{PREFIX}all") == 1
    assert not cache.exists(f"{PREFIX}o:7")


def test_every_key_ends_by_itself(cache: "redis.Redis") -> None:
    keep(place(), seconds=60)
    keep(place(number=2), seconds=10)
    assert {0 < cache.ttl(key) <= 60 for key in cache.scan_iter()} == {True}
    assert cache.ttl(f"{PREFIX}all") > 50


def test_a_store_that_is_away_is_no_answer_and_no_error() -> None:
    with override_settings(CACHE_URL="redis://127.0.0.1:9/2"):
        assert found(place()) is None
        assert keep(place()) == [False]
