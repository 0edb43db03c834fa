from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import OperationalError

from core.clock import now
from keys import guesses, record_cache
from keys.guesses import TooManyGuesses
from keys.hashing import digest
from keys.record_cache import UNKNOWN_SECONDS, RecordCache
from tests.factories import create_key, create_organization, expire_key


@dataclass
class Clock:
    seconds: float = 0.0
    cache: RecordCache = field(init=False)

    def __post_init__(self) -> None:
        self.cache = RecordCache(lambda: self.seconds)


@pytest.fixture
def clock(db: None) -> Clock:
    return Clock()


def test_a_seen_key_costs_no_query_until_its_record_is_too_old(
    clock: Clock, settings: Any, django_assert_num_queries: Any
) -> None:
    issued = create_key(organization=create_organization())
    key_hash = bytes(issued.key.hash)
    first = clock.cache.find(key_hash, at=now(), address="::1")
    assert first is not None
    clock.seconds = settings.RECORD_SECONDS - 1
    expire_key(issued.key, at=now())
    with django_assert_num_queries(0):
        assert clock.cache.find(key_hash, at=now(), address="::1") is first
    clock.seconds += 1
    renewed = clock.cache.find(key_hash, at=now(), address="::1")
    assert renewed is not None
    assert renewed.expires_at_us is not None


def test_an_unknown_key_is_remembered_for_a_while(clock: Clock, django_assert_num_queries: Any) -> None:
    nobody = digest("nobody")
    assert clock.cache.find(nobody, at=now(), address="::1") is None
    clock.seconds = UNKNOWN_SECONDS - 1
    with django_assert_num_queries(0):
        assert clock.cache.find(nobody, at=now(), address="::1") is None
    clock.seconds = UNKNOWN_SECONDS
    with django_assert_num_queries(1):
        assert clock.cache.find(nobody, at=now(), address="::1") is None


def test_it_is_bounded_and_drops_what_was_read_longest_ago(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(record_cache, "CACHED_KEYS", 2)
    hashes = [digest(str(number)) for number in range(3)]
    for one in hashes:
        clock.cache.find(one, at=now(), address="::1")
    with django_assert_num_queries(0):
        clock.cache.find(hashes[1], at=now(), address="::1")
        clock.cache.find(hashes[2], at=now(), address="::1")
    with django_assert_num_queries(1):
        clock.cache.find(hashes[0], at=now(), address="::1")


def test_strangers_with_guessed_keys_do_not_push_out_the_customers(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(record_cache, "CACHED_KEYS", 10)
    known = bytes(create_key(organization=create_organization()).key.hash)
    clock.cache.find(known, at=now(), address="::1")
    for number in range(50):
        clock.cache.find(digest(str(number)), at=now(), address="::1")
    with django_assert_num_queries(0):
        assert clock.cache.find(known, at=now(), address="::1") is not None


def test_a_key_that_is_known_is_found_for_an_address_that_guesses(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(guesses, "MISSES_A_MINUTE", 1)
    known = bytes(create_key(organization=create_organization()).key.hash)
    assert clock.cache.find(known, at=now(), address="::1") is not None
    assert clock.cache.find(digest("1"), at=now(), address="::1") is None
    with pytest.raises(TooManyGuesses):
        clock.cache.find(digest("2"), at=now(), address="::1")
    assert clock.cache.find(digest("1"), at=now(), address="::1") is None, "this one costs no query"
    assert clock.cache.find(digest("2"), at=now(), address="::2") is None
    assert clock.cache.find(known, at=now(), address="::1") is not None
    clock.seconds = settings.RECORD_SECONDS
    assert clock.cache.find(known, at=now(), address="::1") is not None


def test_a_failed_reading_leaves_what_was_known(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    known = bytes(create_key(organization=create_organization()).key.hash)
    record = clock.cache.find(known, at=now(), address="::1")
    monkeypatch.setattr(record_cache, "load_record", _gone)
    with pytest.raises(OperationalError):
        clock.cache.reload(known, at=now())
    assert clock.cache.find(known, at=now(), address="::1") is record
    clock.cache.clear()
    with pytest.raises(OperationalError):
        clock.cache.find(known, at=now(), address="::1")


def _gone(*_: Any, **__: Any) -> None:
    raise OperationalError
