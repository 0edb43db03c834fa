"""The engine that every door calls: admission, settling and their neighbours, over a sync or an asyncio client.

Two round trips a call: `admit`, then `settle`. Both engines raise `MeteringUnavailable` when Redis cannot be reached,
is out of memory or refuses a counter. Nothing was written then, unless the connection broke while a command was under
way: `settle`, `renew` and `track` may be repeated as they are; an admission that may have run is left to expire.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from core.errors import PortalError
from core.redis import usage_redis, usage_redis_async, usage_redis_thread
from core.redis_cluster import LoopClient
from core.redis_layout import expiries_key, organization_key
from core.redis_loop import Waiter
from metering.calls import (
    NO_QUOTA,
    Admission,
    AdmitAnswer,
    Admitted,
    Cut,
    Extended,
    NoState,
    QuotaState,
    Refused,
    Reservation,
    RestoreOutcome,
    Settled,
    Settlement,
    SettleOutcome,
    Stale,
    TrackedEvent,
    Verdict,
    Window,
    WindowState,
    WrongSpan,
    claim_digest,
)
from metering.script_calls import (
    Call,
    admit_args,
    admit_call,
    cut_call,
    extend_call,
    parse_admission,
    refusal_call,
    release_call,
    renew_call,
    restore_call,
    settle_call,
    sweep_call,
    track_call,
)
from metering.scripts import Script

__all__ = [
    "NO_QUOTA", "Admission", "AdmitAnswer", "Admitted", "AsyncEngine", "Call", "Cut", "Engine", "MeteringUnavailable",
    "NoState", "QuotaState", "Refused", "Reservation", "RestoreOutcome", "SettleOutcome", "Settled", "Settlement",
    "Stale", "TrackedEvent", "Verdict", "Window", "WindowState", "WrongSpan", "admit_args", "claim_digest",
    "parse_admission",
]  # fmt: skip

TRACK_AT_ONCE = 100  # events a script call: keeps Redis' stall for others under a millisecond
T = TypeVar("T")


class MeteringUnavailable(PortalError):
    code: ClassVar[str] = "metering_unavailable"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "Metering is unavailable; nothing was charged"


class Engine:
    """The sync engine: web, workers, commands. Safe to share by threads."""

    def __init__(self, client: "redis.Redis | None" = None) -> None:
        self._given = client

    @property
    def client(self) -> "redis.Redis":
        return self._given if self._given is not None else usage_redis()

    def run(self, call: Call[T]) -> T:
        """Run one script call. Raises MeteringUnavailable."""
        try:
            return call.parse(self._evaluate(call))
        except RedisError as error:
            raise MeteringUnavailable() from error

    def _evaluate(self, call: Call[Any]) -> Any:
        command = ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
        try:
            return self._ask(command)
        except NoScriptError:  # a restart forgot it; it did not run
            self._load(call.script.source)
            return self._ask(command)

    def _load(self, source: str) -> None:
        if self._given is None:
            usage_redis_thread().execute("SCRIPT", "LOAD", source)
        else:
            self._given.script_load(source)

    def _ask(self, command: tuple[Any, ...]) -> Any:
        """One command, never repeated: a repeated admission would count twice."""
        if self._given is None:
            return usage_redis_thread().execute(*command)
        pool = self._given.connection_pool  # the client's own methods would repeat
        connection = pool.get_connection()
        try:
            connection.send_command(*command)  # type: ignore[no-untyped-call]
            return connection.read_response()
        except ResponseError:
            raise
        except BaseException:  # what the server still answers must not be read as the next command's reply
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise
        finally:
            pool.release(connection)

    def admit(self, request: Admission) -> AdmitAnswer:
        """Decide one call and reserve its units."""
        return self.run(admit_call(request))

    def settle(self, settlement: Settlement) -> Settled:
        """Write an admitted call's event and true units; at most once, however often it is called."""
        return self.run(settle_call(settlement))

    def extend(self, more: Admission, reservation: Reservation, *, admitted_at_us: int) -> Extended:
        """Reserve more units for a call under way, before they are sent. Repeatable."""
        return self.run(extend_call(more, reservation, admitted_at_us=admitted_at_us))

    def track(self, shard: int, events: Sequence[TrackedEvent]) -> list[Verdict]:
        """Record usage of one shard that was reported afterwards; a verdict per event, in order. Repeatable."""
        return [verdict for part in _parts(events) for verdict in self.run(track_call(shard, part))]

    def record_refusal(
        self, shard: int, org_id: int, mode: str, key_id: int, reason: str, times: int = 1
    ) -> None:
        """Count refusals of an identified organization that `admit` did not see."""
        self.run(refusal_call(shard, org_id, mode, key_id, reason, times))

    def renew(self, reservations: Sequence[Reservation]) -> list[bool]:
        """Keep reservations alive for another 60 s; False where one is no longer open."""
        answers: dict[Reservation, bool] = {}
        for group in _by_shard(reservations):
            open_ones = self.run(renew_call(group))
            answers.update(zip(group, open_ones, strict=True))
        return [answers[reservation] for reservation in reservations]

    def release(self, reservation: Reservation) -> bool:
        """Give a reservation back without an event; False when it was not open."""
        return self.run(release_call(reservation))

    def sweep(self, shard: int) -> int:
        """Give back all expired reservations of a shard; how many."""
        holders = self._members(expiries_key(shard))
        return sum(self._sweep_organization(shard, int(org_id)) for org_id in holders)

    def _sweep_organization(self, shard: int, org_id: int, most: int = 100) -> int:
        returned = 0
        while (found := self.run(sweep_call(shard, org_id, most=most))) == most:
            returned += found
        return returned + found

    def _members(self, key: str) -> list[bytes]:
        try:
            return list(self.client.sscan_iter(key))
        except RedisError as error:
            raise MeteringUnavailable() from error

    def restore(
        self,
        shard: int,
        org_id: int,
        version: int,
        epoch: str,
        counters: Mapping[str, Mapping[int, int]],
        *,
        expires_ms: int,
    ) -> RestoreOutcome:
        """Put a lost organization's counters back (usage key -> meter id -> units) and open its door; `epoch` names
        the shard's new numbering where it lost its own. Counters that exist are left alone."""
        return self.run(restore_call(shard, org_id, version, epoch, counters, expires_ms=expires_ms))

    def cut(self, shard: int, usage_keys: Sequence[str]) -> Cut:
        """Counters and the last event's number, read at one moment."""
        return self.run(cut_call(shard, usage_keys))


