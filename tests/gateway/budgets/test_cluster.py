"""The same over a Redis Cluster of three nodes; and what a node's failing does to calls: 503 until its slots are served."""

import http.client
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest
import redis

from core.clock import now
from core.redis import usage_redis
from core.redis_layout import SHARDS, organization_key, shard_key, shard_tag, usage_key
from core.redis_slots import slot_of
from metering.drain import drain_all
from metering.engine import MeteringUnavailable
from metering.models import UsageEvent
from metering.rebuild import rebuild_counters
from metering.reconcile import reconcile
from metering.refusals import drain_refusals
from plans.models import Meter
from plans.queries import current_period
from tests.cluster import Cluster
from tests.gateway.budgets.kit import KINDS, House, open_budget
from tests.gateway.budgets.proofs import Record, assert_at_most_100_with_a_death, assert_exactly_100
from tests.gateway.kit import Customer, wait_for


def shard_of_node(cluster: Cluster, number: int) -> int:
    """A shard that the Cluster's n-th primary serves."""
    node = cluster.primaries[number]
    return next(s for s in range(SHARDS) if cluster.owner_of(slot_of(shard_tag(s).strip("{}"))) is node)


@pytest.mark.parametrize(("number", "kind"), list(enumerate(KINDS)))
def test_exactly_as_many_pass_as_fit(
    clustered: House, cluster: Cluster, number: int, kind: str, record_property: Record
) -> None:
    assert_exactly_100(clustered, kind, record_property, shard=shard_of_node(cluster, number))


@pytest.mark.parametrize(("number", "kind"), list(enumerate(KINDS)))
def test_a_killed_worker_lets_none_too_many_pass_and_holds_nothing_for_ever(
    clustered: House, cluster: Cluster, number: int, kind: str, record_property: Record
) -> None:
    shard = shard_of_node(cluster, number)
    assert_at_most_100_with_a_death(clustered, kind, record_property, shard=shard)


def customer_on(house: House, cluster: Cluster, number: int) -> Customer:
    """Somebody without limits whose counters are at the n-th primary."""
    return open_budget(house, "calls", shard=shard_of_node(cluster, number), fits=1_000_000).customer


@dataclass
class Traffic:
    """Calls of one customer, one after the other in a thread of their own: when each ended, and with what status."""

    customer: Customer
    pause: float = 0.01
    answers: list[tuple[float, int]] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Traffic":
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stopping.wait(self.pause):
            try:
                status = self.customer.call("/slow/0", product="budget").status
            except (OSError, http.client.HTTPException):
                status = 0  # cut: its end could not be recorded
            self.answers.append((time.monotonic(), status))

    def passed(self, *, after: float = 0.0) -> int:
        return sum(1 for at, status in self.answers if status == 200 and at > after)

    def statuses(self) -> Counter[int]:
        return Counter(status for _, status in self.answers)


def is_reached(shard: int) -> bool:
    """Whether this process asks the node that serves this shard now; after a failover its first command fails."""
    try:
        return int(usage_redis().exists(shard_key(shard))) == 1
    except redis.RedisError:
        return False


def assert_counted_once(customer: Customer, *, least: int, most: int) -> int:
    """Calls are counted, each once, by events and by the counter alike; how many."""
    wait_for(lambda: is_reached(customer.organization.shard))
    streamed = [event["rid"] for event in customer.events() if event["qty"]]
    stored = UsageEvent.objects.filter(organization_id=customer.organization.pk, quantity__gt=0)
    names = {*streamed, *stored.values_list("request_id", flat=True)}
    drain_all(at=now(), budget_seconds=20)
    assert len(names) == stored.count()
    assert least <= len(names) <= most
    period = current_period(customer.organization, at=now())
    assert period is not None
    key = usage_key(customer.organization.shard, customer.organization.pk, "live", period.pk)
    calls = Meter.objects.get(slug="calls").pk
    assert int(usage_redis().hget(key, str(calls)) or 0) == len(names)
    return len(names)


def test_a_node_that_is_away_is_503_for_its_own_alone_and_its_return_is_noticed(
    clustered: House, cluster: Cluster
) -> None:
    clustered.hire()
    away, other = customer_on(clustered, cluster, 1), customer_on(clustered, cluster, 2)
    node = cluster.primaries[1]
    with Traffic(away) as lost, Traffic(other) as kept:
        wait_for(lambda: lost.passed() >= 5 and kept.passed() >= 5)
        node.freeze()  # calls under way find no answer
        time.sleep(0.3)
        node.kill()
        killed_at = time.monotonic()
        wait_for(lambda: lost.statuses()[503] >= 3, within=20)
        with pytest.raises((redis.RedisError, MeteringUnavailable)):
            drain_all(at=now(), budget_seconds=10)
        assert clustered.workers[0].api.get("/readyz").status == 200
        node.start()
        cluster.wait_until_well()
        wait_for(lambda: lost.passed(after=killed_at) >= 5, within=10)
    assert set(kept.statuses()) == {200}
    assert set(lost.statuses()) <= {0, 200, 503}
    assert UsageEvent.objects.filter(organization_id=other.organization.pk).count() > 0  # drained meanwhile
    assert_counted_once(away, least=lost.passed(), most=lost.passed() + lost.statuses()[0])


def test_a_failed_node_is_replaced_by_its_replica_and_nothing_is_counted_twice(
    clustered: House, cluster: Cluster, record_property: Record
) -> None:
    clustered.hire()
    customer, other = customer_on(clustered, cluster, 0), customer_on(clustered, cluster, 2)
    with Traffic(customer) as lost, Traffic(other) as kept:
        wait_for(lambda: lost.passed() >= 20)
        cluster.primaries[0].kill()
        killed_at = time.monotonic()
        wait_for(lambda: lost.passed(after=killed_at) >= 20, within=30)
    back_at = next(at for at, status in lost.answers if status == 200 and at > killed_at)
    record_property("failover_ms", int((back_at - killed_at) * 1000))
    assert set(kept.statuses()) == {200}
    # 503 meanwhile, unless the calls of that time were under way already and waited for their end to be recorded.
    assert set(lost.statuses()) <= {0, 200, 503}
    # What the replica had not received is lost, not doubled: at most the call at the moment of the death.
    answered, cut = lost.passed(), lost.statuses()[0]
    counted = assert_counted_once(customer, least=answered - 1, most=answered + cut)
    record_property("failover_lost", max(answered - counted, 0))
    record_property("failover_twice", max(counted - answered - cut, 0))


def test_ledger_and_counters_are_equal_and_lost_counters_are_rebuilt(
    clustered: House, cluster: Cluster
) -> None:
    clustered.hire()
    customers = [customer_on(clustered, cluster, number) for number in range(3)]
    for customer in customers:
        assert [customer.call("/slow/0", product="budget").status for _ in range(5)] == [200] * 5
        assert customer.call("/slow/0", product="budget", key="fb_live_unknown").status == 401
    for customer in customers:
        assert reconcile(at=now(), organization=customer.organization).differences == ()
        assert UsageEvent.objects.filter(organization_id=customer.organization.pk).count() == 5
    drain_refusals()

    lost = customers[2]
    usage_redis().delete(organization_key(lost.organization.shard, lost.organization.pk))
    assert lost.call("/slow/0", product="budget").status == 503
    assert lost.organization in rebuild_counters(at=now(), organization=lost.organization)
    assert lost.call("/slow/0", product="budget").status == 200
    assert reconcile(at=now(), organization=lost.organization).differences == ()
