"""What is sold over WebSockets, and clients of it."""

from dataclasses import dataclass
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response
from websockets.sync.client import ClientConnection, connect

from core.redis import usage_redis as usage_client
from core.redis_layout import reservations_key, usage_key
from plans.models import Product, Route, UpstreamServer, WebSocketBilling
from tests.factories import create_product, create_route
from tests.gateway.kit import Customer, Process, Shop

CONNECTION = WebSocketBilling.CONNECTION
BILLING = {"live": WebSocketBilling.MESSAGES, "ask": WebSocketBilling.CLIENT_MESSAGES, "line": CONNECTION}
PATHS: dict[str, dict[str, Any]] = {
    "/log": {"websocket": ""},
    "/pro": {"required_feature": "all_endpoints"},
    "/small/*": {"body_limit_bytes": 1000},
    "/taken/*": {},
    "/hang": {"timeout_ms": 500},
    "/posted": {"methods": ("GET", "POST")},
    "/*": {"body_limit_bytes": 4_000_000},
}
ENVIRONMENT = {"FAREBOX_WEBSOCKET_PART_SECONDS": "2", "FAREBOX_WEBSOCKET_IDLE_SECONDS": "8"}


@dataclass
class Sockets(Shop):
    """The catalogue of WebSockets, the gateway that serves it, and the API behind."""

    def open(
        self, customer: Customer, path: str, *, via: Process | None = None, key: str | None = None, **options: Any
    ) -> ClientConnection:  # fmt: skip
        """A connection of the customer's; key "": without one."""
        url = f"{(via or self.gateway).url.replace('http', 'ws')}/{path}"
        key = customer.issued.clear if key is None else key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        ws: ClientConnection = connect(
            url, additional_headers=headers, open_timeout=10, close_timeout=5, **options
        )
        return ws

    def refused(self, customer: Customer, path: str, **options: Any) -> Response:
        """The answer to a handshake that is not accepted."""
        try:
            with self.open(customer, path, **options):
                raise AssertionError("the connection was opened")
        except InvalidStatus as error:
            return error.response


def closed(ws: ClientConnection, *, within: float = 10) -> Close | None:
    """How the connection ended, once what came before was read; None: it was cut."""
    try:
        while True:
            ws.recv(timeout=within)
    except ConnectionClosed as error:
        return error.rcvd


def held(customer: Customer) -> int:
    """Reservations of the customer's that are open."""
    return int(usage_client().zcard(reservations_key(customer.organization.shard, customer.organization.pk)))


def counted(customer: Customer) -> tuple[int, int]:
    """Units of the customer's meters: settled and reserved, over all its counters."""
    client: Any = usage_client()
    settled = reserved = 0
    for key in client.scan_iter(
        usage_key(customer.organization.shard, customer.organization.pk, "live", "*")
    ):
        for name, value in client.hgetall(key).items():
            if name.startswith(b"r"):
                reserved += int(value)
            else:
                settled += int(value)
    return settled, reserved


def sell_sockets(url: str) -> tuple[Product, dict[str, Route]]:
    """A product for each way of billing: `live` by message, `ask` by the client's, `line` by connection."""
    routes = {}
    for slug, billing in BILLING.items():
        product = create_product(
            slug, upstream_url=f"{url}/", credential_header="X-Token", credential="owner's"
        )
        for position, (path, facts) in enumerate(PATHS.items()):
            routes[f"{slug}{path}"] = create_route(
                product, path, position=position, **({"methods": ("GET",), "websocket": billing} | facts)
            )
    several = create_product("several")
    for server in ("http://127.0.0.1:9", f"{url}/refuse/503", url):
        UpstreamServer.objects.create(product=several, base_url=server)
    create_route(several, websocket=CONNECTION)
    create_route(create_product("offline", upstream_url="http://127.0.0.1:9"), websocket=CONNECTION)
    return product, routes
