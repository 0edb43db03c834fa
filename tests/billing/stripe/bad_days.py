"""`python -m tests.billing.stripe.bad_days`: Stripe slow, down and lying while calls run through a real gateway.

Everything is a process of its own: gateway, upstream, the worker that drains, beat, the stand-in, and one that tells Stripe
what beat would have told. Rounds of steady calls take turns, without and with the fault, so that the noise of a busy
machine is known: how far the 99th percentiles of rounds without a fault are apart. After each round with a fault what waited
is told, and each customer's figure at Stripe is held against the ledger.

- slow: each answer of Stripe comes after 30 s;
- down: nobody listens, for a day of the clock that beats go by;
- lying: each request has its effect and is answered with 500.

Prints a line for each; exits 1 when a call was refused, a sum differs, something was counted twice, or p99 leaves its noise.
"""

import argparse
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median

import django

from deploy.local import programs
from deploy.local.process import Program
from tests.billing.stripe.machine import ROOT, Machine, again_with_servers, machine_of_its_own, settings_of
from tests.billing.stripe.steady import Calls, call_steadily

MODES = ("slow", "down", "lying")
SECONDS = {"slow": 45.0, "down": 20.0, "lying": 20.0}  # of a round: slow requests have to end within theirs
FAULTS = {"slow": ("slow", 30), "lying": ("error_after", 0)}
DAY, STEP = timedelta(days=1), timedelta(minutes=20)
PATIENCE = 240.0
PATH = "/places/v1/cities/2950159"


@dataclass
class Result:
    """Of one mode: all rounds with the fault, and those without."""

    name: str
    with_fault: list[Calls] = field(default_factory=list)
    without: list[Calls] = field(default_factory=list)
    waiting: int = 0  # rows of usage that Stripe had not taken when the fault ended
    unequal: list[str] = field(default_factory=list)
    twice: int = 0

    def calls(self) -> Calls:
        total = Calls()
        for one in self.with_fault:
            total.add(one)
        return total

    @property
    def ratio(self) -> float:
        return median(one.p99 for one in self.with_fault) / median(one.p99 for one in self.without)

    @property
    def noise(self) -> float:
        """How far two rounds without a fault are apart; 1.00, which says nothing, when there was only one."""
        found = [one.p99 for one in self.without]
        return max(found) / min(found)

    @property
    def is_good(self) -> bool:
        quiet = len(self.without) < 2 or self.ratio <= self.noise
        refused = sum(one.refused.total() for one in [*self.with_fault, *self.without])
        return quiet and bool(self.waiting) and not (refused or self.unequal or self.twice)

    def __str__(self) -> str:
        calls = self.calls()
        with_fault, without = (
            median(one.p99 for one in rounds) for rounds in (self.with_fault, self.without)
        )
        synced = "yes" if not self.unequal else "NO: " + "; ".join(self.unequal)
        return (
            f"calls {len(calls.seconds)}, refused {calls.refused.total()}, p50 {calls.p50:.1f} ms, p99 {with_fault:.1f} ms, "
            f"p99 without {without:.1f} ms, p99 ratio {self.ratio:.2f}, noise of the run without {self.noise:.2f}, "
            f"usage that waited {self.waiting}, everything synced afterwards {synced}, counted twice {self.twice}"
        )


@contextmanager
def bad(machine: Machine, mode: str, seconds: float) -> Iterator[None]:
    """Stripe is like this inside the block."""
    if mode == "down":
        with _down(machine, seconds):
            yield
        return
    kind, delay = FAULTS[mode]
    machine.control("faults", "POST", {"kind": kind, "path": "^/v[12]/", "times": None, "seconds": delay})
    try:
        yield
    finally:
        machine.control("faults", "DELETE")


@contextmanager
def _down(machine: Machine, seconds: float) -> Iterator[None]:
    """A day goes by for those who want to tell it something; Stripe's own clock is put forward before."""
    machine.control("clock/advance", "POST", {"seconds": int(DAY.total_seconds())})
    machine.stop("stripe")
    began, before = time.monotonic(), machine.ahead()
    over = threading.Event()

    def pass_the_day() -> None:
        while not over.wait(0.2):
            share = min((time.monotonic() - began) / seconds, 1)
            machine.set_clock(before + int(DAY.total_seconds() * share))

    passing = threading.Thread(target=pass_the_day)
    passing.start()
    try:
        yield
    finally:
        over.set()
        passing.join()
        machine.set_clock(before + int(DAY.total_seconds()))
        machine.start_stripe()


def measure(machine: Machine, mode: str, *, rounds: int, seconds: float) -> Result:
    result = Result(mode)
    url = f"{machine.ports.gateway_url}{PATH}"
    for _ in range(rounds):
        result.without.append(call_steadily(url, machine.keys, seconds))
        settle(machine)
        with bad(machine, mode, seconds):
            result.with_fault.append(call_steadily(url, machine.keys, seconds))
            result.waiting += _unsent()
        settle(machine)
    if rounds > 1:  # as many without after a fault as before one
        result.without.append(call_steadily(url, machine.keys, seconds))
        settle(machine)
    for organization, used, counted in figures(machine):
        if counted != used:
            result.unequal.append(f"{organization} used {used}, Stripe has {counted}")
        result.twice += max(counted - used, 0)
    return result


