"""nginx with Lua and Redis as a metering gateway, and nginx as its upstream: configurations, and the records of its keys.

A record is what Farebox's own worker knows of a key, with Farebox's own script calls made ready: this module asks
`admit_call` and `settle_call` for the calls of one admission and writes them as Lua in which the parts that differ from call
to call (nonce, time, ids, sizes) are variables. So both gateways send Redis the very same words.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.kit import running, warn
from benchmarks.peer.upstream import BODY
from core.clock import to_micros
from core.ids import event_id
from core.redis import usage_redis
from deploy.local.ports import free_port
from gateway.routes import load_route_table
from keys.hashing import digest
from keys.records import load_record
from metering.admission import Outcome, admission, call_event
from metering.calls import Admitted, Settlement
from metering.script_calls import Call, admit_call, settle_call

SOURCES = Path(__file__).parent / "nginx_lua"
MODULES = (
    Path("/usr/lib/nginx/modules/ngx_http_lua_module.so"),
    Path("/usr/share/lua/5.1/nginx/redis.lua"),
    Path("/usr/share/lua/5.1/resty/lrucache.lua"),
    Path("/usr/share/lua/5.1/resty/core.lua"),
)
PACKAGES = "nginx libnginx-mod-http-lua lua-nginx-redis lua-resty-core lua-resty-lrucache"
# Values that stand for what differs from call to call; nothing else of a call looks like them.
AT, NONCE, REQUEST_ID, DURATION, SIZE = (
    1_700_000_000_123_457,
    0x2F0_1234_5678_9ABC_DEF0,
    "req_@",
    987_654_321,
    876_543_219,
)
VARIABLES = {
    str(event_id(AT, NONCE)): "event_id",
    f"{NONCE:x}": "nonce",
    str(AT): "at",
    REQUEST_ID: "request_id",
    str(DURATION): "duration",
    str(SIZE): "size",
}


def find_nginx() -> str | None:
    """Its path where everything that the peer needs is installed."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    return program if all(module.exists() for module in MODULES) else None


@contextmanager
def serving_static(program: str) -> Iterator[tuple[str, int]]:
    """nginx as the upstream: its address and process."""
    with _serving(program, "upstream.conf", "/", {"body": BODY.decode()}, {}) as found:
        yield found


@contextmanager
def serving_peer(
    program: str, *, upstream_url: str, key: str, slug: str, at: datetime
) -> Iterator[tuple[str, int]]:
    """nginx as the gateway of one key to this product's `/answer`: its address and process."""
    redis = usage_redis().connection_pool.connection_kwargs
    values = {
        "upstream": urlsplit(upstream_url).netloc, "sources": str(SOURCES),
        "redis_host": str(redis["host"]), "redis_port": str(redis["port"]),
        "redis_password": redis.get("password") or "",
    }  # fmt: skip
    records = {"records.lua": record_file(key, slug, at)}
    with _serving(program, "nginx.conf", "/ready", values, records) as found:
        yield found


@contextmanager
def _serving(
    program: str, name: str, ready: str, values: Mapping[str, str], files: Mapping[str, str]
) -> Iterator[tuple[str, int]]:
    with tempfile.TemporaryDirectory(prefix="farebox-nginx-") as where:
        folder, port = Path(where), free_port()
        user = "user root;" if os.geteuid() == 0 else ""
        text = (SOURCES / name).read_text()
        for word, value in {"folder": where, "port": str(port), "user": user, **values}.items():
            text = text.replace(f"$[{word}]", value)
        for path, content in {"nginx.conf": text, **files}.items():
            (folder / path).write_text(content)
        argv = [program, "-p", where, "-e", f"{where}/error.log", "-c", f"{where}/nginx.conf"]
        url = f"http://127.0.0.1:{port}"
        with running(argv, url + ready) as pid:
            try:
                yield url, pid
            finally:
                _tell_faults((folder / "error.log").read_text())


def _tell_faults(log: str) -> None:
    if faults := [line for line in log.splitlines() if " [error] " in line or " [alert] " in line]:
        warn("as it should be: the nginx of the comparison had faults\n" + "\n".join(faults[:5]))


def record_file(key: str, slug: str, at: datetime) -> str:
    """The worker's records as a Lua table by SHA-256."""
    hashed = digest(key)
    record, match = load_record(hashed, at=at), load_route_table().find("GET", f"/{slug}/answer")
    assert record is not None, slug
    assert match is not None, slug
    assert match.route is not None, slug
    span, target = record.span_at(to_micros(at)), match.route.target
    assert span is not None
    ((seconds, limit),) = record.windows
    request = admission(record, span, target, nonce=NONCE)
    admitted = Admitted(AT, event_id(AT, NONCE), f"{NONCE:x}", "", 0, (), None)
    outcome = Outcome(200, "", DURATION, 0, SIZE)
    event = call_event(
        record, request, target, outcome, admitted=admitted, door="gateway", request_id=REQUEST_ID
    ).to_json()
    settlement = Settlement.of(request, units=target.units, event=event)
    facts = {
        "organization": record.organization_public_id, "plan": record.plan_slug, "key_id": record.key_public_id,
        "mode_name": record.mode, "units": match.route.units_text, "policy": f'"minute";q={limit};w={seconds}',
        "window_limit": limit, "window_seconds": seconds,
    }  # fmt: skip
    fields = [
        f"{name} = {value if isinstance(value, int) else _quoted(str(value).encode())}"
        for name, value in facts.items()
    ]
    fields += [f"admit = {_function(admit_call(request))}", f"settle = {_function(settle_call(settlement))}"]
    return f"return {{ [{_quoted(hashed)}] = {{\n  " + ",\n  ".join(fields) + "\n} }\n"


def _function(call: Call[Any]) -> str:
    """A script call as a Lua function of the client and the call's own values."""
    source = call.script.source
    usage_redis().script_load(source)
    words: list[str | bytes] = [call.script.sha, str(len(call.keys)), *call.keys, *call.args]
    if not any(f"{NONCE:x}" in str(word) for word in words):
        raise SystemExit("no call names its reservation any more: benchmarks/peer/nginx.py has to be mended")
    return f"function(redis, c) return redis:evalsha({', '.join(map(_expression, words))}) end"


def _expression(word: str | bytes) -> str:
    """A word as Lua: literal text, joined with variables where it has them."""
    parts: list[str | bytes] = [word.encode() if isinstance(word, str) else word]
    for value, name in VARIABLES.items():
        parts = [piece for part in parts for piece in _split(part, value.encode(), name)]
    return " .. ".join(_quoted(part) if isinstance(part, bytes) else f"c.{part}" for part in parts)


def _split(part: str | bytes, value: bytes, name: str) -> list[str | bytes]:
    if isinstance(part, str):
        return [part]
    first, *others = part.split(value)
    pieces: list[str | bytes] = [first]
    for other in others:
        pieces += [name, other]
    return [piece for piece in pieces if piece] if others else [part]


def _quoted(text: bytes) -> str:
    """A Lua string of any bytes."""
    return (
        '"' + "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\' else f"\\{b:03d}" for b in text) + '"'
    )
