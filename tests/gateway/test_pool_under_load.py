"""A server of three is killed and another one stops in the middle of traffic: callers do not see the first, and see of the
second no more than five answers too late; every call is billed once or not at all."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal

import pytest

from gateway.pools import EJECT_AFTER
from plans.models import UpstreamServer
from tests.examples.processes import ROOT
from tests.gateway.kit import Customer, Shop, wait_for
from tests.gateway.test_retries import charged, pool

pytestmark = pytest.mark.usefixtures("shop")
CALLERS = 6
SECONDS = 4.0
TIMEOUT_MS = 500


class Server:
    """An API of its own that can be killed, or stopped without being away."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.gateway.upstream"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r"http://\S+", self.process.stdout.readline())
        assert found is not None
        self.url = found[0]

    def send(self, what: signal.Signals) -> None:
        os.kill(self.process.pid, what)


@contextmanager
def servers(count: int) -> Iterator[list[Server]]:
    made = [Server() for _ in range(count)]
    try:
        yield made
    finally:
        for server in made:
            server.process.kill()
            server.process.communicate()


def traffic(customer: Customer, slug: str, until: float) -> Counter[int]:
    """Calls one after the other, and how they ended."""
    ends: Counter[int] = Counter()
    while time.monotonic() < until:
        ends[customer.call(product=slug).status] += 1
    return ends


@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_goes_away_in_the_middle_of_traffic(
    shop: Shop, what: signal.Signals, record_property: Callable[[str, object], None]
) -> None:
    customer = shop.customer(per_minute=100_000, included=Decimal(1_000_000))
    with servers(3) as three, ThreadPoolExecutor(CALLERS) as threads:
        slug = pool(shop, *(server.url for server in three), timeout_ms=TIMEOUT_MS)
        assert UpstreamServer.objects.filter(product__slug=slug).count() == 3
        until = time.monotonic() + SECONDS
        running = [threads.submit(traffic, customer, slug, until) for _ in range(CALLERS)]
        time.sleep(SECONDS / 3)
        three[1].send(what)
        ends = sum((one.result() for one in running), Counter())

    good, late = ends.pop(200), ends.pop(504, 0)
    record_property(f"{what.name}_good", good)
    record_property(f"{what.name}_late", late)
    assert not ends
    assert good > 100
    # Calls that were under way when it stopped have no time left for another server.
    assert late <= (0 if what == signal.SIGKILL else EJECT_AFTER + CALLERS)
    wait_for(lambda: len(customer.events()) == good + late)
    events = customer.events()
    assert Counter(event["qty"] for event in events) == +Counter({Decimal(1): good, Decimal(0): late})
    assert charged(customer) == good
    assert len({event["rid"] for event in events}) == good + late
