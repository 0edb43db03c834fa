"""Names of the keys in the usage Redis. Every key starts with the layout's number and its shard's hash tag, so that all
keys of one script call live in one slot of a Cluster and a later layout can stand beside this one.
"""

from functools import cache

LAYOUT = "fb1"
SHARDS = 64
DRAIN_TURN = (
    f"{LAYOUT}:drain-turn"  # the shard that the last drain came to; lost, the next one starts at the first
)


def upstreams_key(turn: int) -> str:
    """Hash: what each worker of the gateway saw of upstream servers in this turn (plans/upstream_states.py)."""
    return f"{LAYOUT}:upstreams:{turn}"


@cache
def shard_tag(shard: int) -> str:
    """`{s17}`: the part of a key that decides its slot. Raises ValueError outside 0 to 63."""
    if not 0 <= shard < SHARDS:
        raise ValueError(f"there is no shard {shard}")
    return f"{{s{shard:02d}}}"


@cache
def _prefix(shard: int) -> str:
    return f"{LAYOUT}:{shard_tag(shard)}:"


def stream_key(shard: int) -> str:
    """Stream of settled events: `e` the event, `q` its "epoch:seq"."""
    return _prefix(shard) + "stream"


def shard_key(shard: int) -> str:
    """Hash: `epoch`, a random text made anew after a loss, and `seq`, the events numbered under it."""
    return _prefix(shard) + "shard"


def organization_key(shard: int, org_id: int) -> str:
    """Hash: `v`, the organization's version. Missing means lost or never pushed, never "nothing used"."""
    return f"{_prefix(shard)}o:{org_id}"


def usage_prefix(shard: int, org_id: int) -> str:
    """What the usage keys of one organization start with."""
    return f"{_prefix(shard)}u:{org_id}:"


def usage_key(shard: int, org_id: int, mode: str, period_id: int | str) -> str:
    """Hash: settled quantity by meter id, reserved by `r` + meter id, in whole smallest units of the meter.
    A period `d20778` is a day (UTC), for limits of the day."""
    return f"{usage_prefix(shard, org_id)}{mode}:{period_id}"


def rate_key(shard: int, org_id: int, mode: str, seconds: int) -> str:
    """Packed sub-buckets of one window of an organization."""
    return f"{_prefix(shard)}rl:{org_id}:{mode}:{seconds}"


def key_rate_key(shard: int, key_id: int | str, seconds: int) -> str:
    """Packed sub-buckets of one window of an API key."""
    return f"{_prefix(shard)}rlk:{key_id}:{seconds}"


def weighted_key(shard: int, org_id: int, mode: str, name: str, seconds: int) -> str:
    """Packed sub-buckets of a window that counts something else, or less, than all calls of an organization."""
    return f"{_prefix(shard)}rlw:{org_id}:{mode}:{name}:{seconds}"


def reservations_key(shard: int, org_id: int) -> str:
    """Sorted set: open reservations "nonce:mode:period:meter:units" (further charges after commas) by the microsecond at which they expire."""
    return f"{_prefix(shard)}res:{org_id}"


def expiries_key(shard: int) -> str:
    """Set: organizations that may hold reservations; tells the sweep where to look."""
    return _prefix(shard) + "resx"


def settled_key(shard: int, nonce: str) -> str:
    """Marker that a reservation was settled: a repeated settle is told "done" for ten minutes."""
    return f"{_prefix(shard)}done:{nonce}"


def claim_key(shard: int, org_id: int, digest: str) -> str:
    """Claim of an id that a caller gave to an ingested event."""
    return f"{_prefix(shard)}claim:{org_id}:{digest}"


def mark_key(shard: int, org_id: int, name: str) -> str:
    """Mark of a request with an `Idempotency-Key` that is being carried out, or was until a moment ago."""
    return f"{_prefix(shard)}once:{org_id}:{name}"


def refusals_prefix(shard: int) -> str:
    """What the refusal counters of a shard start with; the script adds the minute of its own clock."""
    return _prefix(shard) + "ref:"


def refusals_key(shard: int, minute: int) -> str:
    """Hash: refusals of one minute (since 1970) by "org:mode:key:reason"."""
    return f"{refusals_prefix(shard)}{minute}"
