"""A sample API as a process of its own, asked over real HTTP."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Api:
    url: str

    def get(
        self, path: str, *, headers: Mapping[str, str] = {}, method: str = "GET", **query: object
    ) -> Answer:
        return self.send(method, f"{path}?{urlencode(query)}" if query else path, headers=headers)

    def post(self, path: str, document: object) -> Answer:
        return self.send("POST", path, body=json.dumps(document).encode())

    def send(
        self, method: str, target: str, *, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        try:
            connection.request(method, target, body, dict(headers))
            response = connection.getresponse()
            sent = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, sent, response.read())
        finally:
            connection.close()


@contextmanager
def running(module: str, **environment: str) -> Iterator[Api]:
    """`python -m <module>` on a free port until the block ends."""
    command = [sys.executable, "-W", "error", "-m", module, "--port", "0"]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield Api(process.stdout.readline().partition(": ")[2].strip())
    finally:
        process.terminate()
        process.communicate(timeout=10)
