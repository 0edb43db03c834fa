"""`python -m tests.billing.stripe.figures`: runs the proofs of payments (STACK.md, R9 to R18) and prints one line of figures each.

`R11 R13` runs only these, `R13=500` so many cases of it, `--quick` as few as the test suite does. A figure is what the tests
themselves counted. Where anything failed its name follows, and the exit status is 1.

Each proof is a run of pytest with servers of its own; of the thousands of requests Stripe's document judges every twentieth
(the test suite judges all of them).
"""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[3]
HERE = "tests/billing/stripe"
BAD_DAYS = ("slow", "down", "lying")  # of Stripe, while calls run: bad_days.py prints a line for each
JUDGED_SHARE = "0.05"


@dataclass(frozen=True, slots=True)
class Figure:
    """`selected` are pytest's arguments, `says` is filled in with what the tests counted; `cases`: how many are asked for."""

    name: str
    selected: tuple[str, ...]
    says: str
    cases: int = 0


FIGURES = (
    Figure(
        "R9", (f"{HERE}/test_races.py", "-k", "not races_leave"),
        "{requests} equal upgrades, 50 at once: {effects} effects of {rounds}; {broken_off} broken off at Stripe and repeated: 1"
        " effect each; at Stripe 50 requests with 1 key: {key_effects} effects of {keys} keys, other bodies refused {refused}", 20,
    ),
    Figure(
        "R10", (f"{HERE}/test_event_orders.py",),
        "{alike}/{orders} orders, {events} events on 4 connections: the same state; side effects once in {told_once}/{orders}", 200,
    ),
    Figure(
        "R11", (f"{HERE}/test_races.py", "-k", "races_leave"),
        "{runs} runs, {races} races: active 1 each, prorations {prorations} for {upgrades} upgrades, deadlocks {deadlocks}", 100,
    ),
    Figure("R13", (f"{HERE}/test_shown_is_charged.py",), "{to_the_cent}/{changes} to the cent", 5_000),
    Figure(
        "R14", (f"{HERE}/test_lost_webhooks.py",),
        "{customers} customers, webhooks lost for 72 h: found {found}, mended {mended}, left {left}, second run {second}", 8,
    ),
    Figure(
        "R17", (f"{HERE}/test_charged_once.py",),
        "charged twice {twice} of {rows} meter events ({lost} answers lost, {late} decided after the 24 h window);"
        " {equal}/{invoices} invoices are what was used", 12,
    ),
    Figure(
        "R18", (f"{HERE}/test_two_beats.py",),
        "{tasks} tasks by two beats and once more, {past_hours} past hours again: {doubled} effects twice;"
        " {statements} statements, {equal}/{invoices} invoices equal", 6,
    ),
    Figure("scenario", (f"{HERE}/test_scenario_browser.py",), ""),
    Figure("scenario_by_api", (f"{HERE}/test_scenario_api.py", "-k", "stand_in"), ""),
)  # fmt: skip
SANDBOX = Figure("sandbox", (f"{HERE}/test_scenario_api.py", "-k", "sandbox"), "")


def measure(figure: Figure, cases: int | None) -> tuple[str, bool]:
    """The line to print, and whether everything that was asked for ran and passed. `cases` None: as the test suite does."""
    if not (ROOT / figure.selected[0]).exists():
        return "not run (no such tests)", False
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", "-o", "junit_family=xunit1",
            *figure.selected,
        ]  # fmt: skip
        environment = dict(os.environ)
        if cases:
            environment |= {f"FAREBOX_FIGURE_{figure.name}": str(cases), "FAREBOX_JUDGED_SHARE": JUDGED_SHARE}
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False)
        if not report.exists():
            return "not run (pytest did not start)", False
        line, is_good = _line(figure, list(ElementTree.parse(report).iter("testcase")))
        if done.returncode not in (0, 1):
            line += f"\n  broken off: pytest ended with status {done.returncode}"
        return line, is_good and not done.returncode


def _line(figure: Figure, cases: list[ElementTree.Element]) -> tuple[str, bool]:
    """What the tests counted, added up; without a sentence of its own: how many passed. What failed is named."""
    counted: Counter[str] = Counter()
    for found in (each for case in cases for each in case.iter("property")):
        counted[found.get("name", "")] += int(found.get("value", "0"))
    skipped = sum(case.find("skipped") is not None for case in cases)
    bad = [
        case.get("name", "")
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    run = len(cases) - skipped
    passed = f"{run - len(bad)}/{run}" + (f", {skipped} not run" if skipped else "")
    try:
        line = figure.says.format(**counted) if figure.says else passed
    except KeyError as uncounted:  # a test that failed before it could say anything
        line = f"{passed} tests (nothing counted for {uncounted})"
    return "\n  failed: ".join([line, *bad]), bool(run) and not bad


def _say(name: str, value: str) -> None:
    sys.stdout.write(f"{name} {value}\n")
    sys.stdout.flush()


def main() -> int:
    is_quick = "--quick" in sys.argv
    wanted = dict(word.partition("=")[::2] for word in sys.argv[1:] if not word.startswith("-"))
    known = {figure.name for figure in FIGURES} | {*BAD_DAYS, "cli", SANDBOX.name}
    if unknown := set(wanted) - known:
        sys.stderr.write(f"unknown: {', '.join(sorted(unknown))}\n")
        return 2
    good = True
    for figure in FIGURES:
        if not wanted or figure.name in wanted:
            line, passed = measure(figure, None if is_quick else int(wanted.get(figure.name) or figure.cases))
            good = good and passed
            _say(figure.name, line)
    return 0 if all([good, *_by_programs(wanted, is_quick=is_quick), _in_a_sandbox(wanted)]) else 1


def _by_programs(wanted: Container[str], *, is_quick: bool) -> Iterator[bool]:
    """What programs of their own print: Stripe's bad days, and Stripe's own command line."""
    if bad_days := [name for name in BAD_DAYS if not wanted or name in wanted]:
        short = ["--rounds", "1", "--seconds", "5"] if is_quick else []
        yield _run("bad_days", *short, *bad_days) == 0
    if not wanted or "cli" in wanted:
        yield _run("cli_events") in (0, 2)  # 2: Stripe's program is not there, which it says itself


def _run(module: str, *words: str) -> int:
    command = [sys.executable, "-m", f"tests.billing.stripe.{module}", *words]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _in_a_sandbox(wanted: Container[str]) -> bool:
    if wanted and SANDBOX.name not in wanted:
        return True
    if not os.environ.get("STRIPE_TEST_SECRET_KEY"):
        _say(SANDBOX.name, "not run (STRIPE_TEST_SECRET_KEY is not set)")
        return True
    line, passed = measure(SANDBOX, None)
    _say(SANDBOX.name, line)
    return passed


if __name__ == "__main__":
    raise SystemExit(main())
