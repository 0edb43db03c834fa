"""A question that was made ready (gateway/looks.py), carried out as plain calls are: no task, one round trip, one write."""

from typing import TYPE_CHECKING, Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from core.request_id import new_request_id
from gateway.headers import RawHeaders
from gateway.looks import Look, Looks
from gateway.plain_call import Ahead, PlainCall
from gateway.questions import BODY_BYTES
from metering.engine import AsyncEngine

if TYPE_CHECKING:
    from gateway.protocol import GuardedProtocol

log = structlog.get_logger("gateway")
HOST, OWNER, TYPE, LENGTH, CONNECTION, UNUSUAL = range(6)
_KINDS = {
    b"host": HOST, b"authorization": OWNER, b"content-type": TYPE, b"content-length": LENGTH, b"connection": CONNECTION,
} | dict.fromkeys((b"transfer-encoding", b"upgrade", b"expect", b"trailer", b"x-api-key"), UNUSUAL)  # fmt: skip
_PLAIN_CONNECTIONS = frozenset({b"keep-alive", b"close", b"Keep-Alive", b"Close"})
_HEAD = (
    b"content-type: application/json\r\ncache-control: no-store\r\ncontent-length: %d\r\nx-request-id: %b\r\n"
)


class PlainLooks:
    """Takes questions as they are parsed."""

    def __init__(self, looks: Looks, engine: AsyncEngine) -> None:
        self.looks, self.engine = looks, engine

    def take(
        self, protocol: "GuardedProtocol", method: bytes, url: bytes, headers: RawHeaders
    ) -> "PlainLook | None":
        """A question of somebody who may ask, whose body is still to come; None for the general way."""
        found: list[bytes | None] = [None] * UNUSUAL
        for name, value in headers:
            kind = _KINDS.get(name)
            if kind is None:
                continue
            if kind == UNUSUAL or found[kind] is not None:
                return None
            found[kind] = value
        host, owner, media_type, length, connection = found
        if (
            method != b"POST"
            or host is None
            or owner is None
            or length is None
            or media_type != b"application/json"
            or not length.isdigit()
            or not 0 < int(length) <= BODY_BYTES
            or (connection is not None and connection not in _PLAIN_CONNECTIONS)
            or not self.looks.may_ask(owner)
        ):
            return None
        return PlainLook(self, protocol, Ahead(url, headers, b"", int(length)))


class _Post:
    method, is_head = "POST", False


class PlainLook(PlainCall):
    """Waiter of its script, and the `cycle` of its connection. Of a plain call it has what the protocol asks for."""

    __slots__ = ("_look", "_looks")

    def __init__(self, looks: PlainLooks, protocol: "GuardedProtocol", ahead: Ahead) -> None:
        self._looks, self._protocol, self.ahead = looks, protocol, ahead
        self.place = _Post  # type: ignore[assignment]  # nothing else of a place is asked for
        self.response_complete = self.response_started = self.disconnected = False
        self.keep_alive = True
        self.body = b""
        self._passed = None
        self._look: Look | None = None

    def start(self, body: bytes) -> None:
        """Ask the script, where the question is known."""
        self.body, self.request_id = body, new_request_id()
        look = self._look = self._looks.looks.find(body)
        if look is None:
            self._protocol.start_over(self)
        else:
            self._looks.engine.post(look.command, self)

    def set_result(self, reply: Any) -> None:
        """The script's reply."""
        look = self._look
        if self.disconnected or look is None:
            return
        try:
            request_id = self.request_id
            is_usual = type(reply) is bytes
            text = look.write(reply, request_id) if is_usual else look.write_unusual(reply, request_id)
            if text is None:
                self._protocol.start_over(self)
            else:
                self._write_look(text)
        except Exception as error:
            log.exception("look_failed", error=type(error).__name__)
            self._protocol.cut()

    def client_left(self) -> None:
        self.disconnected = True

    def abandon(self) -> None:
        self.disconnected = True

    def _leave(self) -> None:
        """Nothing is held for a look."""

    def _write_look(self, text: bytes) -> None:
        head = [
            STATUS_LINE[200],
            self._protocol.default_lines(),
            _HEAD % (len(text), self.request_id.encode()),
        ]
        if not self.keep_alive:
            head.append(b"connection: close\r\n")
        self._write([*head, b"\r\n", text])
