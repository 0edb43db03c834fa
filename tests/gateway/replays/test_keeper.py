"""What is written down of an answer: nothing that is not whole, recorded, the upstream's and small enough."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from django.test import override_settings

from gateway.replays import keeper as module
from gateway.replays.keeper import Keeper, Room, replayable
from gateway.replays.place import Fingerprint
from gateway.replays.shelf import Kept

EVENT = UUID(int=7)


class Stage:
    """A client whose request is at hand, and what became of its answer."""

    def __init__(self, room: Room | None = None, *, body: bytes = b"{}") -> None:
        self.sent: list[dict[str, Any]] = []
        self.ended: list[Kept | None] = []
        self.body, self.room = body, room or Room()
        fingerprint = Fingerprint(method="POST", path="/a", query=b"", content_type=b"")
        self.keeper = Keeper(self.receive, self.send, fingerprint=fingerprint, room=self.room, end=self.end)

    async def receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message: dict[str, Any]) -> None:
        assert self.ended or message.get("more_body", True)  # the end leaves after it was written down
        self.sent.append(message)

    async def end(self, kept: Kept | None) -> None:
        self.ended.append(kept)

    async def answer(self, *pieces: bytes, status: int = 200, reads: bool = True, **settled: Any) -> None:
        if reads:
            await self.keeper.receive()
        headers = [
            (b"x-a", b"1"),
            (b"farebox-units", b"1"),
            (b"set-cookie", b"a=1"),
            (b"x-ratelimit-limit", b"9"),
        ]
        await self.keeper.send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in pieces[:-1]:
            await self.keeper.send({"type": "http.response.body", "body": piece, "more_body": True})
        facts: dict[str, Any] = {"reason": "", "is_recorded": True} | settled
        self.keeper.settled(EVENT, **facts)
        await self.keeper.send({"type": "http.response.body", "body": pieces[-1]})


def answered(*pieces: bytes, room: Room | None = None, **facts: Any) -> Stage:
    stage = Stage(room)
    asyncio.run(stage.answer(*pieces, **facts))
    return stage


def test_an_answer_is_written_down_as_it_was_sent() -> None:
    stage = answered(b"one,", b"two")
    (kept,) = stage.ended
    assert kept is not None
    assert (kept.status, kept.body, kept.event, kept.headers) == (
        200,
        b"one,two",
        str(EVENT),
        [(b"x-a", b"1")],
    )
    assert b"".join(message.get("body", b"") for message in stage.sent) == b"one,two"


@pytest.mark.parametrize("status", [200, 201, 302, 400, 404, 422])
def test_statuses_that_are_kept(status: int) -> None:
    reason = "client_error" if status >= 400 else ""
    assert answered(b"x", status=status, reason=reason).ended[0] is not None


@pytest.mark.parametrize(
    "facts",
    [
        {"status": 500}, {"status": 503}, {"status": 429, "reason": "client_error"}, {"status": 408}, {"status": 409},
        {"status": 425}, {"reason": "upstream_error"}, {"reason": "expired"}, {"is_recorded": False}, {"is_whole": False},
        {"reads": False},
    ],
)  # fmt: skip
def test_what_is_not_kept(facts: dict[str, Any]) -> None:
    stage = answered(b"x", **facts)
    assert stage.ended == [None]
    assert len(stage.sent) == 2


def test_what_was_not_answered_ends_without_an_answer() -> None:
    stage = Stage()

    async def work() -> None:
        await stage.keeper.receive()
        stage.keeper.settled(EVENT, reason="", is_recorded=True)
        stage.keeper.give_up()
        await stage.keeper.end()
        await stage.keeper.end()

    asyncio.run(work())
    assert stage.ended == [None]


@override_settings(REPLAY_ANSWER_BYTES=5)
def test_a_large_answer_passes_and_is_not_held() -> None:
    room = Room(100)
    assert answered(b"123", b"456", room=room).ended == [None]
    assert room.take(100)


def test_answers_on_their_way_are_bounded_together() -> None:
    room = Room(5)
    assert room.take(3)
    assert answered(b"123", b"4", room=room).ended == [None]
    room.give_back(3)
    assert answered(b"123", b"4", room=room).ended[0] is not None
    assert room.take(5)


def test_who_left_is_waited_for_no_longer_than_the_answer_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAIN_SECONDS", 0.02)
    closed: list[str] = []

    async def work(*, is_ended: bool) -> None:
        stage = Stage()
        leave = stage.keeper.when_left(lambda: closed.append("closed"))
        leave()
        if is_ended:
            await stage.keeper.end()
            leave()
        await asyncio.sleep(0.1)

    asyncio.run(work(is_ended=True))
    assert closed == []
    asyncio.run(work(is_ended=False))
    assert closed == ["closed"]


def test_headers_of_one_request_are_not_given_to_another() -> None:
    ours = [b"x-request-id", b"ratelimit-policy", b"anthropic-ratelimit-tokens-limit", b"idempotent-replayed"]
    assert replayable([(name, b"1") for name in [*ours, b"content-type"]]) == [(b"content-type", b"1")]
