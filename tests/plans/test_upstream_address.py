"""What may be written as an upstream's address."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from plans.models import LanguageUpstream, Product, UpstreamServer
from plans.upstream_address import address_fault, shape_fault


@pytest.mark.parametrize(
    "url",
    [
        "http://geo.internal:8080", "https://api.openai.com/v1", "http://vllm:8000/v1", "http://127.0.0.1:9100/",
        "http://[fd00::5]:8080/base", "https://xn--bcher-kva.example", "http://my_service:80", "http://host.example./",
    ],
)  # fmt: skip
def test_plain_addresses_are_fine(url: str) -> None:
    assert address_fault(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "", "geo.internal", "//geo.internal", "ftp://geo.internal", "file:///etc/passwd", "gopher://a", "http://", "http:///x",
        "http://user:pass@host", "http://127.0.0.1@evil.example", "http://good.example@127.0.0.1", "http://@host",
        "http://host:0", "http://host:", "http://host:99999", "http://host:a", "http://host?x=1", "http://host/#x",
        "http://2130706433", "http://0x7f000001", "http://0177.0.0.1", "http://127.1", "http://0x7f.1", "http://127.0.0.1.",
        "http://[fe80::1%25eth0]", "http://[::1%lo]", "http://[1.2.3.4]", "http://127\u30020\u30020\u30021", "http://\uff11",
        "http://ho st", "http://host\\@evil", "http://host\r\nX: y", "http://-bad.example", "http://a..b", "http://" + "a" * 500,
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused(url: str) -> None:
    assert shape_fault(url) != ""


def test_numbers_that_farebox_would_not_connect_to_are_refused_at_once(settings: Any) -> None:
    assert address_fault("http://169.254.169.254/latest") != ""
    assert address_fault("http://[::ffff:169.254.169.254]") != ""
    assert address_fault("http://[64:ff9b::7f00:1]") != ""
    settings.UPSTREAM_ALLOW_PRIVATE = False
    assert address_fault("http://10.0.0.1") != ""
    assert address_fault("http://[::1]:9100") != ""
    assert address_fault("http://93.184.216.34") == ""


@pytest.mark.parametrize(
    "row",
    [
        Product(slug="a", name="A", upstream_url="http://a@b"),
        UpstreamServer(base_url="http://169.254.169.254"),
        LanguageUpstream(base_url="http://127.1/v1"),
    ],
)
def test_every_field_of_an_address_is_judged(row: Any) -> None:
    name = "upstream_url" if isinstance(row, Product) else "base_url"
    others = [field.name for field in row._meta.fields if field.name != name]
    with pytest.raises(ValidationError) as caught:
        row.clean_fields(exclude=others)
    assert list(caught.value.message_dict) == [name]


@pytest.mark.parametrize("path", ["healthz", "/a b", "/a#b", "/\u00e9", "//\\host"])
def test_a_check_asks_a_path_of_the_server_itself(path: str) -> None:
    with pytest.raises(ValidationError):
        UpstreamServer(base_url="http://a", check_path=path).clean()
