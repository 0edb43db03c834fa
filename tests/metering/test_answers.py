import pytest

from metering.answers import closed_door, limited, nearest, rate_headers
from metering.calls import QuotaState, Refused, WindowState


def window(
    seconds: int, limit: int, remaining: int, *, reset_s: int = 5, of_key: bool = False
) -> WindowState:
    return WindowState(seconds=seconds, limit=limit, remaining=remaining, reset_s=reset_s, of_key=of_key)


def test_headers_name_every_limit_and_the_nearest() -> None:
    quota = QuotaState(limit=1_000, remaining=400, reset_s=90_000)
    windows = [
        window(60, 100, 40, reset_s=12),
        window(60, 10, 1, reset_s=30, of_key=True),
        window(7_200, 900, 800),
    ]
    assert dict(rate_headers(windows, quota, 0)) == {
        "RateLimit-Policy": '"minute";q=100;w=60, "key-minute";q=10;w=60, "7200s";q=900;w=7200, "period";q=1000;w=90000',
        "RateLimit": '"key-minute";r=1;t=30',
        "X-RateLimit-Limit": "10",
        "X-RateLimit-Remaining": "1",
        "X-RateLimit-Reset": "30",
    }


def test_without_limits_there_is_nothing_to_say() -> None:
    assert rate_headers([], None, 0) == []


def test_the_nearest_limit_is_the_one_with_the_least_share_left() -> None:
    wide, narrow = window(3_600, 10_000, 50), window(60, 10, 9)
    assert nearest([narrow, wide]) is wide
    assert nearest([narrow]) is narrow
    first, second = window(1, 10, 5), window(60, 100, 50)
    assert nearest([first, second]) is first


@pytest.mark.parametrize("code", ["suspended", "trial_over", "subscription_cancelled", "payment_required"])
def test_a_closed_door_is_402_in_its_own_words(code: str) -> None:
    refusal = closed_door(code)
    assert (refusal.code, refusal.status) == (code, 402)
    assert ("x-should-retry", "false") in refusal.headers
    assert limited(refused(code)).detail == refusal.detail


def test_a_closed_door_of_another_name_is_still_a_closed_door() -> None:
    assert closed_door("new_reason").status == limited(refused("new_reason")).status == 402
    assert closed_door("new_reason").code == "new_reason"


@pytest.mark.parametrize(
    ("code", "should_retry"),
    [
        ("rate_limited", True),
        ("key_rate_limited", True),
        ("quota_exceeded", False),
        ("trial_quota_reached", False),
    ],
)
def test_limits_are_429_and_only_rate_limits_are_worth_a_retry(code: str, should_retry: bool) -> None:
    refusal = limited(refused(code, retry_after_s=7))
    assert refusal.status == 429
    assert ("Retry-After", "7") in refusal.headers
    assert (("x-should-retry", "false") not in refusal.headers) == should_retry


def test_headers_of_one_refusal_are_not_those_of_the_next() -> None:
    closed_door("suspended").headers.append(("X-Mine", "1"))
    assert ("X-Mine", "1") not in closed_door("suspended").headers


def test_a_problem_document_has_all_it_needs() -> None:
    body = closed_door("suspended").body(request_id="req_1", instance="/v1/x", docs_url="https://example.com")
    assert body["type"] == "https://example.com/docs/errors/#suspended"
    assert (body["code"], body["status"], body["request_id"], body["instance"]) == (
        "suspended",
        402,
        "req_1",
        "/v1/x",
    )


def refused(code: str, *, retry_after_s: int = 0) -> Refused:
    return Refused(
        code=code,
        occurred_at_us=1,
        retry_after_s=retry_after_s,
        used=0,
        windows=(window(60, 10, 0),),
        quota=None,
    )
