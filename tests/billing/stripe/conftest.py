"""The stand-in for Stripe as a process of its own, once a run; each test finds it empty."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe
from django.conf import LazySettings

ROOT = Path(__file__).resolve().parents[3]
JUDGE = "tests.stripe_standin.openapi:judge"
TEST_KEY = "sk_test_" + "4eC39HqLyjWDarjtT1zdp7dc"


class Standin:
    """`url` answers as Stripe's API does; `control` is what the real one has nothing like (`/_standin/`)."""

    def __init__(self, url: str) -> None:
        self.url = url

    def control(self, path: str, method: str = "GET", sent: dict[str, Any] | None = None) -> Any:
        body = json.dumps(sent or {}).encode() if method != "GET" else None
        request = urllib.request.Request(f"{self.url}/_standin/{path}", body, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def fault(self, kind: str, method: str, path: str, **more: Any) -> None:
        self.control("faults", "POST", {"kind": kind, "method": method, "path": path, **more})


@pytest.fixture(scope="session")
def standin_process() -> Iterator[Standin]:
    """Only starts and ends it; tests ask for `stripe_standin`."""
    command = [sys.executable, "-m", "stripe_standin", "--port", "0", "--judge", JUDGE]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Standin(process.stdout.readline().rpartition(" ")[2].strip())
        finally:
            process.terminate()


@pytest.fixture
def stripe_standin(
    standin_process: Standin, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Standin]:
    """An empty Stripe account that this installation is configured for. What violates Stripe's document fails the test."""
    standin_process.control("reset", "POST")
    settings.STRIPE_SECRET_KEY = TEST_KEY
    settings.STRIPE_API_HOST = standin_process.url
    monkeypatch.setattr(
        stripe, "api_base", standin_process.url
    )  # dj-stripe reads the setting when it is imported
    yield standin_process
    found = standin_process.control("violations")
    assert found["judged"]
    assert found["violations"] == []
