"""What of a request's and an answer's headers passes."""

import pytest

from gateway.caller import presented_key
from gateway.headers import RawHeaders, answer_headers, header_fault, upstream_headers
from tests.gateway.records import record

HOST = (b"host", b"api.example.com")


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ([HOST], ""),
        ([HOST] + [(b"x-a", b"1")] * 99, ""),
        ([HOST] + [(b"x-a", b"1")] * 100, "headers_too_large"),
        ([HOST, (b"x-a", b"1" * (32 * 1024 - 22))], ""),
        ([HOST, (b"x-a", b"1" * (32 * 1024 - 21))], "headers_too_large"),
        ([], "bad_request"),
        ([HOST, HOST], "bad_request"),
        ([HOST, (b"content-length", b"1"), (b"content-length", b"1")], "bad_request"),
        ([HOST, (b"content-length", b"1"), (b"transfer-encoding", b"chunked")], "bad_request"),
        ([HOST, (b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")], "bad_request"),
        ([HOST, (b"x-api-key", b"a"), (b"x-api-key", b"a")], "bad_request"),
    ],
)
def test_ambiguous_and_oversized_heads_are_found(headers: RawHeaders, fault: str) -> None:
    assert header_fault(headers) == fault


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([], None),
        ([(b"authorization", b"Bearer abc")], "abc"),
        ([(b"authorization", b"bEaReR  abc ")], "abc"),
        ([(b"authorization", b"Basic abc")], None),
        ([(b"authorization", b"abc")], None),
        ([(b"x-api-key", b" abc ")], "abc"),
        ([(b"x-api-key", b"")], None),
        ([(b"x-api-key", b"two"), (b"authorization", b"Bearer one")], "one"),
        ([(b"authorization", b"Basic one"), (b"x-api-key", b"two")], "two"),
        ([(b"authorization", b"Bearer \xff")], "\xff"),
    ],
)
def test_key_is_read_from_the_two_places_where_clients_put_it(headers: RawHeaders, key: str | None) -> None:
    assert presented_key(headers) == key


def _sent(*headers: tuple[bytes, bytes], credential: tuple[str, str] | None = None) -> list[tuple[str, str]]:
    return upstream_headers(
        headers, record(), request_id="req_1", forwarded=[("X-Forwarded-For", "10.0.0.1")], credential=credential,
    )  # fmt: skip


def test_upstream_learns_who_calls_from_us_alone() -> None:
    sent = _sent(
        HOST,
        (b"x-farebox-organization", b"org_forged"),
        (b"x-farebox-anything", b"forged"),
        (b"x_farebox_organization", b"org_forged"),  # a WSGI server makes one variable of both spellings
        (b"x_forwarded_for", b"1.2.3.4"),
        (b"x-request-id", b"forged"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"forwarded", b"for=1.2.3.4"),
        (b"accept", b"text/csv"),
    )

    assert sent == [
        ("accept", "text/csv"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Farebox-Organization", "org_7"),
        ("X-Farebox-Plan", "pro"),
        ("X-Farebox-Key-Id", "key_5"),
        ("X-Farebox-Mode", "live"),
        ("X-Request-Id", "req_1"),
    ]


def test_key_and_headers_of_one_hop_are_not_passed() -> None:
    names = {
        name
        for name, _ in _sent(
            (b"authorization", b"Bearer secret"), (b"x-api-key", b"secret"), (b"connection", b"close, X-Mine"),
            (b"x-mine", b"1"), (b"te", b"trailers"), (b"transfer-encoding", b"chunked"), (b"keep-alive", b"5"),
            (b"expect", b"100-continue"), (b"x-kept", b"1"),
        )
    }  # fmt: skip

    assert "x-kept" in names
    assert not names & {
        "authorization", "x-api-key", "connection", "x-mine", "te", "transfer-encoding", "keep-alive", "expect"
    }  # fmt: skip


def test_credential_of_the_owner_replaces_a_copy_by_the_client() -> None:
    sent = _sent((b"x-upstream-token", b"forged"), credential=("X-Upstream-Token", "true"))

    assert [value for name, value in sent if name.lower() == "x-upstream-token"] == ["true"]


def test_headers_said_twice_are_passed_twice() -> None:
    assert [v for n, v in _sent((b"x-a", b"1"), (b"x-a", b"2")) if n == "x-a"] == ["1", "2"]


def test_answer_loses_what_is_of_one_hop_and_what_only_we_may_say() -> None:
    upstream = [
        (b"Content-Type", b"text/plain"), (b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"RateLimit", b"forged"),
        (b"X-Request-Id", b"forged"), (b"Date", b"then"), (b"Connection", b"X-Hop"), (b"X-Hop", b"1"),
        (b"Transfer-Encoding", b"chunked"),
    ]  # fmt: skip

    assert answer_headers(upstream, [("RateLimit", "ours")]) == [
        (b"content-type", b"text/plain"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"ratelimit", b"ours"),
    ]
