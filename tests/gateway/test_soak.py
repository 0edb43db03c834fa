"""The soak in short: mixed load on everything real, and every promise but that of memory, which takes minutes to judge."""

import os
import subprocess
import sys

import pytest

from tests.examples.processes import ROOT

SECONDS, RATE = 12, 15
KINDS = ("plain", "stream", "cut", "verify", "charge", "limited", "unknown", "missing", "key_change")
NONE = ("lost", "doubled", "differences", "unexpected_answers", "calls_not_made", "promises_broken")


@pytest.mark.slow
def test_mixed_load_loses_nothing_and_leaves_nothing() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--minutes", str(SECONDS / 60), "--rate", str(RATE)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr[-3000:]
    figures = {name: float(value) for name, value, *_ in map(str.split, ran.stdout.splitlines())}
    assert [kind for kind in KINDS if not figures[f"soak_calls_{kind}"]] == []
    assert figures["soak_acknowledged"] == figures["soak_ledgered"] > SECONDS * RATE / 2
    assert [name for name in NONE if figures[f"soak_{name}"]] == []
    assert {f"soak_gateway_{n}_memory" for n in (1, 2)} < figures.keys()
