"""Clients of a Redis Cluster on three real nodes: routing, redirections, lost nodes, forgotten scripts."""

import asyncio
from collections.abc import Iterator

import pytest
import redis
from django.test import override_settings
from redis.crc import key_slot

from config.addresses import AddressMissing, with_database_number
from core.redis import slowest_clock, usage_redis
from core.redis_cluster import LoopCluster, ThreadCluster
from core.redis_layout import SHARDS, shard_tag, stream_key
from core.redis_loop import NotSent, pack
from core.redis_slots import ClusterAddress, Node, key_of, redirection, slot_of, tag_of
from tests.cluster import PRIMARIES, Cluster, ClusterNode

SCRIPT = "#!lua\nreturn redis.call('INCR', KEYS[1])"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "cluster" in request.fixturenames:
        request.getfixturevalue("cluster").flush()


def of_other_node(cluster: Cluster, node: ClusterNode) -> ClusterNode:
    return next(other for other in cluster.primaries if other is not node)


def move_slot(
    cluster: Cluster, slot: int, source: ClusterNode, target: ClusterNode, *, done: bool = True
) -> None:
    """As `valkey-cli --cluster reshard` does it, for an empty slot; not `done` leaves it half way (ASK)."""
    ids = {node: node.ask("CLUSTER", "MYID").decode() for node in (source, target)}
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    if done:
        for node in (target, source):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])


def settle_slot(cluster: Cluster, slot: int, owner: ClusterNode) -> None:
    """Everybody knows again who serves a slot."""
    own = owner.ask("CLUSTER", "MYID").decode()
    for node in [owner, *cluster.primaries]:
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", own)


# --- addresses and slots -----------------------------------------------------------------------------------------


def test_slots_are_those_of_redis() -> None:
    for key in ["fb1:drain-turn", "{}x", "a{b}{c}", "a{b", "a{}b", *[stream_key(s) for s in range(SHARDS)]]:
        assert slot_of(tag_of(key)) == key_slot(key.encode()), key


