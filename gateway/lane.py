"""The usual call, made ready: everything that is the same for all calls of a key to a path is worked out once.

A request is taken here when all about it is known already: its key's record is fresh, its path was matched before or is
matched now, its route is a plain one, its head has nothing unusual, its body is small and there. It is then carried out
without a task (gateway/plain_call.py). All others, and those that turn out to be unusual later, go the general way
(gateway/app.py), where the same rules are written for every case. docs/adr/0015 says what this saves.
"""

import time
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING

from django.conf import settings

from gateway.caller import Callers
from gateway.headers import FORWARDED, NEVER_UPSTREAM, RawHeaders
from gateway.plain_call import Ahead, PlainCall
from gateway.plain_look import PlainLooks
from gateway.recorder import Recorder
from gateway.routes import RouteEntry, RouteTable
from gateway.snapshot import Catalogue
from gateway.upstream.connection import header_line
from gateway.upstream.origin import split_url
from gateway.upstream.pool import Pool
from keys.records import KeyRecord
from metering.admission import Target, not_entitled
from metering.answers import Refusal
from metering.calls import CORRECTED
from metering.prepared import PreparedCall

if TYPE_CHECKING:
    from gateway.protocol import GuardedProtocol

MOST_BODY = 64 * 1024  # of a request that is carried out when it is there as a whole
ROOM = 20_000  # prepared calls and known paths of one worker
VERIFY = b"/api/keys/verify"
_LONGEST_PATH = 256  # of those that are remembered: whoever has no key may name any below free segments
_NAMES = 1_000
_LONGEST_NAME = 64
_REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
_NAMES_LENGTH = frozenset({b"POST", b"PUT", b"PATCH"})

PASS, DROP, HOST, BEARER, KEY, LENGTH, CONNECTION, FOR, PROTO, UNUSUAL = range(10)
_KINDS = {
    b"host": HOST, b"authorization": BEARER, b"x-api-key": KEY, b"content-length": LENGTH, b"connection": CONNECTION,
    b"x-forwarded-for": FOR, b"x-forwarded-proto": PROTO,
} | dict.fromkeys((b"transfer-encoding", b"upgrade", b"expect", b"trailer", b"idempotency-key"), UNUSUAL)  # fmt: skip
_PLAIN_CONNECTIONS = frozenset({b"keep-alive", b"close", b"Keep-Alive", b"Close"})


def kind_of(name: bytes) -> int:
    """What a request's header is to us."""
    if name in _KINDS:
        return _KINDS[name]
    if b"_" in name:
        return UNUSUAL
    is_ours = name in NEVER_UPSTREAM or name in FORWARDED or name.startswith(b"x-farebox-")
    return DROP if is_ours else PASS


class Place:
    """A path of a plain route, as requests to its upstream name it."""

    __slots__ = (
        "after_target", "body_limit", "connect_s", "credential", "credential_name", "is_head", "is_repeatable", "method",
        "names_length", "origin", "path", "route", "target_start", "timeout_s", "units_line",
    )  # fmt: skip

    def __init__(self, method: bytes, route: RouteEntry, path: str) -> None:
        """Raises ValueError for an upstream that cannot be asked."""
        self.origin, target = split_url(route.upstream.base_url + path)
        self.route, self.path, self.method = route, path, method.decode("ascii")
        self.target_start = method + b" " + target
        self.after_target = b" HTTP/1.1\r\nHost: %b\r\n" % self.origin.authority
        self.credential = self.credential_name = b""
        if route.upstream.credential is not None:
            name, value = route.upstream.credential
            self.credential_name = name.lower().replace("_", "-").encode("latin-1")
            self.credential = _whole_line(header_line(name, value))
        self.is_head, self.is_repeatable = method == b"HEAD", method in _REPEATABLE
        self.names_length = method in _NAMES_LENGTH
        self.timeout_s, self.connect_s = route.timeout_s, route.upstream.connect_timeout_s
        self.body_limit = min(route.body_limit, MOST_BODY)
        self.units_line = b"farebox-units: %b\r\n" % route.units_text.encode()


