"""The same over a Redis Cluster of three nodes; and what a node's failing does to calls: 503 until its slots are served."""

import pytest

from core.redis_layout import SHARDS, shard_tag
from core.redis_slots import slot_of
from tests.cluster import Cluster
from tests.gateway.budgets.kit import KINDS, House
from tests.gateway.budgets.proofs import Record, assert_at_most_100_with_a_death, assert_exactly_100


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
