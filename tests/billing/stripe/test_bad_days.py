import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_calls_pass_while_stripe_is_slow_down_and_lying_and_all_is_told_once() -> None:
    """One short round of each; `make stripe-figures` has several, which tell p99 from the machine's noise."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.billing.stripe.bad_days", "--rounds", "1", "--seconds", "3"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr[-3000:]
    lines = {line.partition(" ")[0]: line for line in ran.stdout.splitlines()}
    assert set(lines) == {"slow", "down", "lying"}
    for line in lines.values():
        assert ", refused 0," in line
        assert "usage that waited 0," not in line
        assert line.endswith("everything synced afterwards yes, counted twice 0")
