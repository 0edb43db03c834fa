"""The load of `make soak`: calls of every kind at a steady rate, and a note of what was promised.

Plain calls, streams, streams that their clients leave, questions about keys with and without a charge, refused calls, and keys
that are issued and revoked meanwhile. A call is acknowledged when its client has the complete answer of a billed call.
"""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson

from benchmarks.model_streams import Client, StreamFailed, request

KINDS = {
    "plain": 60,
    "stream": 10,
    "cut": 8,
    "verify": 8,
    "charge": 4,
    "limited": 4,
    "unknown": 4,
    "missing": 2,
}
KEPT_SECONDS = 3.0  # a server closes idle connections after 5
LONGEST = 30.0  # seconds of a call
AT_ONCE = 400
PIECES, PAUSE = 5, 0.1  # of a stream
REVOKED_WITHIN = 1.0


@dataclass
class Sold:
    """What the load may call: keys of customers without a limit in their way, and of one whose limit is always reached."""

    owner_key: str
    keys: list[str]
    model_key: str
    limited_key: str
    issue: Callable[[], tuple[str, Callable[[], None]]]  # a new key, and how to revoke it


@dataclass
class Promises:
    """What clients saw."""

    acknowledged: list[str] = field(default_factory=list)  # request ids
    calls: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    behind: int = 0  # calls that were not made because too many were open


@dataclass(frozen=True)
class Answer:
    status: int
    head: str
    body: bytes

    @property
    def request_id(self) -> str:
        return next(
            line.partition(":")[2].strip()
            for line in self.head.split("\r\n")
            if line.lower().startswith("x-request-id:")
        )


