"""`make demo` itself: everything starts, a call goes through, a second start keeps the data, nothing stays behind."""

import json
import signal
import time

import pytest

from tests.demo import Demo
from tests.http import status_of


@pytest.mark.slow
def test_demo_serves_a_call_survives_kills_and_keeps_its_data(demo: Demo) -> None:
    printed = demo.start()
    facts = json.loads((demo.state / "demo.json").read_text())

    assert facts["key"] in printed
    assert facts["staff"]["email"] in printed
    assert status_of(facts["curl_url"], facts["key"]) == 200
    assert status_of(facts["curl_url"], "fb_live_wrong") == 401
    assert oct((demo.state / "demo.json").stat().st_mode & 0o777) == "0o600"

    demo.stop(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while demo.descendants() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert demo.descendants() == []

    started = time.monotonic()
    demo.start()
    assert time.monotonic() - started < 30  # 10 s on a machine that does nothing else
    assert status_of(facts["curl_url"], facts["key"]) == 200
    assert demo.stop() == 0
    assert demo.descendants() == []
    assert not (demo.state / "servers.json").exists()
