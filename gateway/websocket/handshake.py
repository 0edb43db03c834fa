"""The opening handshake: whose key it carries, whether it is one, what the upstream is asked and the client is told.

Browsers cannot set headers on a WebSocket, so a key may also come as a subprotocol: `farebox.key.KEY`. It ends here, like
the headers that carry keys. Extensions are never negotiated: compressed frames could not be held to a size.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from websockets.datastructures import Headers as WireHeaders
from websockets.exceptions import InvalidHandshake, InvalidHeaderValue
from websockets.http11 import Request
from websockets.server import ServerProtocol

from gateway.caller import presented_key
from gateway.headers import RawHeaders, answer_headers, find_header
from gateway.problems import BAD_REQUEST
from gateway.proxy import has_request_body
from metering.answers import Headers, Refusal

OURS = "farebox"  # offered beside a key, and chosen where the upstream chooses none: browsers insist on an answer
KEY_PREFIX = "farebox.key."
_OFFERED = b"sec-websocket-protocol"
_OF_THE_HANDSHAKE = b"sec-websocket-"

UPGRADE_REQUIRED = Refusal(
    "upgrade_required", 426, "This route speaks WebSocket", "Open it with a WebSocket client of version 13.",
    [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")],
)  # fmt: skip
BAD_HANDSHAKE = Refusal(
    "bad_handshake",
    400,
    "The WebSocket handshake is malformed",
    "It has to be a GET in HTTP/1.1 with all its headers.",
)


@dataclass(frozen=True, slots=True)
class Opening:
    """A client's handshake. `accept`: our proof of having read it; `subprotocols`: what it offers the upstream."""

    accept: str
    subprotocols: tuple[str, ...]
    offers_ours: bool


def is_websocket(scope: dict[str, Any]) -> bool:
    """Whether a request asks for a WebSocket, on a connection that can become one."""
    return (
        "hand_over" in scope["state"]
        and (find_header(scope["headers"], b"upgrade") or b"").lower() == b"websocket"
    )


def websocket_key(headers: RawHeaders) -> str | None:
    """The key that a handshake carries: in a header, else among the subprotocols."""
    return presented_key(headers) or next(iter(_keys(_offered(headers))), None)


def read_opening(scope: dict[str, Any], path: str) -> Opening | Refusal:
    """The handshake, or why it is none."""
    headers: RawHeaders = scope["headers"]
    offered = _offered(headers)
    if has_request_body(headers) or len(_keys(offered)) > 1:
        return BAD_REQUEST
    if scope["method"] != "GET" or scope["http_version"] != "1.1":  # RFC 6455, 4.1
        return BAD_HANDSHAKE
    try:
        wire = WireHeaders([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])
        accept, _, _ = ServerProtocol().process_request(Request(path, wire))
    except InvalidHeaderValue as error:
        return UPGRADE_REQUIRED if error.name == "Sec-WebSocket-Version" else BAD_HANDSHAKE
    except InvalidHandshake:
        return BAD_HANDSHAKE
    others = tuple(name for name in offered if name != OURS and not name.startswith(KEY_PREFIX))
    return Opening(accept, others, OURS in offered)


def without_handshake(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """Headers without those of a handshake: each hop has its own."""
    return [(name, value) for name, value in headers if not name.lower().startswith(_OF_THE_HANDSHAKE)]


def switching(
    opening: Opening, theirs: RawHeaders, subprotocol: str | None, ours: Iterable[tuple[str, str]]
) -> bytes:
    """The answer 101 with the upstream's end-to-end headers and ours."""
    chosen = subprotocol or (OURS if opening.offers_ours else None)
    lines: Headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", opening.accept),
        *([("Sec-WebSocket-Protocol", chosen)] if chosen else []),
        *ours,
    ]
    headers = answer_headers(without_handshake(theirs), lines, may_have_length=False)
    return b"".join(
        [
            b"HTTP/1.1 101 Switching Protocols\r\n",
            *(b"%s: %s\r\n" % (name, value) for name, value in headers),
            b"\r\n",
        ]
    )


def _offered(headers: RawHeaders) -> list[str]:
    values = [value.decode("latin-1") for name, value in headers if name == _OFFERED]
    return [word for value in values for part in value.split(",") if (word := part.strip())]


def _keys(offered: Iterable[str]) -> list[str]:
    return [name.removeprefix(KEY_PREFIX) for name in offered if name.startswith(KEY_PREFIX)]