class MixedLoad:
    """Runs until `stop` in the event loop of whoever awaits `run`."""

    def __init__(self, url: str, sold: Sold, *, rate: float, change_keys_every: float) -> None:
        self.url, self.sold, self.rate, self.every = url, sold, rate, change_keys_every
        self.promises = Promises()
        self._address = urlsplit(url)
        self._idle: deque[tuple[float, Client]] = deque()
        self._stopping = asyncio.Event()
        self._chance = random.Random(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = ThreadPoolExecutor(1)
        self._charges = 0
        self._begun = time.monotonic()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Make calls, then wait for those that are open."""
        keys = asyncio.create_task(self._change_keys())
        kinds, begun, made = (
            [kind for kind, share in KINDS.items() for _ in range(share)],
            time.monotonic(),
            0,
        )
        while not self._stopping.is_set():
            while begun + made / self.rate <= time.monotonic():
                made += 1
                self._start(self._chance.choice(kinds))
            await asyncio.sleep(max(0.0, begun + made / self.rate - time.monotonic()))
        await asyncio.gather(*self._tasks)
        await keys
        while self._idle:
            self._idle.pop()[1].cut()
        await asyncio.get_running_loop().run_in_executor(self._thread, _close_database)
        self._thread.shutdown()

    def _start(self, kind: str) -> None:
        if len(self._tasks) >= AT_ONCE:
            self.promises.behind += 1
            return
        task = asyncio.create_task(self._carry_out(kind, getattr(self, f"_{kind}")))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, kind: str, call: Callable[[], Awaitable[None]]) -> None:
        self.promises.calls[kind] += 1
        try:
            async with asyncio.timeout(LONGEST):
                await call()
        except (OSError, StreamFailed, TimeoutError, asyncio.IncompleteReadError) as error:
            self._note(kind, repr(error))

    # --- kinds of calls -------------------------------------------------------------------------------------------

    async def _plain(self) -> None:
        self._acknowledge("plain", await self._send("GET", "/soak/answer", self._key()))

    async def _stream(self) -> None:
        client = await Client.connect(self.url)
        await client.ask(request(self.url, self.sold.model_key, pieces=PIECES, pause=PAUSE))
        await client.finish()
        client.cut()
        head = client.read.partition(b"\r\n\r\n")[0].decode()
        self.promises.acknowledged.append(Answer(200, head, b"").request_id)

    async def _cut(self) -> None:
        client = await Client.connect(self.url)
        await client.ask(request(self.url, self.sold.model_key, pieces=PIECES, pause=PAUSE))
        await asyncio.sleep(self._chance.random() * PIECES * PAUSE)
        client.cut()

    async def _verify(self) -> None:
        self._expect("verify", await self._ask_about({"key": self._key()}), 200)

    async def _charge(self) -> None:
        self._charges += 1
        answer = await self._ask_about({"key": self._key(), "charge": f"soak-{self._charges}"})
        if not orjson.loads(answer.body).get("allowed"):
            self._note("charge", answer.body.decode())
            return
        self._acknowledge("charge", answer)

    async def _limited(self) -> None:
        answer = await self._send("GET", "/soak/answer", self.sold.limited_key)
        if answer.status == 200:  # one a minute
            self._acknowledge("limited", answer)
        else:
            self._expect("limited", answer, 429)

    async def _unknown(self) -> None:
        self._expect("unknown", await self._send("GET", "/soak/answer", "fb_live_nonsense"), 401)

    async def _missing(self) -> None:
        self._expect("missing", await self._send("GET", "/soak/nowhere/at/all", self._key()), 404)

    # --- keys that change -----------------------------------------------------------------------------------------

    async def _change_keys(self) -> None:
        """Issue a key, call with it, revoke it: a second later no worker lets it in."""
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            try:
                key, revoke = await loop.run_in_executor(self._thread, self.sold.issue)
                self._acknowledge("new_key", await self._send("GET", "/soak/answer", key))
                await loop.run_in_executor(self._thread, revoke)
                await asyncio.sleep(REVOKED_WITHIN)
                for _ in range(4):  # some of them by each worker
                    self._expect(
                        "revoked_key", await self._send("GET", "/soak/answer", key, is_new=True), 401
                    )
            except (OSError, asyncio.IncompleteReadError) as error:
                self._note("keys", repr(error))
            self.promises.calls["key_change"] += 1
            await asyncio.wait([asyncio.ensure_future(self._stopping.wait())], timeout=self.every)

    # --- how ------------------------------------------------------------------------------------------------------

    def _key(self) -> str:
        return self._chance.choice(self.sold.keys)

    def _note(self, kind: str, what: str) -> None:
        after = time.monotonic() - self._begun
        self.promises.unexpected.append(f"{kind} after {after:.1f} s: {what}"[:400])

    def _acknowledge(self, kind: str, answer: Answer) -> None:
        if self._expect(kind, answer, 200):
            self.promises.acknowledged.append(answer.request_id)

    def _expect(self, kind: str, answer: Answer, status: int) -> bool:
        if answer.status != status:
            self._note(kind, f"{answer.status} {answer.body.decode()}")
        return answer.status == status

    async def _ask_about(self, question: dict[str, str]) -> Answer:
        document = orjson.dumps({"product": "soak", "path": "/answer"} | question)
        return await self._send("POST", "/api/keys/verify", self.sold.owner_key, document)

    async def _send(
        self, method: str, path: str, key: str, body: bytes = b"", *, is_new: bool = False
    ) -> Answer:
        client = await Client.connect(self.url) if is_new else await self._connection()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._address.netloc}", f"Authorization: Bearer {key}"]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        client.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        try:
            head = (await client.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = next(
                int(line.partition(":")[2])
                for line in head.split("\r\n")
                if line.lower().startswith("content-length:")
            )
            answer = Answer(int(head[9:12]), head, await client.reader.readexactly(length))
        except BaseException:
            client.cut()
            raise
        if is_new:
            client.cut()
        else:
            self._idle.append((time.monotonic(), client))
        return answer

    async def _connection(self) -> Client:
        """A kept one, or a new one: never one that the server may be closing."""
        while self._idle:
            since, client = self._idle.pop()
            if time.monotonic() - since < KEPT_SECONDS:
                return client
            client.cut()
        return await Client.connect(self.url)


def _close_database() -> None:
    from django.db import connection

    connection.close()
