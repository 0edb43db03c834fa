"""What a refusal tells about a key (STACK.md, R25): nothing, neither by its body nor by how long it took.

Requests of all classes are asked in random order over one connection each, so that whatever the machine does meanwhile
strikes all of them alike. Two classes differ measurably when their trimmed means are further apart than those of random
halves of both put together (999 of 1,000 of them), and by more than 20 us, which no network shows.
"""

import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, count
from statistics import fmean
from urllib.parse import urlsplit

import orjson
import pytest

from core.clock import now
from core.ids import ALPHABET
from keys.hashing import CHECKSUM_LENGTH, checksum, is_well_formed, make_key
from keys.models import ApiKey
from keys.services import revoke_key
from tests.factories import create_key
from tests.gateway.kit import SLUG, Customer, Shop

Record = Callable[[str, object], None]
ROUNDS, FIRST_ROUNDS = 600, 90
SPLITS, BEYOND = 1_000, 0.999
UNSEEN_US = 20.0
INJECTED_US = 2_000.0
MISSES_OF_ONE_ADDRESS = 30  # rounds of three, of 120 misses that a worker allows an address in a minute
_addresses = count(11)


@dataclass
class Asker:
    """A connection that is kept, from an address of its own."""

    url: str
    address: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        self._link = socket.create_connection(
            (parts.hostname, parts.port), timeout=20, source_address=(self.address, 0)
        )
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._link.close()

    def ask(self, key: str) -> tuple[float, bytes]:
        """Microseconds until the whole refusal was here, and the refusal."""
        request = f"GET /{SLUG}/echo HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        started = time.perf_counter_ns()
        self._link.sendall(request)
        answer = self._link.recv(65_536)
        while not answer.endswith(b"}"):
            answer += self._link.recv(65_536)
        return (time.perf_counter_ns() - started) / 1000, answer


