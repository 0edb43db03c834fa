"""The stand-in for Stripe as a process of its own, once a run; each test finds it empty."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import stripe
from django.conf import LazySettings

ROOT = Path(__file__).resolve().parents[3]
JUDGE = "tests.stripe_standin.openapi:judge"
TEST_KEY = "sk_test_" + "4eC39HqLyjWDarjtT1zdp7dc"


class Standin:
    """`url` answers as Stripe's API does; `control` is what the real one has nothing like (`/_standin/`). `writes`: what our
    code posted in this test, with its idempotency keys."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.writes: list[tuple[str, str]] = []

    def at_request(self, method: str) -> None:
        """Each request of our code passes here, for tests that look at what is held meanwhile."""

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
    sent = standin_process.writes = []
    _watch(standin_process, monkeypatch)
    yield standin_process
    assert [where for where, key in sent if not key.startswith("farebox:")] == []
    found = standin_process.control("violations")
    assert found["judged"]
    assert found["violations"] == []


def _watch(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Note each POST that code of `billing` sends, with its idempotency key. What tests send themselves is theirs, and meter
    events have identifiers instead."""
    plain_request = stripe.RequestsClient.request

    def request(self: Any, method: str, url: str, headers: Any, post_data: Any = None) -> Any:
        caller = _caller(sys._getframe(1))
        if caller:
            standin.at_request(method)
        if method == "post" and caller and not url.endswith("/billing/meter_events"):
            standin.writes.append((f"{caller} {url}", headers.get("Idempotency-Key", "")))
        return plain_request(self, method, url, headers, post_data)

    monkeypatch.setattr(stripe.RequestsClient, "request", request)


def _caller(frame: FrameType | None) -> str:
    """The first file outside the library on the way up, when it is one of `billing`; '' else."""
    library = str(Path(stripe.__file__).parent)
    while frame is not None and (
        frame.f_code.co_filename.startswith(library) or frame.f_code.co_filename == __file__
    ):
        frame = frame.f_back
    name = frame.f_code.co_filename if frame is not None else ""
    return name if name.startswith(str(ROOT / "billing")) else ""
