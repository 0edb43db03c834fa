from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from core.ids import ALPHABET, NONCE_BITS, event_id, event_time_ms, new_nonce, public_id

micros = st.integers(min_value=0, max_value=2**47 * 1000)
nonces = st.integers(min_value=0, max_value=2**NONCE_BITS - 1)


@given(micros, nonces)
def test_event_id_is_a_uuid_7_that_carries_its_time(at: int, nonce: int) -> None:
    made = event_id(at, nonce)
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert event_time_ms(made) == at // 1000


@given(micros, nonces, nonces)
def test_event_ids_of_one_moment_differ_as_their_nonces_do(at: int, one: int, other: int) -> None:
    assert (event_id(at, one) == event_id(at, other)) == (one == other)


def test_the_same_admission_gives_the_same_id() -> None:
    assert event_id(1_760_000_000_123_456, 42) == UUID("0199c82c-c07b-7000-8000-00000000002a")


def test_nonces_stay_within_their_bits() -> None:
    assert all(0 <= new_nonce() < 2**NONCE_BITS for _ in range(1000))


def test_public_ids_have_prefix_and_base62() -> None:
    prefix, _, rest = public_id("org").partition("_")
    assert prefix == "org"
    assert len(rest) == 16
    assert set(rest) <= set(ALPHABET)