def settle(machine: Machine) -> None:
    """Until everything is told, or patience ends: time passes only while something waits for its next attempt."""
    from core.redis import usage_redis
    from core.redis_layout import SHARDS, stream_key

    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(1)
        if any(usage_redis().xlen(stream_key(shard)) for shard in range(SHARDS)):
            continue
        if not _unsent() and all(used == counted for _, used, counted in figures(machine)):
            return
        if _is_repeating(machine):
            machine.pass_time(STEP)


def _unsent() -> int:
    from billing.models import StripeUsage, UsageState

    return StripeUsage.objects.exclude(state=UsageState.SENT).count()


def _is_repeating(machine: Machine) -> bool:
    """Whether rows wait for a time that has not come yet."""
    from billing.models import StripeUsage, UsageState
    from core.clock import now

    own = now() + timedelta(seconds=machine.ahead())
    unsent = StripeUsage.objects.exclude(state=UsageState.SENT)
    return (
        not unsent.filter(state=UsageState.SENDING).exists()
        and unsent.filter(next_attempt_at__gt=own).exists()
    )


def figures(machine: Machine) -> list[tuple[str, int, int]]:
    """Of each customer: name, what the ledger has, what Stripe counted."""
    from django.db.models import Sum

    from billing.models import StripeCustomer, StripeMeter
    from billing.stripe.sink import StripeSink
    from metering.models import UsageEvent

    found = []
    meter, sink = StripeMeter.objects.get(), StripeSink()
    for customer in StripeCustomer.objects.select_related("organization").order_by("pk"):
        period = customer.organization.periods.earliest("starts_at")
        counted = sink.summary(
            meter=meter.stripe_id, customer=customer.stripe_id,
            start=period.starts_at.replace(second=0), end=period.ends_at.replace(second=0),
        )  # fmt: skip
        used = UsageEvent.objects.filter(organization_id=customer.organization_id).aggregate(
            sum=Sum("quantity")
        )
        found.append((customer.organization.name, int(used["sum"] or 0), -1 if counted is None else counted))
    return found


def install(machine: Machine) -> None:
    """Three customers in three shards who pay at the stand-in and may call as often as they like."""
    from decimal import Decimal

    from billing.stripe.catalogue_apply import apply_catalogue
    from core.clock import now
    from core.redis import usage_redis
    from tests.billing.stripe.conftest import Standin
    from tests.billing.stripe.payer import Payer
    from tests.factories import create_key, create_organization, create_plan, create_product, create_route

    usage_redis().flushdb()
    create_route(create_product("places", upstream_url=machine.ports.upstream_url), "/*")
    create_plan("steady", fee_minor=4_900, unit_price=Decimal("0.001"), per_minute=10**9)
    apply_catalogue(at=now())
    standin = Standin(machine.ports.stripe_url)
    for shard in (3, 17, 42):
        organization = create_organization(f"Shard {shard}", plan="", shard=shard, at=now())
        Payer(standin, organization).subscribe("steady")
        machine.keys.append(create_key(organization=organization).clear)


@contextmanager
def running() -> Iterator[Machine]:
    """Everything runs inside the block. Servers are those of DATABASE_URL and REDIS_URL."""
    with machine_of_its_own() as machine:
        os.environ |= settings_of(machine.ports)
        machine.start_stripe()
        django.setup()
        install(machine)
        argv = [sys.executable, "-m", "tests.billing.stripe.bad_day_beats", str(machine.clock)]
        for program in (
            programs.upstream(machine.ports, {}), programs.gateway(machine.ports, {}, reload=False),
            programs.worker("ledger", machine.folder, {}), programs.beat(machine.folder, {}),
            Program(name="beats", argv=argv, cwd=ROOT),
        ):  # fmt: skip
            machine.start(program)
        yield machine
        if found := machine.control("violations")["violations"]:
            raise SystemExit(f"Stripe's document was violated: {Counter(found)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.billing.stripe.bad_days", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="with and without each fault (4)")
    parser.add_argument("--seconds", type=float, help="of each round (slow 45, others 20)")
    parser.add_argument("modes", nargs="*", default=MODES, help="slow, down, lying")
    options = parser.parse_args()
    if "DATABASE_URL" not in os.environ:  # once more, with servers of its own
        return again_with_servers("tests.billing.stripe.bad_days")
    good = True
    with running() as machine:
        call_steadily(f"{machine.ports.gateway_url}{PATH}", machine.keys, 3)  # warm
        for mode in options.modes:
            result = measure(machine, mode, rounds=options.rounds, seconds=options.seconds or SECONDS[mode])
            good = good and result.is_good
            sys.stdout.write(f"{mode} {result}\n")
            sys.stdout.flush()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
