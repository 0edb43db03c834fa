"""Several servers behind one product or model: which one is asked, which are left out for a while, when another is asked.

A worker judges by what it sees itself; nothing is shared, so that nothing is asked of Redis for it. The state of a server
outlives the route table, which is read anew every second (docs/upstreams.md).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

import structlog
from django.conf import settings

log = structlog.get_logger(__name__)

EJECT_AFTER = 5  # failures in a row: one is chance, and a deployment makes two or three
EJECT_SECONDS = 10.0  # a restart takes about as long; doubled each time, up to:
LONGEST_EJECTION_SECONDS = 300.0
CHECKS_TO_CHANGE = 2  # a single check that fails, or passes, says little
RETRY_PERCENT = 20  # of the calls of the last seconds: more would be load that brings a weak pool down
LEAST_RETRIES = 10  # in these seconds, so that a quiet pool retries at all
BUDGET_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where calls go. `credential` is a header (name, value) of the owner, or None."""

    base_url: str
    credential: tuple[str, str] | None
    connect_timeout_s: float


@dataclass(frozen=True, slots=True)
class Check:
    """How a server is asked whether it is well."""

    path: str
    seconds: int
    status: int
    with_credential: bool


class ServerState:
    """What one worker knows of a server. `is_out`: not asked while others are well."""

    __slots__ = (
        "__weakref__", "checks", "ejected_at", "ejected_until", "ejections", "failures", "fails_checks", "is_out", "last_error",
        "name", "next_check_at", "open", "turn",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.open = 0  # calls under way
        self.turn = 0  # whose turn it is among equals
        self.failures = 0  # in a row
        self.ejections = 0  # in a row
        self.ejected_at = self.ejected_until = 0.0
        self.checks = 0  # in a row that say otherwise than what holds
        self.fails_checks = False
        self.next_check_at = 0.0
        self.is_out = False
        self.last_error = ""

    def fail(self, error: str, *, now: float) -> None:
        """A call failed that it should have answered."""
        self.last_error = error
        if self.ejected_until:
            return  # one that was sent before, or because nobody else was left
        self.failures += 1
        if self.failures >= EJECT_AFTER:
            self._eject(now)

    def succeed(self, *, chosen_at: float) -> None:
        """A call was answered. One that it was chosen for while it was out shows that it is well again."""
        self.failures = 0
        if self.ejected_until and chosen_at > self.ejected_at:
            self._return()

    def tick(self, now: float) -> None:
        """Let an ejection end; the next failure makes it a longer one."""
        if self.ejected_until and now >= self.ejected_until:
            self._return()
            self.failures = EJECT_AFTER - 1

    def checked(self, error: str) -> None:
        """An active check passed (''), or why it did not."""
        if error:
            self.last_error = error
        if bool(error) == self.fails_checks:
            self.checks = 0
            return
        self.checks += 1
        if self.checks < CHECKS_TO_CHANGE:
            return
        self.checks, self.fails_checks = 0, bool(error)
        self._judge()
        if error:
            log.warning("upstream_server_unwell", server=self.name, error=error)
        else:
            log.info("upstream_server_well", server=self.name)

    def forget_checks(self) -> None:
        """Checks were switched off: what they said holds no more."""
        self.checks, self.fails_checks = 0, False
        self._judge()

    def _eject(self, now: float) -> None:
        served, was_out = now - self.ejected_at, self._ejection_seconds()
        # It has been well for as long as it was out: the past is forgotten.
        self.ejections = self.ejections + 1 if self.ejections and served < 2 * was_out else 1
        seconds = self._ejection_seconds()
        self.ejected_at, self.ejected_until = now, now + seconds
        self._judge()
        log.warning("upstream_server_ejected", server=self.name, seconds=seconds, error=self.last_error)

    def _ejection_seconds(self) -> float:
        doubled = EJECT_SECONDS * 2 ** min(self.ejections - 1, 16) if self.ejections else 0.0
        return min(doubled, LONGEST_EJECTION_SECONDS)

    def _return(self) -> None:
        self.ejected_until = 0.0
        self._judge()
        log.info("upstream_server_back", server=self.name)

    def _judge(self) -> None:
        self.is_out = self.fails_checks or bool(self.ejected_until)


@dataclass(frozen=True, slots=True)
class Server:
    """A server of a pool. `known_as`: what it calls the model, '' for products; `key` names it for staff pages."""

    key: str
    upstream: Upstream
    known_as: str
    position: int
    weight: int
    check: Check | None
    state: ServerState


class RetryBudget:
    """How many retries a pool has left: a share of its calls of the last seconds."""

    def __init__(self) -> None:
        self._calls = [0] * BUDGET_SECONDS
        self._retries = [0] * BUDGET_SECONDS
        self._second = 0

    def count(self, now: float) -> None:
        """A call came."""
        self._turn_to(int(now))
        self._calls[self._second % BUDGET_SECONDS] += 1

    def take(self, now: float) -> bool:
        """Whether one more call may be tried again; it is counted."""
        self._turn_to(int(now))
        most = max(LEAST_RETRIES, sum(self._calls) * RETRY_PERCENT // 100)
        if sum(self._retries) >= most:
            return False
        self._retries[self._second % BUDGET_SECONDS] += 1
        return True

    def _turn_to(self, second: int) -> None:
        for passed in range(max(self._second + 1, second - BUDGET_SECONDS + 1), second + 1):
            self._calls[passed % BUDGET_SECONDS] = self._retries[passed % BUDGET_SECONDS] = 0
        self._second = max(second, self._second)


class ServerPool:
    """The servers of a product or a model; at least two."""

    def __init__(self, key: str, servers: Sequence[Server], *, retries: bool) -> None:
        self.servers = tuple(sorted(servers, key=lambda server: server.position))
        positions = sorted({server.position for server in servers})
        self._tiers = tuple(tuple(s for s in self.servers if s.position == at) for at in positions)
        self.retries = retries
        self.budget = _kept_budget(key)

    def __eq__(self, other: object) -> bool:
        """The same servers on the same terms; what is known of them is kept apart (`kept_state`)."""
        if not isinstance(other, ServerPool):
            return NotImplemented
        return self.servers == other.servers and self.retries == other.retries

    __hash__ = None  # type: ignore[assignment]  # compared, never a name

    def choose(self, tried: Sequence[Server] = ()) -> Server | None:
        """The server with the fewest open calls for its weight, of the first position with enough servers that are well.

        Where no position has enough (UPSTREAM_PANIC_PERCENT), all servers are asked: the few that are left would not stand
        the calls of all, and perhaps it is the judgement that is wrong. None: all that come into question were tried.
        """
        is_panic = True
        for tier in self._tiers:
            if _is_well_enough(tier):
                is_panic = False
                if (found := _least_open(tier, tried, may_be_out=False)) is not None:
                    return found
        return _least_open(self.servers, tried, may_be_out=True) if is_panic else None


def _is_well_enough(tier: Sequence[Server]) -> bool:
    well = 0
    for server in tier:
        if not server.state.is_out:
            well += 1
    return well > 0 and well * 100 >= settings.UPSTREAM_PANIC_PERCENT * len(tier)


def _least_open(servers: Sequence[Server], tried: Sequence[Server], *, may_be_out: bool) -> Server | None:
    """Among equals the turn goes round by weight (smooth weighted round robin), so that a quiet pool is shared as well."""
    least: Server | None = None
    for server in servers:
        if (server.state.is_out and not may_be_out) or server in tried:
            continue
        if least is None or server.state.open * least.weight < least.state.open * server.weight:
            least = server
    if least is None:
        return None
    chosen, open_calls, weight, total = least, least.state.open, least.weight, 0
    for server in servers:
        if (server.state.is_out and not may_be_out) or server in tried:
            continue
        if server.state.open * weight == open_calls * server.weight:
            server.state.turn += server.weight
            total += server.weight
            if server.state.turn > chosen.state.turn:
                chosen = server
    chosen.state.turn -= total
    return chosen


# They live as long as a route table speaks of them; the next one is read before the last is dropped.
_states: "WeakValueDictionary[str, ServerState]" = WeakValueDictionary()
_budgets: "WeakValueDictionary[str, RetryBudget]" = WeakValueDictionary()


def kept_state(key: str, name: str) -> ServerState:
    """What this worker knows of the server of this key and name (with another address it is another server)."""
    state = _states.get(f"{key} {name}")
    if state is None:
        state = _states[f"{key} {name}"] = ServerState(name)
    return state


def _kept_budget(key: str) -> RetryBudget:
    budget = _budgets.get(key)
    if budget is None:
        budget = _budgets[key] = RetryBudget()
    return budget


def servers_of(pools: Iterable[ServerPool | None]) -> tuple[Server, ...]:
    """Every server of these pools once."""
    found = {server.key: server for pool in pools if pool is not None for server in pool.servers}
    return tuple(found.values())
