"""What a soak says at its end, and whether its promises were kept."""

import sys
from collections import Counter
from dataclasses import dataclass

from benchmarks.kit import tell
from benchmarks.soak_load import Promises
from benchmarks.soak_watch import Watch, growth

MOST_GROWTH = 0.05
JUDGED_FROM = 300.0  # seconds: before that a process is still warming up
SPARE_DESCRIPTORS = 8  # connections of calls that were open at the moment of a sample
SPARE_KEYS = 5
# They go by themselves: markers of settled calls after 10 minutes, claims of charges after 7 days, windows of rate limits and
# refusals of a minute a while after their last call. Their number is that of the calls, not of time.
OF_CALLS = ("done", "claim", "ref")
SERVERS = ("valkey",)  # holds the stream and the markers of ten minutes: told, not judged


@dataclass(frozen=True)
class Ledger:
    """What PostgreSQL has of what was promised."""

    ledgered: int
    lost: int
    doubled: int
    differences: int

    @classmethod
    def read(cls, promises: Promises, *, timeout: float) -> "Ledger":
        """Once everything is drained."""
        from core.clock import now
        from metering.models import UsageEvent
        from metering.reconcile import reconcile

        outcome = reconcile(at=now(), timeout_seconds=timeout)
        for difference in outcome.differences:
            print(difference, file=sys.stderr)
        rows = UsageEvent.objects.values_list("request_id", "meter_id")
        stored = Counter(rows)
        names, promised = {request_id for request_id, _ in stored}, set(promises.acknowledged)
        doubled = sum(times > 1 for times in stored.values()) + len(promises.acknowledged) - len(promised)
        return cls(len(promised & names), len(promised - names), doubled, len(outcome.differences))


class _Verdict:
    """Counts promises that were not kept; every line says what was asked for."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def tell(self, name: str, value: float, unit: str, *, most: float, digits: int = 0) -> None:
        tell(name, value, unit, digits=digits, asked=f"at most {most:g}" if most else "0")
        if value > most:
            self.broken.append(name)


def report(promises: Promises, ledger: Ledger, watch: Watch, *, seconds: float, rate: float) -> bool:
    """Print all lines: whether everything was kept."""
    verdict = _Verdict()
    _tell_calls(verdict, promises, ledger, seconds, rate)
    _tell_processes(verdict, watch, is_judged=seconds >= JUDGED_FROM)
    _tell_keys(verdict, watch)
    for line in promises.unexpected[:10]:
        print(f"unexpected: {line}", file=sys.stderr)
    tell("soak_promises_broken", len(verdict.broken), "promises", asked="0")
    for name in verdict.broken:
        print(f"!!! NOT KEPT: {name}", file=sys.stderr, flush=True)
    return not verdict.broken


def _tell_calls(verdict: _Verdict, promises: Promises, ledger: Ledger, seconds: float, rate: float) -> None:
    made = sum(promises.calls.values())
    tell("soak_calls", made, "calls")
    for kind, count in sorted(promises.calls.items()):
        tell(f"soak_calls_{kind}", count, "calls")
    tell("soak_rate", made / seconds, "calls/s", digits=1, asked=f"{rate:g}")
    verdict.tell("soak_calls_not_made", promises.behind, "calls", most=0)
    verdict.tell("soak_unexpected_answers", len(promises.unexpected), "answers", most=0)
    tell("soak_acknowledged", len(promises.acknowledged), "calls")
    tell("soak_ledgered", ledger.ledgered, "calls", asked=f"{len(promises.acknowledged)}")
    verdict.tell("soak_lost", ledger.lost, "calls", most=0)
    verdict.tell("soak_doubled", ledger.doubled, "calls", most=0)
    verdict.tell("soak_differences", ledger.differences, "differences", most=0)


def _tell_processes(verdict: _Verdict, watch: Watch, *, is_judged: bool) -> None:
    for name, seen in watch.seen.items():
        label = f"soak_{name.replace('-', '_')}"
        before, after = growth(seen.memory_kb)
        tell(f"{label}_memory", after / 1024, "MB", digits=1)
        grown = (after / before - 1) * 100
        if is_judged and name not in SERVERS:
            verdict.tell(f"{label}_memory_growth", grown, "%", digits=1, most=MOST_GROWTH * 100)
        else:
            tell(f"{label}_memory_growth", grown, "%", digits=1, asked="not judged")
        before, after = growth(seen.descriptors)
        verdict.tell(
            f"{label}_more_descriptors", max(0, after - before), "descriptors", most=SPARE_DESCRIPTORS
        )
        verdict.tell(f"{label}_restarts", seen.restarts, "times", most=0)


def _tell_keys(verdict: _Verdict, watch: Watch) -> None:
    kinds = sorted({kind for sample in watch.keys for kind in sample})
    for kind in kinds:
        before, after = growth(watch.keys_of(kind))
        if kind in OF_CALLS:
            tell(f"soak_keys_{kind}", after, "keys", asked="as many as calls: they expire")
            continue
        tell(f"soak_keys_{kind}", after, "keys")
        verdict.tell(f"soak_more_keys_{kind}", max(0, after - before), "keys", most=SPARE_KEYS)
