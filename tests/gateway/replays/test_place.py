"""Which requests are the same, and whose answers a key can reach."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.replays.place import Fingerprint, Place, sent_key

Request = tuple[str, str, bytes, bytes, bytes]
REQUESTS = st.tuples(
    st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]), st.text("/ab", max_size=4), st.binary(max_size=3),
    st.sampled_from([b"", b"a/b", b"a/c"]), st.binary(max_size=6),
)  # fmt: skip


def fingerprint(request: Request, cuts: list[int] | None = None) -> str:
    """Of the body cut into pieces at these places."""
    method, path, query, content_type, body = request
    found = Fingerprint(method=method, path=path, query=query, content_type=content_type)
    places = [0, *sorted(min(cut, len(body)) for cut in cuts or []), len(body)]
    for start, end in pairwise(places):
        found.feed(body[start:end], is_last=False)
    found.feed(b"", is_last=True)
    assert found.is_whole
    assert found.size == len(body)
    return found.hex()


@given(REQUESTS, REQUESTS)
def test_two_requests_have_one_fingerprint_only_when_they_are_equal(one: Request, other: Request) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)


@given(REQUESTS, st.lists(st.integers(0, 6), max_size=4))
def test_how_a_body_was_cut_does_not_matter(request: Request, cuts: list[int]) -> None:
    assert fingerprint(request, cuts) == fingerprint(request)


Facts = tuple[int, str, str, bytes]
FACTS = st.tuples(
    st.integers(1, 12), st.sampled_from(["live", "test"]), st.text("r1", max_size=3), st.binary(max_size=3)
)


@given(FACTS, FACTS)
def test_a_place_belongs_to_one_organization_mode_route_and_key(one: Facts, other: Facts) -> None:
    names = [Place.of(3, org, mode=mode, route=route, key=key).name for org, mode, route, key in (one, other)]
    assert (names[0] == names[1]) == (one == other)


@pytest.mark.parametrize("text", [b"a", b"x" * 200, b'"quoted"', b"~!"])
def test_visible_text_is_a_key(text: bytes) -> None:
    assert sent_key([(b"host", b"a"), (b"idempotency-key", b" " + text)]) == text


@pytest.mark.parametrize("texts", [[b""], [b"x" * 201], [b"two words"], [b"\xe9"], [b"a", b"a"]])
def test_what_cannot_be_used_is_told_from_no_key(texts: list[bytes]) -> None:
    assert sent_key([(b"idempotency-key", text) for text in texts]) == b""
    assert sent_key([(b"host", b"a")]) is None
