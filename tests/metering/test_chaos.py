import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KILLS = 5  # each process once; `make chaos` does 25


@pytest.mark.slow
def test_whatever_is_killed_each_acknowledged_call_is_in_the_ledger_exactly_once() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", "--kills", str(KILLS)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    figures = dict(line.split() for line in ran.stdout.splitlines())
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert figures["kills"] == str(KILLS)
    assert (figures["lost"], figures["doubled"], figures["differences"]) == ("0", "0", "0")
    assert int(figures["acknowledged"]) == int(figures["ledgered"]) > 0
