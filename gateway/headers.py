"""Headers as a good proxy treats them: what stays, what goes, what is added (RFC 9110, sections 7.6 and 11)."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from keys.records import KeyRecord

RawHeaders = Sequence[tuple[bytes, bytes]]

MAX_HEADER_BYTES = 32 * 1024
MAX_HEADER_LINES = 100
HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
# The customer's key ends here; Expect was answered by us; who called is said by us alone.
NEVER_UPSTREAM = HOP_BY_HOP | {
    b"authorization",
    b"x-api-key",
    b"host",
    b"expect",
    b"x-request-id",
    b"forwarded",
}
FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})
_OURS_IN_ANSWERS = frozenset(
    {
        b"x-request-id", b"ratelimit", b"ratelimit-policy", b"x-ratelimit-limit", b"x-ratelimit-remaining",
        b"x-ratelimit-reset", b"date", b"farebox-warning", b"farebox-units", b"farebox-cost",
    }
)  # fmt: skip

_SHORTEST_SECRET = 6
_ONCE = (b"content-length", b"authorization", b"x-api-key")


def header_fault(headers: RawHeaders) -> str:
    """What is wrong with a request's headers: '', `headers_too_large` or `bad_request`.

    The server below us caps neither size nor lines and takes two Host lines, so we refuse them; and of two keys nobody
    could say which one is meant.
    """
    if len(headers) > MAX_HEADER_LINES or sum(len(n) + len(v) for n, v in headers) > MAX_HEADER_BYTES:
        return "headers_too_large"
    names = [name for name, _ in headers]
    if names.count(b"host") != 1 or any(names.count(name) > 1 for name in _ONCE):
        return "bad_request"
    if b"content-length" in names and b"transfer-encoding" in names:
        return "bad_request"
    return ""


def is_plainly_framed(version: str, headers: RawHeaders) -> bool:
    """Whether everybody agrees where this request ends: HTTP/1.0 or 1.1, and chunked alone, in 1.1, as transfer coding.
    The parser below us also takes HTTP/0.9 and 2.0, other codings before chunked, and chunked in 1.0 (RFC 9112, 6.1)."""
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    return version in ("1.0", "1.1") and (not codings or (version == "1.1" and codings == [b"chunked"]))


def find_header(headers: RawHeaders, name: bytes) -> bytes | None:
    """The first value of a header (names come in lower case)."""
    for candidate, value in headers:
        if candidate == name:
            return value
    return None


def upstream_headers(
    headers: RawHeaders, record: KeyRecord, *, request_id: str, forwarded: Iterable[tuple[str, str]],
    credential: tuple[str, str] | None,
) -> list[tuple[str, str]]:  # fmt: skip
    """What the upstream gets: the client's end-to-end headers, who called, and the owner's credential."""
    dropped = NEVER_UPSTREAM | _named_by_connection(headers)
    if credential is not None:
        dropped |= {credential[0].lower().replace("_", "-").encode("latin-1")}
    sent = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if (plain := name.replace(b"_", b"-")) not in dropped  # CGI and WSGI read both as one
        and not plain.startswith(b"x-farebox-")
        and plain not in FORWARDED
    ]
    sent += forwarded
    sent += [
        ("X-Farebox-Organization", record.organization_public_id),
        ("X-Farebox-Plan", record.plan_slug),
        ("X-Farebox-Key-Id", record.key_public_id),
        ("X-Farebox-Mode", record.mode),
        ("X-Request-Id", request_id),
    ]
    if credential is not None:
        sent.append(credential)
    return sent


def answer_headers(
    headers: RawHeaders, ours: Iterable[tuple[str, str]], *, may_have_length: bool = True
) -> list[tuple[bytes, bytes]]:
    """What the client gets of the upstream's headers, and ours. An answer without a body by its status loses its
    length: the server below us would wait for that many bytes."""
    lowered = [(name.lower(), value) for name, value in headers]
    dropped = HOP_BY_HOP | _OURS_IN_ANSWERS | _named_by_connection(lowered)
    if not may_have_length:
        dropped |= {b"content-length"}
    return [(name, value) for name, value in lowered if name not in dropped] + encoded(ours)


_UNFAMILIAR = 500  # names of answers that are remembered; upstreams say a few dozen
_drops: dict[bytes, bool] = {}


def answer_lines(headers: RawHeaders, *, drops_length: bool) -> list[bytes]:
    """The same as lines of a head, without ours, of headers whose names are in lower case."""
    lines: list[bytes] = []
    for name, value in headers:
        is_dropped = _drops.get(name)
        if is_dropped is None:
            is_dropped = name in HOP_BY_HOP or name in _OURS_IN_ANSWERS
            if len(_drops) < _UNFAMILIAR:
                _drops[name] = is_dropped
        if not is_dropped:
            if name != b"content-length" or not drops_length:
                lines += (name, b": ", value, b"\r\n")
        elif name == b"connection" and value.lower() not in (b"close", b"keep-alive"):
            kept = answer_headers(headers, [], may_have_length=not drops_length)
            return [b"%b: %b\r\n" % pair for pair in kept]
    return lines


def withheld(headers: RawHeaders, credential: tuple[str, str] | None) -> RawHeaders:
    """An upstream's headers without those that say the owner's credential again, whole or without its scheme."""
    secret = _secret_of(credential[1]) if credential is not None else b""
    if not secret:
        return headers
    return [(name, value) for name, value in headers if secret not in value]


@lru_cache(256)
def _secret_of(credential: str) -> bytes:
    """What of a credential is secret; b"" of one that is too short to be one, and would be found everywhere."""
    words = credential.split()
    secret = words[-1] if words and len(words[-1]) >= _SHORTEST_SECRET else credential
    return secret.encode("latin-1", "ignore") if len(secret) >= _SHORTEST_SECRET else b""


def encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI wants them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def _named_by_connection(headers: RawHeaders) -> frozenset[bytes]:
    """Headers that `Connection` declares to be for this hop only."""
    named = [value for name, value in headers if name == b"connection"]
    return frozenset(token.strip().lower() for value in named for token in value.split(b","))
