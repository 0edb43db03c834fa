"""Requests that are sent again: one effect, the same answer, whatever dies in between."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier, Event, Thread
from typing import Any

import pytest
from django.db import connection

from accounts.models import AuditEvent
from accounts.services import record_audit
from core.clock import now
from core.idempotency import (
    KEPT,
    BadIdempotencyKey,
    IdempotencyKeyReused,
    Once,
    StillRunning,
    carry_out_once,
    fingerprint,
    forget_answers,
)
from core.models import KeptAnswer
from core.tasks import forget_kept_answers

AT = now()
SENT = fingerprint("POST", "/things", {"name": "a", "size": 1})


def leave_a_mark() -> dict[str, Any]:
    """An act with an effect that can be counted."""
    made = record_audit(organization=None, by=None, action="test.mark", target="", at=AT)
    return {"mark": made.pk, "words": "größer", "none": None}


def marks() -> int:
    return AuditEvent.objects.filter(action="test.mark").count()


def send(*, caller: str = "owner:1", key: str = "k-1", request: bytes = SENT, **more: Any) -> Once:
    return carry_out_once(
        **({"caller": caller, "key": key, "request": request, "act": leave_a_mark, "at": AT} | more)
    )


def test_requests_that_mean_the_same_have_one_fingerprint() -> None:
    assert fingerprint("POST", "/things", {"size": 1, "name": "a"}) == SENT
    others = [("PUT", "/things", {"name": "a", "size": 1}), ("POST", "/other", {"name": "a", "size": 1}),
              ("POST", "/things", {"name": "a", "size": "1"}), ("POST", "/things", None)]  # fmt: skip
    assert SENT not in [fingerprint(*other) for other in others]


@pytest.mark.django_db
def test_the_second_gets_the_answer_of_the_first() -> None:
    first, second = send(), send()
    assert (first.is_replay, second.is_replay) == (False, True)
    assert first.body == second.body
    assert marks() == 1


@pytest.mark.django_db
def test_another_request_with_the_key_is_refused_and_other_callers_have_their_own() -> None:
    send()
    with pytest.raises(IdempotencyKeyReused):
        send(request=fingerprint("POST", "/things", {"name": "b"}))
    assert not send(caller="owner:2").is_replay
    assert not send(key="k-2").is_replay
    assert marks() == 3


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "ä", "x" * 201])
def test_a_key_has_a_form(key: str) -> None:
    with pytest.raises(BadIdempotencyKey):
        send(key=key)
    assert marks() == 0


@pytest.mark.django_db
def test_a_refused_act_leaves_nothing_and_the_key_free() -> None:
    def refuse() -> Any:
        leave_a_mark()
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        send(act=refuse)
    assert (marks(), KeptAnswer.objects.count()) == (0, 0)
    assert not send(request=fingerprint("POST", "/things", {"mended": True})).is_replay


@pytest.mark.django_db
def test_an_answer_is_kept_for_a_day_and_not_in_clear() -> None:
    send(act=lambda: {"key": "fb_live_secret"})
    with connection.cursor() as cursor:
        cursor.execute("SELECT body FROM core_keptanswer")
        assert "fb_live_secret" not in cursor.fetchone()[0]
    assert send(at=AT + KEPT - timedelta(seconds=1)).is_replay
    assert not send(at=AT + KEPT).is_replay
    assert marks() == 1
    assert forget_answers(at=AT + KEPT) == 0
    assert forget_answers(at=AT + 2 * KEPT) == 1


@pytest.mark.django_db
def test_the_clearing_job_runs() -> None:
    send(at=now() - 2 * KEPT)
    send(key="k-2", at=now())
    forget_kept_answers()
    assert [row.key for row in KeptAnswer.objects.all()] == ["k-2"]


def test_fifty_at_once_have_one_effect(transactional_db: None) -> None:
    barrier = Barrier(50)

    def one(_: int) -> str:
        barrier.wait()
        try:
            return "replay" if send().is_replay else "first"
        except StillRunning:
            return "running"
        finally:
            connection.close()

    with ThreadPoolExecutor(50) as pool:
        found = Counter(pool.map(one, range(50)))
    assert found["first"] == 1
    assert sum(found.values()) == 50
    assert marks() == 1
    assert send().is_replay


def test_while_the_first_runs_the_second_is_told_so(transactional_db: None) -> None:
    started, may_end = Event(), Event()

    def slow() -> Any:
        started.set()
        assert may_end.wait(20)
        return leave_a_mark()

    def first() -> None:
        send(act=slow)
        connection.close()

    thread = Thread(target=first)
    thread.start()
    assert started.wait(20)
    with pytest.raises(StillRunning):
        send()
    may_end.set()
    thread.join(20)
    assert send().is_replay
    assert marks() == 1


@pytest.mark.parametrize("phase", ["before the act", "after the act", "after the answer was kept"])
def test_a_death_at_any_moment_leaves_nothing(transactional_db: None, phase: str) -> None:
    """The connection is cut by the server, as when the process is killed: the next request starts anew, at once."""

    def die() -> Any:
        body = leave_a_mark() if phase != "before the act" else {}
        if phase == "after the answer was kept":
            KeptAnswer.objects.create(
                caller="owner:1", key="k-1", fingerprint=SENT, body="{}", at=AT, kept_until=AT + KEPT
            )
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return body

    def victim() -> None:
        try:
            send(act=die)
        except Exception:
            connection.close()
        else:
            raise AssertionError("it lived")

    thread = Thread(target=victim)
    thread.start()
    thread.join(20)
    assert marks() == 0
    assert not send().is_replay
    assert marks() == 1