def trimmed_mean(samples: Sequence[float]) -> float:
    """Without the quickest tenth and the slowest three."""
    ordered = sorted(samples)
    return fmean(ordered[len(ordered) // 10 : len(ordered) * 7 // 10])


def difference(some: Sequence[float], others: Sequence[float]) -> float:
    return abs(trimmed_mean(some) - trimmed_mean(others))


def noise(some: Sequence[float], others: Sequence[float]) -> float:
    """The difference that halves of the same would hardly ever show."""
    chance, pooled = random.Random(1), [*some, *others]
    found = []
    for _ in range(SPLITS):
        chance.shuffle(pooled)
        found.append(difference(pooled[: len(some)], pooled[len(some) :]))
    return sorted(found)[int(SPLITS * BEYOND) - 1]


def is_measurable(some: Sequence[float], others: Sequence[float]) -> bool:
    apart = difference(some, others)
    return apart > UNSEEN_US and apart > noise(some, others)


def with_other_end(key: str) -> str:
    """The same key but for its last character, so that its checksum is wrong."""
    return key[:-1] + ALPHABET[(ALPHABET.index(key[-1]) + 1) % len(ALPHABET)]


def near(key: str, chance: random.Random) -> str:
    """The same key but for the last characters of its random part, with a right checksum."""
    body = key[: -CHECKSUM_LENGTH - 4] + "".join(chance.choice(ALPHABET) for _ in range(4))
    return body + checksum(body)


def refusal(answer: bytes) -> tuple[bytes, ...]:
    """All of it but for the request's own number and the date."""
    head, _, body = answer.partition(b"\r\n\r\n")
    document = orjson.loads(body)
    own = document.pop("request_id").encode()
    lines = [line for line in head.replace(own, b"").split(b"\r\n") if not line.startswith(b"date:")]
    return (*lines, orjson.dumps(document))


Times = dict[str, list[float]]


def judge(measure: Callable[[], Times], record: Record, name: str) -> None:
    """No two classes can be told apart; a class that took 2 ms longer could be told from each other one. What chance shows
    once in a thousand times is measured once more."""
    for attempt in (1, 2):
        times = measure()
        pairs = list(combinations(times.items(), 2))
        apart = {f"{a} and {b}": difference(some, others) for (a, some), (b, others) in pairs}
        told = [f"{a} and {b}" for (a, some), (b, others) in pairs if is_measurable(some, others)]
        seen = [
            is_measurable(some, [one + INJECTED_US for one in others]) for (_, some), (_, others) in pairs
        ]
        if attempt == 2 or (not told and all(seen)):
            break
    record("pairs", len(pairs))
    record("measurable", len(told))
    record(f"apart_{name}_us", round(max(apart.values())))
    record("injected_seen", sum(seen))
    assert all(seen), "2 ms more would not be seen"
    assert not told, apart


@pytest.fixture
def customer(shop: Shop) -> Iterator[Customer]:
    customer = shop.customer()
    yield customer
    shop.log()


@pytest.fixture
def connect(shop: Shop) -> Iterator[Callable[[], Asker]]:
    """The next connection, from the next address of this machine."""
    made: list[Asker] = []

    def connect() -> Asker:
        made.append(Asker(shop.gateway.url, f"127.0.0.{next(_addresses)}"))
        return made[-1]

    yield connect
    for asker in made:
        asker.close()


def test_refusals_of_keys_that_were_seen_before_are_alike(
    customer: Customer, connect: Callable[[], Asker], record_property: Record
) -> None:
    chance, asker = random.Random(2), connect()
    real = customer.issued.clear
    assert customer.call().status == 200  # the worker knows the real one
    gone = create_key(organization=customer.organization)
    revoke_key(key=gone.key, by=None, at=now())
    keys = {
        "unknown": make_key("live"), "wrong checksum": with_other_end(make_key("live")), "revoked": gone.clear,
        "wrong last character": with_other_end(real), "near a real one": near(real, chance),
    }  # fmt: skip
    assert [is_well_formed(key) for key in keys.values()] == [True, False, True, False, True]
    seen = {refusal(asker.ask(key)[1]) for key in keys.values()}
    record_property("different_bodies", len(seen) - 1)
    assert len(seen) == 1
    assert b"HTTP/1.1 401" in next(iter(seen))[0]

    def measure() -> Times:
        times: Times = {name: [] for name in keys}
        order = list(keys)
        for _ in range(ROUNDS):
            chance.shuffle(order)
            for name in order:
                times[name].append(asker.ask(keys[name])[0])
        return times

    judge(measure, record_property, "known")


def test_refusals_of_keys_that_were_never_seen_are_alike(
    customer: Customer, connect: Callable[[], Asker], record_property: Record
) -> None:
    """Each of these is looked up in the database, so each is asked once."""
    chance, seen = random.Random(3), set[tuple[bytes, ...]]()
    gone: list[str] = []
    makers: dict[str, Callable[[], str]] = {
        "unknown": lambda: make_key("live"), "revoked": lambda: gone.pop(),
        "near a real one": lambda: near(customer.issued.clear, chance),
    }  # fmt: skip

    def measure() -> Times:
        issued = [create_key(organization=customer.organization) for _ in range(FIRST_ROUNDS)]
        ours = ApiKey.objects.for_organization(customer.organization)
        ours.filter(pk__in=[one.key.pk for one in issued]).update(revoked_at=now())
        gone.extend(one.clear for one in issued)
        times: Times = {name: [] for name in makers}
        order = list(makers)
        for number in range(FIRST_ROUNDS):
            if number % MISSES_OF_ONE_ADDRESS == 0:
                asker = connect()
                asker.ask("fb_live_warm")
            chance.shuffle(order)
            for name in order:
                took, answer = asker.ask(makers[name]())
                times[name].append(took)
                seen.add(refusal(answer))
        return times

    judge(measure, record_property, "new")
    record_property("different_bodies", len(seen) - 1)
    assert len(seen) == 1
