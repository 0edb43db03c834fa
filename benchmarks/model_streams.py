"""Streams of a language model through the gateway, or straight from benchmarks/peer/models.py: their sale, and their clients."""

import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlsplit

import orjson

from benchmarks.kit import ROOT, warn
from gateway.descriptors import raise_descriptor_limit

MODEL = "gpt-bench"
TOKEN = b'"word "'
END = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"


@contextmanager
def serving_models() -> Iterator[str]:
    """The API of the model until the block ends: its address."""
    argv = [sys.executable, "-m", "benchmarks.peer.models"]
    process = subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | {"LOG_LEVEL": "ERROR"}
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(15)
        process.stdout.close()


def sell_models(url: str) -> str:
    """The model at this address, and a customer without a limit in its way: the key in clear."""
    from plans.language_catalogue import install_language_models
    from tests.factories import create_key, create_organization
    from tests.gateway.language.kit import add_model, token_meter, usage_meter
    from tests.plans.price_kit import component, put_on, version_of

    install_language_models(upstream_url=url)
    add_model(MODEL)
    organization = create_organization()
    meters = (usage_meter(), token_meter())
    put_on(
        organization, version_of(*(component(one, model="per_unit", unit_price=Decimal(1)) for one in meters))
    )
    return create_key(organization=organization).clear


def room_for(streams: int, *, beside: int = 500) -> int:
    """As many of these streams as the gateway has descriptors for, two a stream; says so where those are fewer."""
    raise_descriptor_limit()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = streams if hard == resource.RLIM_INFINITY else min(streams, (hard - beside) // 2)
    if possible < streams:
        warn(
            f"{streams} open streams, only {possible}: the hard limit of descriptors is {hard} (`ulimit -Hn`)"
        )
    return possible


def request(url: str, key: str, *, pieces: int = 0, pause: float = 1.0, model: str = MODEL) -> bytes:
    """A call of chat completions: the first piece at once, then so many, with a pause before each."""
    messages = [{"role": "user", "content": "Say something."}]
    body = orjson.dumps(
        {"model": model, "stream": True, "max_tokens": 10_000, "messages": messages,
         "stream_options": {"include_usage": True}}
    )  # fmt: skip
    lines = [
        "POST /v1/chat/completions HTTP/1.1", f"Host: {urlsplit(url).netloc}", f"Authorization: Bearer {key}",
        "Content-Type: application/json", f"X-Pieces: {pieces}", f"X-Pause: {pause}", f"Content-Length: {len(body)}",
    ]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode() + body


class StreamFailed(Exception):
    """No stream came, or it broke off."""


@dataclass
class Client:
    """One connection that asks for streams."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    read: bytes = b""

    @classmethod
    async def connect(cls, url: str) -> "Client":
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def ask(self, request: bytes) -> float:
        """Seconds until the first piece of text."""
        began, self.read = time.perf_counter(), b""
        self.writer.write(request)
        while TOKEN not in self.read:
            await self._more()
        return time.perf_counter() - began

    async def finish(self) -> int:
        """Read to the end: how many pieces of text came."""
        while not (self.read.endswith(LAST_CHUNK) and END in self.read):
            await self._more()
        return self.read.count(TOKEN)

    def cut(self) -> None:
        """Be gone without a word."""
        self.writer.transport.abort()

    async def _more(self) -> None:
        data = await self.reader.read(65_536)
        self.read += data
        if not data or not self.read.startswith(b"HTTP/1.1 200"):
            raise StreamFailed(self.read[:300].decode("latin-1") or "the connection was closed")
