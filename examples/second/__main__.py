"""Serve Units: `python -m examples.second --port 9200`.

GET  /convert?value=26.2&from=mi&to=km     a length, mass or volume in another unit
GET  /units                                what it can convert
POST /batch  {"conversions": [{"value": "1", "from": "kg", "to": "lb"}, ...]}
GET  /caller                               who is calling, as the headers that Farebox adds tell it

With UNITS_TOKEN in the environment every path but /healthz wants `Authorization: Bearer <UNITS_TOKEN>`: the owner's
credential, which Farebox adds to what it passes on, so that nobody gets past it.
"""

import argparse
import hmac
import json
import os
import sys
from decimal import Decimal, InvalidOperation
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

# Each unit in metres, kilograms or litres; the factors are exact by definition.
UNITS = {
    "m": ("length", "1"), "km": ("length", "1000"), "cm": ("length", "0.01"), "mm": ("length", "0.001"),
    "mi": ("length", "1609.344"), "yd": ("length", "0.9144"), "ft": ("length", "0.3048"), "in": ("length", "0.0254"),
    "nmi": ("length", "1852"),
    "kg": ("mass", "1"), "g": ("mass", "0.001"), "t": ("mass", "1000"), "lb": ("mass", "0.45359237"),
    "oz": ("mass", "0.028349523125"),
    "l": ("volume", "1"), "ml": ("volume", "0.001"), "gal": ("volume", "3.785411784"),
}  # fmt: skip
MAX_BATCH = 100
MAX_BODY_BYTES = 64 * 1024


class BadRequest(Exception):
    """What the caller sent cannot be answered; the text says why."""


def convert(value: str, source: str, target: str) -> dict[str, str]:
    """A conversion as the API answers it, with 12 significant digits. Raises BadRequest."""
    for unit in (source, target):
        if unit not in UNITS:
            raise BadRequest(f"unknown unit {unit!r}; GET /units lists them")
    if UNITS[source][0] != UNITS[target][0]:
        raise BadRequest(f"{source} is a {UNITS[source][0]}, {target} is a {UNITS[target][0]}")
    try:
        number = Decimal(value)
    except InvalidOperation as error:
        raise BadRequest(f"{value!r} is not a number") from error
    if not number.is_finite() or abs(number.adjusted()) > 30:
        raise BadRequest(f"{value!r} is out of range")
    result = number * Decimal(UNITS[source][1]) / Decimal(UNITS[target][1])
    return {"value": value, "from": source, "to": target, "result": f"{float(result):.12g}"}


def convert_batch(body: bytes) -> dict[str, Any]:
    """Answers of up to MAX_BATCH conversions, in order. Raises BadRequest for the first that is wrong."""
    try:
        wanted = json.loads(body)["conversions"]
        pairs = [(str(one["value"]), str(one["from"]), str(one["to"])) for one in wanted]
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest('expected {"conversions": [{"value", "from", "to"}, ...]}') from error
    if len(pairs) > MAX_BATCH:
        raise BadRequest(f"at most {MAX_BATCH} conversions")
    return {"results": [convert(*pair) for pair in pairs]}


class Units(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "units"
    sys_version = ""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/healthz":
            self._answer(200, {"status": "ok"})
        elif not self._is_allowed():
            self._answer(401, {"error": "the token of this API is missing or wrong"})
        elif url.path == "/units":
            self._answer(200, {"units": {unit: kind for unit, (kind, _) in UNITS.items()}})
        elif url.path == "/caller":
            self._answer(200, {"caller": self._caller()})
        elif url.path == "/convert":
            query = dict(parse_qsl(url.query))
            self._try(lambda: convert(query.get("value", ""), query.get("from", ""), query.get("to", "")))
        else:
            self._answer(404, {"error": "no such path"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True  # the body stays unread, so this connection is of no more use
            self._answer(413 if length else 411, {"error": f"a body of at most {MAX_BODY_BYTES} bytes"})
            return
        body = self.rfile.read(int(length))
        if not self._is_allowed():
            self._answer(401, {"error": "the token of this API is missing or wrong"})
        elif self.path == "/batch":
            self._try(lambda: convert_batch(body))
        else:
            self._answer(404, {"error": "no such path"})

    def _is_allowed(self) -> bool:
        token = os.environ.get("UNITS_TOKEN", "")
        sent = self.headers.get("Authorization", "")
        return not token or hmac.compare_digest(sent.encode(), f"Bearer {token}".encode())

    def _caller(self) -> dict[str, str]:
        wanted = ("x-farebox-", "x-request-id")
        return {
            name.lower(): value for name, value in self.headers.items() if name.lower().startswith(wanted)
        }

    def _try(self, act: Any) -> None:
        try:
            self._answer(200, act())
        except BadRequest as error:
            self._answer(400, {"error": str(error)})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing: whoever runs this reads Farebox's log."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.second", description="A unit converter.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9200, help="0 takes a free one; the address is printed")
    options = parser.parse_args()
    try:
        server = ThreadingHTTPServer((options.host, options.port), Units)
    except OSError as error:
        print(f"units: cannot listen on {options.host}:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"units: http://{options.host}:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
