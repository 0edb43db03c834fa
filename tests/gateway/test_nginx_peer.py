"""The nginx that `make bench` compares with does the gateway's work: the same answer, the same event, nothing left reserved."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import orjson
import pytest

from benchmarks.kit import sell, sign_up
from benchmarks.peer.nginx import PACKAGES, find_nginx, serving_peer, serving_static
from core.clock import now
from core.ids import event_time_ms
from core.redis import usage_redis
from core.redis_layout import SHARDS, reservations_key, stream_key
from keys.hashing import digest
from keys.records import load_record
from metering.events import Event
from tests.examples.processes import Answer, Api
from tests.gateway.kit import Shop, wait_for

OF_A_CALL = ("id", "at", "dur", "rid")
OF_A_HOP = {"server", "date", "connection"}


@pytest.fixture(scope="module")
def peer(shop: Shop) -> Iterator[tuple[Api, str]]:
    """nginx before nginx, and a customer's key."""
    program = find_nginx()
    if program is None:
        pytest.skip(f"NOT RUN: nginx with Lua, because it is missing: `apt-get install {PACKAGES}`")
    with ExitStack() as stack:
        upstream, _ = stack.enter_context(serving_static(program))
        sell("peer", upstream)
        key = sign_up("peer")
        url, _ = stack.enter_context(
            serving_peer(program, upstream_url=upstream, key=key, slug="peer", at=now())
        )
        wait_for(lambda: call(shop.gateway.api, "/peer/answer", key).status == 200)
        wait_for(lambda: open_reservations(key) == 0)
        yield Api(url), key


def call(api: Api, path: str, key: str) -> Answer:
    return api.get(path, headers={"Authorization": f"Bearer {key}"})


def open_reservations(key: str) -> int:
    """Of the organization of this key."""
    record = load_record(digest(key), at=now())
    assert record is not None
    found: Any = usage_redis().zcard(reservations_key(record.shard, record.organization_id))
    return int(found)


def last_event() -> dict[str, Any]:
    """The newest of all shards, of one call at a time."""
    entries: list[Any] = [
        entry
        for shard in range(SHARDS)
        for entry in usage_redis().xrevrange(stream_key(shard), count=1) or ()
    ]
    newest = max(entries, key=lambda entry: tuple(map(int, entry[0].split(b"-"))))
    event: dict[str, Any] = orjson.loads(newest[1][b"e"])
    return event


@pytest.mark.parametrize("path", ["/bench/answer", "/late/answer"])
def test_it_does_what_the_gateway_does(shop: Shop, peer: tuple[Api, str], path: str) -> None:
    api, key = peer
    ours, our_event = call(shop.gateway.api, "/peer/answer", key), last_event()
    theirs = call(api, path, key)
    wait_for(lambda: last_event()["rid"] == theirs.headers["x-request-id"])
    event = last_event()

    assert (theirs.status, theirs.body) == (ours.status, ours.body) == (200, ours.body)
    assert set(theirs.headers) - OF_A_HOP == set(ours.headers) - OF_A_HOP
    assert {k: v for k, v in event.items() if k not in OF_A_CALL} == {
        k: v for k, v in our_event.items() if k not in OF_A_CALL
    }
    parsed = Event.from_json(orjson.dumps(event))
    assert (parsed.id.version, event_time_ms(parsed.id)) == (7, parsed.occurred_at_us // 1000)
    assert open_reservations(key) == 0


def test_it_refuses_an_unknown_key(peer: tuple[Api, str]) -> None:
    api, key = peer
    before = last_event()
    assert call(api, "/bench/answer", key[:-1]).status == 401
    assert call(api, "/late/answer", "").status == 401
    assert last_event() == before
