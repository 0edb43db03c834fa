"""The load generators of `make bench` agree with each other and refuse to measure failures."""

import asyncio
import shutil

import pytest

from benchmarks.load import CallsFailed, Load, _by_clients, _percentile, load
from tests.examples.processes import running


def test_own_clients_measure_where_wrk_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with running("tests.gateway.upstream") as upstream:
        measured = load(f"{upstream.url}/empty", {"X-API-Key": "k"}, 0.3)

        assert isinstance(measured, Load)
        assert measured.calls > 50
        assert 0 < measured.p50 <= measured.p99
        assert load(f"{upstream.url}/empty", {}, 0.2, body='{"a": 1}').calls > 10
        with pytest.raises(ExceptionGroup) as caught:
            asyncio.run(_by_clients(f"{upstream.url}/status/503", {}, 0.1, body="", connections=2))
    assert caught.group_contains(CallsFailed)


@pytest.mark.parametrize(
    ("line", "ms"), [("50%  870.00us", 0.87), ("50%    1.50ms", 1.5), ("50%    2.00s", 2000)]
)
def test_times_of_wrk_are_read_as_milliseconds(line: str, ms: float) -> None:
    assert _percentile(f"  Latency Distribution\n     {line}\n     99%    9.00ms", 50) == pytest.approx(ms)