def test_shards_are_spread_over_three_nodes() -> None:
    slots = [slot_of(tag_of(stream_key(shard))) for shard in range(SHARDS)]
    thirds = [sum(1 for slot in slots if slot * PRIMARIES // 16_384 == third) for third in range(PRIMARIES)]
    assert min(thirds) >= SHARDS // 5


def test_address_names_nodes_and_a_password() -> None:
    address = ClusterAddress("rediss+cluster://door:a%40b@one:7000,two,[::1]:7002/0")
    assert address.seeds == (Node("one", 7000), Node("two", 6379), Node("::1", 7002))
    assert address.credentials == ("door", "a@b")
    assert address.url_of(address.seeds[2]) == "rediss://door:a%40b@[::1]:7002/0"
    assert ClusterAddress("redis+cluster://one").url_of(Node("one", 1)) == "redis://one:1/0"


@pytest.mark.parametrize("url", ["redis+cluster://", "redis+cluster://one:7000/3"])
def test_address_without_nodes_or_with_a_database_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="names its nodes"):
        ClusterAddress(url).seeds  # noqa: B018


def test_broker_and_cache_need_a_server_of_their_own() -> None:
    with pytest.raises(AddressMissing, match="BROKER_URL"):
        with_database_number("redis+cluster://one:7000", 1)


def test_key_of_a_command() -> None:
    assert key_of(("EVALSHA", "abc", 2, "k1", "k2", "arg")) == "k1"
    assert key_of(("HGET", b"k", "f")) == "k"
    assert key_of(("PING",)) is None


def test_redirections_are_read() -> None:
    asked = Node("here", 1)
    moved = redirection(redis.ResponseError("MOVED 3999 there:6381"), asked)
    assert moved is not None
    assert (moved.is_lasting, moved.slot, moved.node) == (True, 3999, Node("there", 6381))
    same_host = redirection(redis.ResponseError("ASK 1 :6381"), asked)
    assert same_host is not None
    assert (same_host.is_lasting, same_host.node) == (False, Node("here", 6381))
    assert redirection(redis.ResponseError("WRONGTYPE"), asked) is None


# --- both clients on real nodes ----------------------------------------------------------------------------------


def run_loop(url: str, *commands: tuple[str | int, ...]) -> list[object]:
    async def ask() -> list[object]:
        client = LoopCluster(url, timeout=2.0)
        try:
            return await asyncio.gather(*(client.execute(*command) for command in commands))
        finally:
            await client.aclose()

    return asyncio.run(ask())


def test_every_shard_is_reached_by_both_clients(cluster: Cluster) -> None:
    keys = [f"{shard_tag(shard)}:n" for shard in range(SHARDS)]
    assert run_loop(cluster.url, *[("INCR", key) for key in keys]) == [1] * SHARDS
    threads = ThreadCluster(cluster.url, timeout=2.0)
    assert [threads.execute("INCR", key) for key in keys] == [2] * SHARDS
    assert sum(int(str(node.ask("DBSIZE"))) for node in cluster.primaries) == SHARDS


def test_script_unknown_to_a_node_runs_by_its_source(cluster: Cluster) -> None:
    threads = ThreadCluster(cluster.url, timeout=2.0)
    sha = threads.execute("SCRIPT", "LOAD", SCRIPT).decode()
    keys = [f"{shard_tag(shard)}:n" for shard in range(SHARDS)]
    assert [threads.execute("EVALSHA", sha, 1, key) for key in keys] == [1] * SHARDS
    for node in cluster.primaries:
        node.ask("SCRIPT", "FLUSH")
    load, run = ("SCRIPT", "LOAD", SCRIPT), [("EVALSHA", sha, 1, key) for key in keys]
    assert run_loop(cluster.url, load, *run)[1:] == [2] * SHARDS
    with pytest.raises(redis.exceptions.NoScriptError):
        threads.execute("EVALSHA", "0" * 40, 1, keys[0])


@pytest.mark.parametrize("is_half_way", [False, True], ids=["MOVED", "ASK"])
def test_a_slot_on_another_node_is_followed_and_runs_once(cluster: Cluster, *, is_half_way: bool) -> None:
    key = "moving"
    slot = slot_of(key)
    source = cluster.owner_of(slot)
    target = of_other_node(cluster, source)
    threads = ThreadCluster(cluster.url, timeout=2.0)
    assert threads.execute("INCR", key) == 1  # knows the map
    threads.execute("DEL", key)

    async def ask() -> list[object]:
        client = LoopCluster(cluster.url, timeout=2.0)
        assert await client.execute("GET", key) is None  # knows the map
        move_slot(cluster, slot, source, target, done=not is_half_way)
        many = await asyncio.gather(*(client.execute("INCR", key) for _ in range(50)))
        await client.aclose()
        return many

    try:
        assert sorted(int(str(n)) for n in asyncio.run(ask())) == list(range(1, 51))
        assert threads.execute("INCR", key) == 51
    finally:
        target.ask("FLUSHALL")
        settle_slot(cluster, slot, source)


def test_posted_commands_follow_their_slot_and_tell_of_what_they_need(cluster: Cluster) -> None:
    """The way of usual calls: packed, without a task, each told its own end; MOVED is followed, all else is told."""
    key = "{posted}:n"
    slot = slot_of("posted")
    source = cluster.owner_of(slot)
    target = of_other_node(cluster, source)
    source.ask("SCRIPT", "FLUSH")

    async def ask() -> list[object]:
        client = LoopCluster(cluster.url, timeout=2.0)
        loop = asyncio.get_running_loop()

        async def post(*command: str | int) -> object:
            told = loop.create_future()
            client.post(pack(command), told)
            return (await asyncio.gather(told, return_exceptions=True))[0]

        answers = [await post("INCR", key)]  # no connection yet: told so, and nothing left
        assert await client.send(pack(("INCR", key))) == 1
        sha = (await client.execute("SCRIPT", "LOAD", SCRIPT)).decode()
        answers.append(await post("EVALSHA", sha, 1, key))
        assert await client.send(pack(("EVALSHA", sha, 1, key))) == 2  # which sent the source
        answers.append(await post("EVALSHA", sha, 1, key))
        await client.execute("DEL", key)
        for node in cluster.primaries:
            assert await client.execute("GET", next(f"{shard_tag(s)}:n" for s in range(SHARDS) if cluster.owner_of(slot_of(f"s{s:02d}")) is node)) is None  # fmt: skip
        move_slot(cluster, slot, source, target)
        answers += await asyncio.gather(*(post("INCR", key) for _ in range(20)))
        await client.aclose()
        return answers

    try:
        unconnected, unknown, third, *counted = asyncio.run(ask())
        assert isinstance(unconnected, redis.ConnectionError)
        assert isinstance(unknown, redis.exceptions.NoScriptError)
        assert third == 3
        assert sorted(int(str(n)) for n in counted) == list(range(1, 21))
    finally:
        target.ask("FLUSHALL")
        settle_slot(cluster, slot, source)


def test_posted_command_of_a_slot_half_way_to_another_node_did_not_run(cluster: Cluster) -> None:
    key = "{halfway}:n"
    slot = slot_of("halfway")
    source = cluster.owner_of(slot)
    target = of_other_node(cluster, source)

    async def ask() -> tuple[object, object]:
        client = LoopCluster(cluster.url, timeout=2.0)
        assert await client.execute("GET", key) is None
        move_slot(cluster, slot, source, target, done=False)
        told = asyncio.get_running_loop().create_future()
        client.post(pack(("INCR", key)), told)
        answer = (await asyncio.gather(told, return_exceptions=True))[0]
        counted = await client.execute("INCR", key)
        await client.aclose()
        return answer, counted

    try:
        answer, counted = asyncio.run(ask())
        assert isinstance(answer, NotSent)
        assert counted == 1
    finally:
        target.ask("FLUSHALL")
        settle_slot(cluster, slot, source)


def test_a_lost_node_is_lost_alone_and_comes_back(cluster: Cluster) -> None:
    keys = {shard: f"{shard_tag(shard)}:n" for shard in range(SHARDS)}
    node = cluster.primaries[1]
    on_it = {shard for shard in keys if cluster.owner_of(slot_of(tag_of(keys[shard]))) is node}
    threads = ThreadCluster(cluster.url, timeout=0.5)
    assert [threads.execute("INCR", key) for key in keys.values()] == [1] * SHARDS
    node.kill()

    async def ask() -> list[object]:
        client = LoopCluster(cluster.url, timeout=0.5)
        answers = await asyncio.gather(
            *(client.execute("INCR", key) for key in keys.values()), return_exceptions=True
        )
        assert await client.execute("PING") == b"PONG"
        await client.aclose()
        return list(answers)

    answers = asyncio.run(ask())
    lost = {shard for shard, answer in enumerate(answers) if isinstance(answer, redis.RedisError)}
    assert lost == on_it
    for shard in sorted(on_it)[:2]:
        with pytest.raises(redis.RedisError):
            threads.execute("INCR", keys[shard])
    assert threads.execute("PING") == b"PONG"

    node.start()
    cluster.wait_until_well()
    assert all(threads.execute("INCR", keys[shard]) == 2 for shard in on_it)  # from its append-only file


def test_sync_client_of_commands_and_its_clock(cluster: Cluster) -> None:
    with override_settings(REDIS_URL=cluster.url):
        pipeline = usage_redis().pipeline(transaction=False)
        for shard in range(SHARDS):
            pipeline.xlen(stream_key(shard))
        assert pipeline.execute() == [0] * SHARDS
        clocks = [int(node.ask("TIME")[0]) for node in cluster.primaries]
        assert 0 <= slowest_clock() - min(clocks) <= 1


def test_no_node_at_all_is_an_error_of_redis() -> None:
    url = "redis+cluster://127.0.0.1:1,127.0.0.1:2"
    with override_settings(REDIS_URL=url), pytest.raises(redis.RedisError):
        usage_redis()
    with pytest.raises(redis.RedisError):
        ThreadCluster(url, timeout=0.5).execute("GET", "key")
    with pytest.raises(redis.RedisError):
        run_loop(url, ("GET", "key"))
