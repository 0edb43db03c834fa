"""How other gateways ask: which headers name the original call, and in which form they can pass a refusal on.

Each has an address of its own, so that only those headers are read which that gateway sets itself: a client cannot
bring them along.
"""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from django.conf import settings

from gateway.headers import RawHeaders
from gateway.problems import BAD_PATH, BAD_REQUEST
from gateway.tokens import seal
from metering.answers import Headers, Refusal

PREFIX = "/api/forward-auth/"
REPORT = PREFIX + "report"
REFUSED = PREFIX + "refused"
REFUSAL_PURPOSE = "refusal"
_REPORTED = "reported/"

NOT_TRUSTED = Refusal(
    "gateway_not_trusted", 403, "This address may not ask for others", "FAREBOX_FORWARD_AUTH_FROM does not name it."
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Original:
    """The call that the other gateway holds: `path` as the catalogue knows it, without its query."""

    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Dialect:
    """`headers`: names of method and address of the original call; None: the request itself is like it.
    `only_401_and_403`: other answers would become a 500."""

    headers: tuple[bytes, bytes] | None
    only_401_and_403: bool = False
    more: tuple[tuple[str, str], ...] = ()


_FORWARDED = Dialect((b"x-forwarded-method", b"x-forwarded-uri"))
DIALECTS = {
    "nginx": Dialect((b"x-original-method", b"x-original-uri"), only_401_and_403=True),
    "caddy": _FORWARDED,
    "traefik": _FORWARDED,
    "envoy": Dialect(None, more=(("X-Envoy-Auth-Headers-To-Remove", "authorization,x-api-key"),)),
}


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What an address of ours below PREFIX means. `before` is put before the original path: a product, mostly."""

    dialect: Dialect
    before: str
    will_report: bool


def read_address(raw_path: str) -> Inquiry | None:
    """`[reported/]<dialect>[/<before>]`; None: there is no such dialect."""
    rest = raw_path.removeprefix(PREFIX)
    will_report = rest.startswith(_REPORTED)
    name, slash, before = rest.removeprefix(_REPORTED).partition("/")
    dialect = DIALECTS.get(name)
    return Inquiry(dialect, slash + before, will_report) if dialect else None


def read_original(inquiry: Inquiry, method: str, headers: RawHeaders) -> Original | Refusal:
    """The call that is asked about; 400 where the other gateway does not say it, or says it twice."""
    if inquiry.dialect.headers is None:
        return Original(method, inquiry.before) if inquiry.before else BAD_REQUEST
    method_name, address_name = inquiry.dialect.headers
    methods, addresses = _values(headers, method_name), _values(headers, address_name)
    if len(methods) != 1 or len(addresses) != 1:
        return BAD_REQUEST
    address = addresses[0]
    if not address.startswith("/") or "#" in address:
        return BAD_PATH
    return Original(methods[0], inquiry.before.rstrip("/") + address.partition("?")[0])


def client_address(headers: RawHeaders, peer: str) -> str:
    """Whose guesses are counted: the last address that the other gateway added, else the gateway itself."""
    named = ",".join(_values(headers, b"x-forwarded-for")).rpartition(",")[2].strip()
    return named or peer


def refuse_for(
    dialect: Dialect, refusal: Refusal, *, request_id: str, path: str, method: str
) -> tuple[Refusal, Headers]:
    """The refusal as this gateway can pass it on. nginx' auth_request knows 401 and 403 only and drops the body: it is
    handed a sealed word, which it exchanges for the refusal at REFUSED."""
    if not dialect.only_401_and_403:
        return refusal, []
    word = seal(REFUSAL_PURPOSE, {
        "c": refusal.code, "s": refusal.status, "t": refusal.title, "d": refusal.detail, "h": refusal.headers,
        "r": request_id, "p": path[:1000], "m": method,
    })  # fmt: skip
    passed = Refusal(refusal.code, 403, refusal.title, refusal.detail)
    return passed, [("X-Farebox-Refusal", word)]


def is_trusted(peer: str) -> bool:
    """Whether the other end of the connection is a gateway that FAREBOX_FORWARD_AUTH_FROM names."""
    return _is_in(peer, tuple(settings.FORWARD_AUTH_FROM))


@lru_cache(maxsize=1024)
def _is_in(peer: str, networks: tuple[str, ...]) -> bool:
    try:
        address = ip_address(peer)
    except ValueError:  # a socket file has no address
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in ip_network(one, strict=False) for one in networks)


def _values(headers: RawHeaders, name: bytes) -> list[str]:
    return [value.decode("latin-1") for candidate, value in headers if candidate == name]