class AsyncEngine:
    """The asyncio engine of the gateway; one per event loop."""

    def __init__(self, client: LoopClient | None = None) -> None:
        self._client = client or usage_redis_async()

    async def run(self, call: Call[T]) -> T:
        """Run one script call. Raises MeteringUnavailable."""
        arguments = (call.script.sha, len(call.keys), *call.keys, *call.args)
        try:
            try:
                reply = await self._client.execute("EVALSHA", *arguments)
            except NoScriptError:
                await self._client.execute("SCRIPT", "LOAD", call.script.source)
                reply = await self._client.execute("EVALSHA", *arguments)
        except RedisError as error:
            raise MeteringUnavailable() from error
        return call.parse(reply)

    async def ask(self, script: Script, packed: bytes) -> Any:
        """The reply to a packed call of this script (metering/prepared.py). Raises MeteringUnavailable."""
        try:
            try:
                return await self._client.send(packed)
            except NoScriptError:
                await self._client.execute("SCRIPT", "LOAD", script.source)
                return await self._client.send(packed)
        except RedisError as error:
            raise MeteringUnavailable() from error

    def post(self, packed: bytes, waiter: Waiter) -> None:
        """Send a packed call and tell its end to `waiter`, who may be told a RedisError at once."""
        self._client.post(packed, waiter)

    async def admit(self, request: Admission) -> AdmitAnswer:
        """See `Engine.admit`."""
        return await self.run(admit_call(request))

    async def settle(self, settlement: Settlement) -> Settled:
        """See `Engine.settle`."""
        return await self.run(settle_call(settlement))

    async def extend(self, more: Admission, reservation: Reservation, *, admitted_at_us: int) -> Extended:
        """See `Engine.extend`."""
        return await self.run(extend_call(more, reservation, admitted_at_us=admitted_at_us))

    async def track(self, shard: int, events: Sequence[TrackedEvent]) -> list[Verdict]:
        """See `Engine.track`."""
        return [verdict for part in _parts(events) for verdict in await self.run(track_call(shard, part))]

    async def record_refusal(
        self, shard: int, org_id: int, mode: str, key_id: int, reason: str, times: int = 1
    ) -> None:
        """See `Engine.record_refusal`."""
        await self.run(refusal_call(shard, org_id, mode, key_id, reason, times))

    async def renew(self, reservations: Sequence[Reservation]) -> list[bool]:
        """See `Engine.renew`."""
        answers: dict[Reservation, bool] = {}
        for group in _by_shard(reservations):
            open_ones = await self.run(renew_call(group))
            answers.update(zip(group, open_ones, strict=True))
        return [answers[reservation] for reservation in reservations]

    async def release(self, reservation: Reservation) -> bool:
        """See `Engine.release`."""
        return await self.run(release_call(reservation))

    async def version(self, shard: int, org_id: int) -> int | None:
        """The organization's version as doors are told it; None where Redis lost it. Raises MeteringUnavailable."""
        try:
            found = await self._client.execute("HGET", organization_key(shard, org_id), "v")
        except RedisError as error:
            raise MeteringUnavailable() from error
        return None if found is None else int(found)

    async def ping(self) -> None:
        """Ask whether Redis answers. Raises MeteringUnavailable."""
        try:
            await self._client.execute("PING")
        except RedisError as error:
            raise MeteringUnavailable() from error

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()


def _parts(events: Sequence[TrackedEvent]) -> Iterator[Sequence[TrackedEvent]]:
    for start in range(0, len(events), TRACK_AT_ONCE):
        yield events[start : start + TRACK_AT_ONCE]


def _by_shard(reservations: Sequence[Reservation]) -> list[list[Reservation]]:
    groups: dict[int, list[Reservation]] = {}
    for reservation in reservations:
        groups.setdefault(reservation.shard, []).append(reservation)
    return list(groups.values())
