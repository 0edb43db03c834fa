"""A gateway that is told to stop under load: whatever ends within its time is finished, recorded and billed; a stream that
does not ends with its dialect's error frame and is billed as its policy says.
"""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import aiohttp

from tests.gateway.kit import Process, wait_for
from tests.gateway.language.kit import Models, User, document, frames

Record = Callable[[str, object], None]
SHORT, LONG = "words=10,pause=0.15", "words=400,pause=0.1"  # 1.5 s and 40 s, of the 5 s that a stop has here
CALLS_OF_A_KIND = 6
KINDS = {
    "whole": ("/v1/chat/completions", "head=1.5", False),
    "stream": ("/v1/chat/completions", SHORT, True),
    "messages": ("/v1/messages", SHORT, True),
    "long v1 chat": ("/v1/chat/completions", LONG, True),
    "long v1 messages": ("/v1/messages", LONG, True),
    "long v1 responses": ("/v1/responses", LONG, True),
    "long delivered": ("/delivered/chat/completions", LONG, True),
    "long free": ("/free/chat/completions", LONG, True),
}


@dataclass
class Seen:
    kind: str
    status: int
    request_id: str
    body: bytes
    is_whole: bool


async def under_a_stop(user: User, process: Process) -> tuple[list[Seen], int]:
    """Calls of all kinds, then SIGTERM while all of them are under way; what each saw, and the process's status."""
    begun = 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(kind: str) -> Seen:
            nonlocal begun
            path, act, is_stream = KINDS[kind]
            headers = {"Authorization": f"Bearer {user.issued.clear}", "X-Act": act}
            content = document("/" + path.split("/", 2)[2], {"stream": True} if is_stream else {})
            begun += not is_stream
            async with session.post(process.url + path, data=content, headers=headers) as response:
                begun += is_stream
                body, is_whole = b"", True
                try:
                    async for chunk in response.content.iter_any():
                        body += chunk
                except aiohttp.ClientPayloadError:
                    is_whole = False
                return Seen(kind, response.status, response.headers.get("X-Request-Id", ""), body, is_whole)

        calls = [asyncio.create_task(one(kind)) for kind in KINDS for _ in range(CALLS_OF_A_KIND)]
        while begun < len(calls):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)  # those that are not streams have reached the upstream
        status = await asyncio.to_thread(process.stop)
        return list(await asyncio.gather(*calls)), status


def test_nothing_is_lost_and_what_takes_too_long_ends_in_its_dialect(
    models: Models, record_property: Record
) -> None:
    user = models.user()
    process = Process().wait_until_ready()
    user.api = process.api
    assert user.ask().status == 200  # the worker knows the key
    seen, status = asyncio.run(under_a_stop(user, process))
    assert status in (0, -signal.SIGTERM)

    rows = {row["rid"]: row for row in user.rows(len(seen) + 1)}
    short = [one for one in seen if not one.kind.startswith("long")]
    long = [one for one in seen if one.kind.startswith("long")]
    for one in short:
        assert (one.status, one.is_whole) == (200, True), one
        assert rows[one.request_id]["qty"] > 0
        assert rows[one.request_id].get("reason", "") == ""
        if one.kind != "whole":
            assert frames(one.body)[-1] in ("[DONE]", {"type": "message_stop"})
    for one in long:
        row = rows[one.request_id]
        last = frames(one.body)[-1]
        assert one.is_whole, (
            one.kind
        )  # the transfer ends as it should; that the answer does not, the frame says
        assert "gateway_stopped" in str(last), (one.kind, last)
        assert row["props"]["outcome"] == "gateway_stopped"
        if "free" in one.kind:
            assert (row["qty"], row["reason"]) == (Decimal(0), "gateway_error")
        else:
            delivered = one.body.count(b"word ")
            assert delivered >= 20
            assert row.get("reason", "") == ""
            # Between a token a word and a token for four bytes, whichever way is counted.
            assert delivered - 3 <= row["props"]["output_tokens"] <= delivered * 5 / 4 + 3
            assert row["props"]["usage_estimated"] is True
    record_property("drained", len(short))
    record_property("ended", len(long))
    record_property("lost", len(seen) + 1 - len(rows))
    wait_for(lambda: not any(v for n, v in user.counters().items() if n.startswith("r")))
    user.assert_nothing_reserved()
