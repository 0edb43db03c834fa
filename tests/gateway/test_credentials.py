"""The owner's credential goes to the upstream and nowhere else."""

import pytest

from gateway.headers import withheld
from tests.gateway.kit import Shop

CREDENTIAL = "owner's"  # tests/gateway/kit.py


@pytest.mark.parametrize("path", ["/tell/body", "/tell/redirect"])
def test_an_upstream_that_says_it_again_is_not_passed_on_with_it(shop: Shop, path: str) -> None:
    shop.log()
    answer = shop.customer().call(path)
    assert answer.body == b"told"
    assert not any(CREDENTIAL in value for value in answer.headers.values())
    assert answer.headers["x-upstream"] == "yes"
    assert not {"x-token", "x-seen", "location"} & set(answer.headers)
    assert shop.log() == ["tell"]


def test_a_redirect_is_passed_on_and_not_followed(shop: Shop) -> None:
    shop.log()
    answer = shop.customer().call("/status/302")
    assert (answer.status, answer.headers["location"]) == (302, "/elsewhere")
    assert shop.log() == ["status"]


@pytest.mark.parametrize("path", ["/hang-up", "/slow/5", "/status/503", "/small"])
def test_no_error_tells_it(shop: Shop, path: str) -> None:
    answer = shop.customer().call(path, "POST", b"x" * 2000)
    assert answer.status >= 400
    assert CREDENTIAL.encode() not in answer.body
    assert not any(CREDENTIAL in value for value in answer.headers.values())


@pytest.mark.parametrize(
    ("credential", "value", "is_withheld"),
    [
        ("Bearer sk-0123456789", b"sk-0123456789", True), ("Bearer sk-0123456789", b"x Bearer sk-0123456789", True),
        ("Bearer sk-0123456789", b"Bearer realm=api", False), ("Basic dXNlcjpwYXNz", b"a,dXNlcjpwYXNz;b", True),
        ("abc", b"abcdef", False), ("", b"anything", False), ("two ab", b"two ab", True),
    ],
)  # fmt: skip
def test_what_is_secret_of_a_credential(credential: str, value: bytes, *, is_withheld: bool) -> None:
    headers = [(b"x-plain", b"1"), (b"x-echo", value)]
    assert withheld(headers, ("Authorization", credential)) == (headers[:1] if is_withheld else headers)
    assert withheld(headers, None) is headers
