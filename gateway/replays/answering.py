"""Requests with an `Idempotency-Key`: the first is carried out, its retries get its answer.

Every one of them is admitted and so counts for the rate limit; a replay is admitted with no units and becomes a row of
quantity 0, reason `replayed`, which names the call that was billed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from gateway.call import Call, CallRefused, Passed, Sizing, admit
from gateway.caller import Callers
from gateway.headers import encoded, find_header
from gateway.language.answers import sdk_headers
from gateway.problems import BODY_TOO_LARGE
from gateway.proxy import has_request_body
from gateway.recorder import Recorder
from gateway.replays.keeper import Keeper, Room
from gateway.replays.marks import Claim, Mark, Marks
from gateway.replays.place import BAD_KEY, HEADER, METHODS, REUSED, RUNNING, Fingerprint, Place, sent_key
from gateway.replays.shelf import Kept, Shelf
from keys.records import KeyRecord
from metering.admission import Outcome, call_event
from metering.answers import METERING_UNAVAILABLE, Refusal
from metering.calls import ANY_NUMBER, NO_QUOTA, Admission, Settlement
from metering.scoped import Weights, weighted

REPLAYED = "replayed"
PIECE = 64 * 1024
CarryOut = Callable[[Call], Awaitable[Refusal | None]]


def wants_one_answer(call: Call) -> bool:
    """Whether the request asks to be carried out once, on a route that stores answers."""
    return (
        bool(call.route.replay_s)
        and call.method in METHODS
        and find_header(call.scope["headers"], HEADER) is not None
    )


class Replays:
    """One per worker."""

    def __init__(self, callers: Callers, recorder: Recorder) -> None:
        self._callers, self._recorder = callers, recorder
        self._marks, self._shelf = Marks(recorder.engine), Shelf()
        self._room = Room()
        self._ending: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._marks.start()

    async def stop(self) -> None:
        """Let the last ones write their answers down, then close."""
        while self._ending:
            await asyncio.wait(self._ending)
        await self._marks.stop()
        await self._shelf.aclose()

    async def answer(self, call: Call, carry_out: CarryOut) -> Refusal | None:
        """Carry the call out, give its answer again, or say why not. Raises MeteringUnavailable."""
        key = sent_key(call.scope["headers"])
        if not key:
            return self._refused(call, BAD_KEY)
        record = call.record
        place = Place.of(
            record.shard, record.organization_id, mode=record.mode, route=call.route.public_id, key=key
        )
        mark = Mark.new(place)
        claim, kept = await self._look(mark)
        if kept is not None:
            if claim is Claim.FIRST:
                self._end(mark, is_stored=True)
            return await self._again(call, kept)
        if claim is not Claim.FIRST:
            return await self._only_counted(call, RUNNING)
        return await self._first(call, mark, carry_out)

    async def _look(self, mark: Mark) -> tuple[Claim, Kept | None]:
        """Claim and look for an answer in one wait. An answer is stored before its mark says so, and the mark says so for
        longer than this takes: so who finds neither is the first."""
        claim, kept = await asyncio.gather(self._marks.claim(mark), self._shelf.find(mark.place))
        if kept is None and claim is Claim.STORED:
            kept = await self._shelf.find(mark.place)
            if kept is None:
                claim = await self._marks.claim_after(mark)
        return claim, kept

    # --- the first -----------------------------------------------------------------------------------------------

    async def _first(self, call: Call, mark: Mark, carry_out: CarryOut) -> Refusal | None:
        seconds = call.route.replay_s

        async def end(kept: Kept | None) -> None:
            is_stored = kept is not None and await self._shelf.keep(mark.place, kept, seconds=seconds)
            ending = self._end(mark, is_stored=is_stored)
            if not is_stored:  # who tries again at once must not find it running
                await asyncio.shield(ending)

        keeper = Keeper(call.receive, call.send, fingerprint=_fingerprint(call), room=self._room, end=end)
        call.keeper, call.receive, call.send = keeper, keeper.receive, keeper.send
        # The upstream gets a name of our own: two organizations may choose the same, and it knows only one caller.
        headers = [(n, v) for n, v in call.scope["headers"] if n != HEADER]
        call.scope["headers"] = [*headers, (HEADER, mark.place.name.encode())]
        try:
            return await carry_out(call)
        finally:
            await asyncio.shield(self._keep(self._finish(keeper, mark)))

    async def _finish(self, keeper: Keeper, mark: Mark) -> None:
        """Whatever happened to the answer, its key is free again."""
        keeper.give_up()
        await keeper.end()
        if self._marks.holds(mark):
            await self._marks.end(mark, is_stored=False)

    def _end(self, mark: Mark, *, is_stored: bool) -> "asyncio.Task[None]":
        return self._keep(self._marks.end(mark, is_stored=is_stored))

    def _keep(self, work: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    # --- the others ----------------------------------------------------------------------------------------------

    async def _again(self, call: Call, kept: Kept) -> Refusal | None:
        """The stored answer, where this is the same request."""
        fingerprint = _fingerprint(call)
        while not fingerprint.is_whole:
            message = await call.receive()
            if message["type"] == "http.disconnect":
                return None
            fingerprint.feed(message.get("body", b""), is_last=not message.get("more_body", False))
            if fingerprint.size > call.route.body_limit:
                return self._refused(call, BODY_TOO_LARGE)
        if fingerprint.hex() != kept.fingerprint:
            return await self._only_counted(call, REUSED)
        try:
            passed = await admit(call, self._callers, self._recorder, _free(call.route.target.route_id))
        except CallRefused as error:
            return self._refused(call, error.refusal)
        outcome = Outcome(kept.status, REPLAYED, call.duration_us(), fingerprint.size, len(kept.body))
        event = _event(call, passed, outcome, kept)
        if not await self._recorder.settle(
            Settlement.of(passed.request, units=0, event=event, at_us=passed.answer.occurred_at_us),
            lambda: event,
        ):
            return METERING_UNAVAILABLE
        await _give(call, kept, passed)
        return None

    async def _only_counted(self, call: Call, refusal: Refusal) -> Refusal:
        """A refusal that counts for the rate limit like every use of a key."""
        try:
            passed = await admit(call, self._callers, self._recorder, _free(call.route.target.route_id))
        except CallRefused as error:
            return self._refused(call, error.refusal)
        await self._recorder.engine.release(passed.request.reservation)
        return self._refused(call, refusal)

    def _refused(self, call: Call, refusal: Refusal) -> Refusal:
        record = call.record
        if refusal.counted:
            self._recorder.refuse(
                record.shard, record.organization_id, record.mode, record.key_id, refusal.code
            )
        return refusal


def _free(route_id: int) -> Sizing:
    """The admission of what needs no upstream: it counts as a call, of its route as well, and holds neither units nor a place
    among the calls at the same time. Nothing is asked of quota and cap: more may be used by now than they allow."""

    def size(record: KeyRecord, request: Admission) -> Admission:
        calls = weighted(record.limits, Weights(), route_id=route_id) if record.limits is not None else ()
        return replace(
            request, units=0, quota=NO_QUOTA, spend=None, concurrency=ANY_NUMBER, daily=(), weighted=calls
        )

    return size


def _fingerprint(call: Call) -> Fingerprint:
    headers = call.scope["headers"]
    fingerprint = Fingerprint(
        method=call.method,
        path=f"/{call.route.product_slug}{call.path}",
        query=call.scope["query_string"],
        content_type=find_header(headers, b"content-type") or b"",
    )
    if not has_request_body(headers):
        fingerprint.feed(b"", is_last=True)
    return fingerprint


def _event(call: Call, passed: Passed, outcome: Outcome, kept: Kept) -> bytes:
    event = call_event(
        call.record, passed.request, call.route.target, outcome,
        admitted=passed.answer, door="gateway", request_id=call.request_id,
    )  # fmt: skip
    return replace(event, properties={"replay_of": kept.event}).to_json()


async def _give(call: Call, kept: Kept, passed: Passed) -> None:
    """The answer as it was, with what is true of this request."""
    ours = [*passed.headers, ("X-Request-Id", call.request_id), ("Farebox-Units", "0"), ("Idempotent-Replayed", "true")]  # fmt: skip
    if call.route.language is not None:
        at_us = passed.answer.occurred_at_us
        ours += sdk_headers(call.route.language.dialect, passed.answer.windows, at_us)
        ours.append(("request-id", call.request_id))
    headers = [*kept.headers, *encoded(ours)]
    await call.send({"type": "http.response.start", "status": kept.status, "headers": headers})
    for start in range(0, len(kept.body), PIECE):
        piece = kept.body[start : start + PIECE]
        await call.send({"type": "http.response.body", "body": piece, "more_body": True})
    await call.send({"type": "http.response.body", "body": b""})