class Lane:
    """What the plain calls of a worker share."""

    def __init__(
        self, catalogue: Catalogue, callers: Callers, recorder: Recorder, pool: Pool, *,
        find_route: Callable[[str, str], tuple[RouteEntry, str] | Refusal], looks: PlainLooks | None = None,
    ) -> None:  # fmt: skip
        self.recorder, self.pool, self.callers = recorder, pool, callers
        self.live: set[PlainCall] = set()
        self.logs_calls: bool = settings.GATEWAY_LOG_CALLS
        self.looks = looks
        self._catalogue, self._find_route = catalogue, find_route
        self._table: RouteTable | None = None
        self._places: dict[bytes, Place] = {}
        self._ready: dict[tuple[int, int], tuple[PreparedCall, bytes]] = {}
        self._general: dict[tuple[int, int], tuple[KeyRecord, Target]] = {}
        self._kinds = dict(_KINDS)

    def stop(self) -> None:
        """Calls that the server no longer waits for are told as such; the recorder sees to it that they are settled."""
        for call in list(self.live):
            call.abandon()

    def take(
        self, protocol: "GuardedProtocol", method: bytes, url: bytes, headers: RawHeaders
    ) -> PlainCall | None:
        """A usual call, ready to be started with its body; None for the general way."""
        if url == VERIFY:
            return None if self.looks is None else self.looks.take(protocol, method, url, headers)
        path, mark, query = url.partition(b"?")
        place = self._place(method, path)
        if place is None or b"#" in query:
            return None
        host = bearer = key = length = via = scheme = None
        credential_name, kinds = place.credential_name, self._kinds
        ahead: list[bytes] = [place.target_start, mark, query, place.after_target]
        for name, value in headers:
            kind = kinds.get(name)
            if kind is None:
                kind = self._learn(name)
            if kind == PASS:
                if name != credential_name:
                    ahead += (name, b": ", value, b"\r\n")
            elif kind == HOST:
                if host is not None:
                    return None
                host = value
            elif kind == BEARER:
                if bearer is not None:
                    return None
                bearer = value
            elif kind == CONNECTION:
                if value not in _PLAIN_CONNECTIONS:
                    return None
            elif kind == LENGTH:
                if length is not None:
                    return None
                length = value
            elif kind == KEY:
                if key is not None:
                    return None
                key = value
            elif kind == FOR:
                via = value if via is None else via + b", " + value
            elif kind == PROTO:
                scheme = value
            elif kind == UNUSUAL:
                return None
        if host is None:
            return None
        found = self._caller(bearer, key, place.route)
        if found is None:
            return None
        ready, who, key_hash = found
        size = 0
        if length is not None:
            if not length.isdigit() or (size := int(length)) > place.body_limit:
                return None
            ahead += (b"content-length: ", length, b"\r\n")
        elif place.names_length:
            ahead.append(b"content-length: 0\r\n")
        ahead += (protocol.forwarded(via, scheme), host, b"\r\n", who)
        return PlainCall(self, protocol, Ahead(url, headers, key_hash, size), place, ready, ahead)

    def _caller(
        self, bearer: bytes | None, key: bytes | None, route: RouteEntry
    ) -> tuple[PreparedCall, bytes, bytes] | None:
        """What is ready for this key on this route, the lines that name it to the upstream, and its hash."""
        if bearer is not None:
            if key is not None or bearer[:7].lower() != b"bearer ":
                return None
            token = bearer[7:].strip()
        elif key is not None:
            token = key.strip()
        else:
            return None
        key_hash = sha256(token).digest()
        record = self.callers.find_fresh(key_hash)
        if record is None:
            return None
        at_us = time.time_ns() // 1000
        target = route.target
        found = self._ready.get((record.key_id, target.route_id))
        if found is not None:
            ready = found[0]
            if (
                ready.record is record
                and (ready.target is target or ready.target == target)
                and ready.start_us <= at_us < ready.end_us
                and (record.expires_at_us is None or at_us < record.expires_at_us)
            ):
                return ready, found[1], key_hash
        made = self._prepare(record, route, at_us)
        return None if made is None else (*made, key_hash)

    def _prepare(self, record: KeyRecord, route: RouteEntry, at_us: int) -> tuple[PreparedCall, bytes] | None:
        """None where the general way is needed, to refuse or each time."""
        name = (record.key_id, route.target.route_id)
        general = self._general.get(name)
        if general is not None and general[0] is record and general[1] == route.target:
            return None
        span = record.span_at(at_us)
        refusal = not_entitled(
            record,
            product=route.product_slug,
            route=route.public_id,
            feature=route.required_feature,
            at_us=at_us,
        )
        if span is None or refusal is not None:
            return None
        try:
            ready = PreparedCall(record, span, route.target)
            who = b"".join(
                _whole_line(header_line(name, value))
                for name, value in (
                    ("X-Farebox-Organization", record.organization_public_id),
                    ("X-Farebox-Plan", record.plan_slug),
                    ("X-Farebox-Key-Id", record.key_public_id),
                    ("X-Farebox-Mode", record.mode),
                )
            )
        except ValueError:
            self._leave_to_general_way(name, record, route)
            return None
        request = ready.request
        if request.further or request.daily or any(w.code in CORRECTED for w in request.weighted):
            # what is corrected when the call has ended
            self._leave_to_general_way(name, record, route)
            return None
        if len(self._ready) >= ROOM:
            del self._ready[next(iter(self._ready))]
        made = self._ready[name] = (ready, who + b"X-Request-Id: ")
        return made

    def _leave_to_general_way(self, name: tuple[int, int], record: KeyRecord, route: RouteEntry) -> None:
        """Remember that calls of this key on this route are not usual ones: finding that out costs as much as some calls."""
        if len(self._general) >= ROOM:
            self._general.clear()
        self._general[name] = (record, route.target)

    def _place(self, method: bytes, path: bytes) -> Place | None:
        table = self._catalogue.value
        if table is not self._table:
            self._table = table
            self._places.clear()
            self._ready.clear()  # who may call a route is asked when a call is made ready
            self._general.clear()
        name = method + path
        place = self._places.get(name)
        if place is None:
            place = self._find_place(method, path)
            if place is not None and len(path) <= _LONGEST_PATH:
                if len(self._places) >= ROOM:
                    self._places.clear()
                self._places[name] = place
        return place

    def _find_place(self, method: bytes, path: bytes) -> Place | None:
        if not path.startswith(b"/") or b"#" in path:
            return None
        found = self._find_route(method.decode("ascii"), path.decode("ascii"))
        if isinstance(found, Refusal) or not is_plain(found[0]):
            return None
        try:
            return Place(method, *found)
        except ValueError:
            return None

    def _learn(self, name: bytes) -> int:
        kind = kind_of(name)
        if len(self._kinds) < _NAMES and len(name) <= _LONGEST_NAME:
            self._kinds[name] = kind
        return kind


def is_plain(route: RouteEntry) -> bool:
    """Whether calls of a route are carried out as they come: what needs more (models, ...) goes the general way."""
    return route.language is None and route.pool is None and not route.websocket


def _whole_line(line: bytes) -> bytes:
    if line.count(b"\n") != 1 or line.count(b"\r") != 1 or b"\0" in line:
        raise ValueError("a header's value has a line break in it")
    return line
