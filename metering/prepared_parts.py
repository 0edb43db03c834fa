"""What of a call's commands, event and headers is the same for all calls of one kind, as bytes with gaps between them.

Each part is cut out of what the general form makes of a call with marks in the places that differ, so nothing is said twice:
what the general form learns, the prepared one knows.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson

from core.ids import NONCE_BITS, NONCE_DIGITS
from core.redis_loop import pack
from metering.answers import label, rate_headers
from metering.calls import Admission, QuotaState, WindowState
from metering.events import Event
from metering.script_calls import Call, window_rules

MARK = (1 << NONCE_BITS) - 0xFA12EB0  # a nonce; its text is searched for in what is packed
MARK_TEXT = f"{MARK:x}".encode()
MARK_ID = UUID(int=2**128 - 1)
MARK_NUMBER = 7_777_777_777_777_777_777
MARK_TEXT_VALUE = "a-text-that-differs"
_RAND_B = (1 << 62) - 1


def cut(call: Call[Any], *marks: bytes) -> tuple[bytes, ...]:
    """The packed call without the texts that differ, in the order in which they come. Raises ValueError where a mark is not
    found, or not as often as named: another text looks like it, and nobody could tell them apart."""
    rest = pack(("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args))
    return split_at(rest, marks)


def split_at(text: bytes, marks: Sequence[bytes]) -> tuple[bytes, ...]:
    """The pieces of a text between these marks, which come once each in this order. Raises ValueError."""
    if any(text.count(mark) != marks.count(mark) for mark in marks):
        raise ValueError("a mark is not unique")
    pieces = []
    for mark in marks:
        piece, found, text = text.partition(mark)
        if not found:
            raise ValueError("marks come in another order")
        pieces.append(piece)
    return *pieces, text


def nonce_text(nonce: int) -> bytes:
    """A nonce as names of reservations have it. Raises ValueError for one that new_nonce() would not make: the gaps of packed
    commands have one length."""
    text = b"%x" % nonce
    if len(text) != NONCE_DIGITS:
        raise ValueError("a nonce has 74 bits, the first of them set")
    return text


class EventText:
    """An event's JSON, byte for byte as `Event.to_json` writes it. `billed` has a quantity and no reason; the other way around
    for calls that are not billed."""

    __slots__ = ("_billed", "_unbilled")

    def __init__(self, billed: Event, unbilled: Event) -> None:
        """Events with marks: MARK_ID, MARK_NUMBER as `occurred_at_us`, `status`, `duration_us`, `bytes_in` and `bytes_out`,
        MARK_TEXT_VALUE as `request_id` (and as the reason of the unbilled one)."""
        self._billed = _event_template(billed)
        self._unbilled = _event_template(unbilled)

    def write(
        self, at_us: int, nonce: int, status: int, duration_us: int, bytes_in: int, bytes_out: int, reason: str,
        request_id: str,
    ) -> bytes:  # fmt: skip
        """The event of one call."""
        ms, low, rid = at_us // 1000, nonce & _RAND_B, orjson.dumps(request_id)
        high, low_high, low_low = nonce >> 62, 0x8000 | low >> 48, low & 0xFFFFFFFFFFFF
        if not reason:
            return self._billed % (
                ms >> 16, ms & 0xFFFF, high, low_high, low_low, at_us, status, duration_us, bytes_in, bytes_out, rid,
            )  # fmt: skip
        return self._unbilled % (
            ms >> 16, ms & 0xFFFF, high, low_high, low_low, at_us, status, duration_us, bytes_in, bytes_out,
            orjson.dumps(reason), rid,
        )  # fmt: skip


def _event_template(marked: Event) -> bytes:
    number, text = b"%d" % MARK_NUMBER, orjson.dumps(MARK_TEXT_VALUE)
    marks = [str(MARK_ID).encode(), b'"at":' + number]
    marks += [b'"%b":' % name + number for name in (b"status", b"dur", b"in", b"out")]
    gaps = [b"%08x-%04x-7%03x-%04x-%012x", b'"at":%d', b'"status":%d', b'"dur":%d', b'"in":%d', b'"out":%d']
    if marked.reason:
        marks.append(b'"reason":' + text)
        gaps.append(b'"reason":%b')
    first, *pieces = split_at(marked.to_json(), [*marks, b'"rid":' + text])
    template = escaped(first)
    for gap, piece in zip([*gaps, b'"rid":%b'], pieces, strict=True):
        template += gap + escaped(piece)
    return template


def escaped(piece: bytes) -> bytes:
    """As templates have it."""
    return piece.replace(b"%", b"%%")


class RateLines:
    """The headers that say what is left, as lines of an answer's head. Names in lower case, as ASGI has them."""

    __slots__ = ("_end_us", "_quota", "_warning", "_windows")

    def __init__(self, request: Admission, warning: str) -> None:
        self._end_us = request.span_end_us
        self._quota = request.quota
        self._warning = f"farebox-warning: {warning}\r\n".encode("latin-1") if warning else b""
        told = [*enumerate(window_rules(request))]
        states = [
            WindowState(w.seconds, w.limit, 0, 0, w.code == "key_rate_limited", w.name) for _, w in told
        ]
        quota = QuotaState(self._quota, 0, MARK_NUMBER) if self._quota >= 0 else None
        policy = dict(rate_headers(states, quota, 0)).get("RateLimit-Policy", "")
        self._windows = [
            (2 + 2 * i, w.limit, w.seconds, _lines(policy, state, self._warning))
            for (i, w), state in zip(told, states, strict=True)
        ]

    def write(self, numbers: Sequence[int]) -> bytes:
        """The lines, by the numbers of the script's reply: its time, what is used, per window what remains and when all does."""
        if not self._windows:
            return self._warning
        at, limit, seconds, template = self._windows[0]
        left = numbers[at]
        for window in self._windows[1:]:
            remaining = numbers[window[0]]
            if remaining * limit < left * window[1]:
                (at, limit, seconds, template), left = window, remaining
        reset = min(numbers[at + 1], seconds)
        if self._quota >= 0:
            return template % (-(-(self._end_us - numbers[0]) // 1_000_000), left, reset, left, reset)
        return template % (left, reset, left, reset)


def _lines(policy: str, w: WindowState, warning: bytes) -> bytes:
    lines = (
        f"ratelimit-policy: {policy}\r\n".replace("%", "%%").replace(str(MARK_NUMBER), "%d")
        + f'ratelimit: "{label(w)}";r=%d;t=%d\r\nx-ratelimit-limit: {w.limit}\r\n'
        + "x-ratelimit-remaining: %d\r\nx-ratelimit-reset: %d\r\n"
    )
    return lines.encode("latin-1") + escaped(warning)
