"""`python -m tests.billing.stripe.figures`: runs the proofs of payments so many times and prints `name value`, one a line.

`--quick` runs each once; names (`R11 R13`) run only these. A line says `passed/run`; what failed is repeated below it, and the exit status is 1.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[3]
HERE = "tests/billing/stripe"
BAD_DAYS = ("slow", "down", "lying")  # of Stripe, while calls run: bad_days.py prints a line for each


@dataclass(frozen=True, slots=True)
class Figure:
    """`selected` are pytest's arguments; `repeat` is what the tests take from FAREBOX_STRIPE_REPEAT."""

    name: str
    selected: tuple[str, ...]
    repeat: int = 1


FIGURES = (
    Figure("R9_equal_requests_one_effect", (f"{HERE}/test_races.py", "-k", "equal_upgrades"), 25),
    Figure("R10_events_ten_times_in_random_orders", (f"{HERE}/test_event_orders.py",), 20),
    Figure("R11_races", (f"{HERE}/test_races.py", "-k", "not equal and not shown"), 34),
    Figure("R13_shown_is_charged", (f"{HERE}/test_races.py", "-k", "shown"), 20),
    Figure("R14_lost_webhooks_mended", (f"{HERE}/test_reconcile.py",)),
    Figure(
        "R17_nothing_counted_twice",
        (f"{HERE}/test_usage_standin.py", f"{HERE}/test_calls_without_stripe.py", "-k", "twice or window or storm or day"),
    ),
    Figure("R18_two_beats_one_effect", (f"{HERE}/test_usage_standin.py", f"{HERE}/test_usage_sender.py", "-k", "two or beat or again")),
    Figure("scenario", (f"{HERE}/test_scenario_browser.py",)),
    Figure("scenario_by_api", (f"{HERE}/test_scenario_api.py", "-k", "stand_in")),
)  # fmt: skip
SANDBOX = Figure("sandbox", (f"{HERE}/test_scenario_api.py", "-k", "sandbox"))


def measure(figure: Figure, *, is_quick: bool) -> tuple[str, bool]:
    """The line to print, and whether everything that was asked for ran and passed."""
    if not (ROOT / figure.selected[0]).exists():
        return "not run (no such tests)", False
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *figure.selected,
        ]  # fmt: skip
        repeat = "1" if is_quick else str(figure.repeat)
        environment = os.environ | {
            "FAREBOX_STRIPE_REPEAT": repeat,
            "FAREBOX_STRIPE_ORDERS": str(10 * int(repeat)),
        }
        subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False)
        if not report.exists():
            return "not run (pytest did not start)", False
        cases = list(ElementTree.parse(report).iter("testcase"))
    skipped = sum(case.find("skipped") is not None for case in cases)
    bad = [
        case.get("name", "")
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    run = len(cases) - skipped
    line = f"{run - len(bad)}/{run}" + (f", {skipped} not run" if skipped else "")
    return "\n  failed: ".join([line, *bad]), bool(run) and not bad


def _say(name: str, value: str) -> None:
    sys.stdout.write(f"{name} {value}\n")
    sys.stdout.flush()


def main() -> int:
    asked_for, is_quick, good = sys.argv[1:], "--quick" in sys.argv, True
    names = [name for name in asked_for if not name.startswith("-")]
    for figure in FIGURES:
        if names and figure.name.partition("_")[0] not in names:
            continue
        line, passed = measure(figure, is_quick=is_quick)
        good = good and passed
        _say(figure.name, line)
    if bad_days := [name for name in BAD_DAYS if not names or name in names]:
        short = ["--rounds", "1", "--seconds", "5"] if is_quick else []
        command = [sys.executable, "-m", "tests.billing.stripe.bad_days", *short, *bad_days]
        good = subprocess.run(command, cwd=ROOT, check=False).returncode == 0 and good
    if not names or "cli" in names:  # 2: Stripe's program is not there, which it says itself
        command = [sys.executable, "-m", "tests.billing.stripe.cli_events"]
        good = subprocess.run(command, cwd=ROOT, check=False).returncode in (0, 2) and good
    if not os.environ.get("STRIPE_TEST_SECRET_KEY"):
        _say("sandbox", "not run (STRIPE_TEST_SECRET_KEY is not set)")
    elif not names or "sandbox" in names:
        line, passed = measure(SANDBOX, is_quick=is_quick)
        good = good and passed
        _say("sandbox", line)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
