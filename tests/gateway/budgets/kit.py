"""Budgets that fit exactly 100 calls, 500 clients who want one at once, and four workers who have to agree."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any

import aiohttp
import orjson

from core.clock import now
from core.redis import usage_redis
from core.redis_layout import reservations_key, usage_key
from metering.engine import Engine
from metering.script_calls import sweep_call
from plans.caps import set_cap
from plans.models import CapSide, Route
from plans.queries import current_period
from tests.examples.processes import Api, running
from tests.factories import create_key, create_organization, create_product, create_route
from tests.gateway.kit import Customer, Process, wait_for
from tests.gateway.language.kit import document, sell_models, token_meter, usage_meter
from tests.gateway.language.upstream import INPUT, REASONING
from tests.metering.engine_kit import told
from tests.plans.price_kit import component, meter, put_on, version_of

WORKERS, CLIENTS, FITS = 4, 500, 100
KINDS = ("calls", "tokens", "money")
LIFE_US = 60_000_000
MOST_TOKENS = 100
_number = count(1)


@dataclass
class House:
    """Four workers as they are deployed, the APIs behind, and one Redis or a Cluster of them."""

    environment: dict[str, str]
    upstream: Api
    models: Api
    workers: list[Process] = field(default_factory=list)
    bound: int = 0  # tokens that a call reserves

    def hire(self) -> None:
        """Start as many workers as are missing."""
        new = [Process(**self.environment) for _ in range(WORKERS - len(self.workers))]
        self.workers += new
        for worker in new:
            worker.wait_until_ready()

    def kill(self, url: str) -> None:
        """This worker, without a word."""
        (worker,) = [worker for worker in self.workers if worker.url == url]
        self.workers.remove(worker)
        worker.kill()


@contextmanager
def open_house(**environment: str) -> Iterator[House]:
    """Sell what the budgets are for, and start the workers."""
    with running("tests.gateway.upstream") as upstream, running("tests.gateway.language.upstream") as models:
        product = create_product("budget", upstream_url=f"{upstream.url}/")
        create_route(product, "/*", meter=meter("calls", unit="call"))
        sell_models(models.url)
        Route.objects.update(timeout_ms=30_000)
        house = House(environment, upstream, models)
        try:
            house.hire()
            yield house
        finally:
            for worker in house.workers:
                worker.stop()


@dataclass
class Budget:
    """One organization's, of one kind; `units` is what a call takes of it in its meter's smallest units."""

    kind: str
    customer: Customer
    meter_id: int
    units: int
    words: int = 0

    def request(self, chance: random.Random) -> tuple[str, bytes | None, str]:
        """Path, body and what the API shall do; answers take different times, so that calls of all ages are open at once."""
        pause = f"{0.5 + 2 * chance.random():.2f}"
        if self.kind != "tokens":
            return f"/budget/slow/{pause}", None, ""
        body = document("/chat/completions", {"max_tokens": MOST_TOKENS})
        return "/v1/chat/completions", body, f"head={pause},words={self.words}"

    def held(self) -> tuple[int, int]:
        """Settled and reserved calls' worth of the budget."""
        organization = self.customer.organization
        period = current_period(organization, at=datetime.now(UTC))
        assert period is not None
        key = usage_key(organization.shard, organization.pk, "live", period.pk)
        counts: Any = usage_redis().hmget(key, [str(self.meter_id), f"r{self.meter_id}"])
        settled, reserved = (int(value or 0) for value in counts)
        assert settled % self.units == reserved % self.units == 0
        return settled // self.units, reserved // self.units

    def open_reservations(self) -> int:
        organization = self.customer.organization
        return int(usage_redis().zcard(reservations_key(organization.shard, organization.pk)))

    def billed(self) -> int:
        """Calls in the ledger's stream that count."""
        return sum(1 for e in self.customer.events() if e["meter"] == str(self.meter_id) and e["qty"] > 0)

    def sweep(self, *, ahead_us: int = 0) -> None:
        """Give back what has expired by now, or by a moment to come."""
        organization = self.customer.organization
        call = sweep_call(organization.shard, organization.pk, most=1_000)
        Engine().run(told(call, int(now().timestamp() * 1_000_000) + ahead_us) if ahead_us else call)


def open_budget(house: House, kind: str, *, shard: int = 17, fits: int = FITS) -> Budget:
    """A new organization whose budget fits exactly so many calls."""
    organization = create_organization(f"{kind}-{next(_number)}", shard=shard)
    customer = Customer(organization, create_key(organization=organization), house.workers[0].api)
    calls = meter("calls", unit="call")
    budget = Budget(kind, customer, calls.pk, 1)
    if kind == "tokens":
        budget = _tokens(house, customer, fits)
    else:
        quota = fits if kind == "calls" else None
        price = component(calls, model="per_unit", unit_price=Decimal("0.01"), quota=quota)
        put_on(organization, version_of(price))
        if kind == "money":
            set_cap(
                organization=organization, side=CapSide.CUSTOMER, amount_minor=fits, spent_minor=0, by=None, at=now()
            )  # fmt: skip
    organization.refresh_from_db()
    return budget


def _tokens(house: House, customer: Customer, fits: int) -> Budget:
    """The upstream uses exactly what a call reserves, so that each takes the same share from its beginning to its end."""
    tokens = token_meter()

    def sell(quota: int | None) -> None:
        cost = component(usage_meter(), model="per_unit", unit_price=Decimal(0))
        free = component(tokens, model="per_unit", unit_price=Decimal(0), quota=quota)
        put_on(customer.organization, version_of(cost, free))

    sell(None)
    bound = house.bound = house.bound or _reserved_for_one(Budget("tokens", customer, tokens.pk, 1))
    sell(fits * bound)
    return Budget("tokens", customer, tokens.pk, bound, bound - INPUT - REASONING)


def _reserved_for_one(scout: Budget) -> int:
    """What one call holds while its answer is awaited."""
    path, body, _ = scout.request(random.Random(0))
    answer = ThreadPoolExecutor(1).submit(
        scout.customer.call, "/chat/completions", "POST", body, product="v1", X_Act="head=1.5,usage=zero"
    )
    reserved = int(wait_for(lambda: scout.held()[1]))
    assert answer.result().status == 200
    wait_for(lambda: scout.held() == (0, 0))
    return reserved


@dataclass(frozen=True, slots=True)
class Rush:
    """What 500 clients saw: answers by status, and those that got none."""

    statuses: Counter[int]
    codes: Counter[str]
    broken: int


async def rush(
    budget: Budget, workers: Sequence[str], *, clients: int = CLIENTS, after: tuple[int, Callable[[str], None]] | None = None
) -> Rush:  # fmt: skip
    """All at once, in turn over the workers. `after` so many good answers something is done to the worker that most wait
    for."""
    chance, seen = random.Random(7), Rush(Counter(), Counter(), 0)
    key = {"Authorization": f"Bearer {budget.customer.issued.clear}"}
    broken, waiting = 0, Counter[str]()
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:

        async def one(number: int) -> None:
            nonlocal broken
            path, body, act = budget.request(chance)
            method, worker = "POST" if body else "GET", workers[number % len(workers)]
            waiting[worker] += 1
            try:
                async with session.request(
                    method, worker + path, data=body, headers=key | {"X-Act": act}
                ) as response:
                    content = await response.read()
            except (aiohttp.ClientError, OSError):
                broken += 1
                return
            finally:
                waiting[worker] -= 1
            seen.statuses[response.status] += 1
            if response.status == 200:
                if after is not None and seen.statuses[200] == after[0]:
                    after[1](waiting.most_common(1)[0][0])
            else:
                seen.codes[code_of(content)] += 1

        await asyncio.gather(*(one(number) for number in range(clients)))
    return Rush(seen.statuses, seen.codes, broken)


def code_of(content: bytes) -> str:
    """The code of a refusal, as a problem document or as the SDKs expect it."""
    document = orjson.loads(content)
    return str(document.get("code") or document.get("error", {}).get("code"))


def one_by_one(budget: Budget, worker: Process) -> int:
    """Calls until one is refused; how many passed."""
    budget.customer.api = worker.api
    for passed in range(FITS + 1):
        path, body, act = budget.request(random.Random(1))
        _, product, rest = path.split("/", 2)
        act = act.partition(",")[2] if act else ""
        path = f"/{rest}" if budget.kind == "tokens" else "/slow/0"
        answer = budget.customer.call(path, "POST" if body else "GET", body, product=product, X_Act=act)
        if answer.status != 200:
            assert answer.status == 429, answer
            return passed
    raise AssertionError("the budget never ended")
