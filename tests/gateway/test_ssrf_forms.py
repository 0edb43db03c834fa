"""No address that leads inside is connected to, however it is written; nothing in a request chooses an address at all."""

import socket
from collections.abc import Callable, Iterator
from threading import Thread
from urllib.parse import urlsplit

import pytest

from plans.upstream_address import address_fault
from tests.gateway.kit import SLUG, Shop
from tests.gateway.ssrf_forms import FORMS, SIX, SPELLINGS, is_reached_when_allowed, reached

Record = Callable[[str, object], None]


@pytest.mark.parametrize("side", ["upstream", "webhook"])
async def test_the_listeners_count_who_comes(side: str) -> None:
    assert await is_reached_when_allowed(side)


def test_there_are_forty_forms() -> None:
    assert len(set(FORMS)) == 40


@pytest.mark.parametrize("form", FORMS)
async def test_no_form_leads_inside(form: str, record_property: Record) -> None:
    found = [await reached(form, side) for side in ("upstream", "webhook")]
    record_property("forms", 1)
    record_property("reached", sum(found))
    assert found == [0, 0]


@pytest.mark.parametrize("form", [*SIX[-2:], *SPELLINGS])
def test_what_is_misleading_is_refused_when_it_is_written(form: str) -> None:
    assert address_fault(form.format(port=80)) != ""


# --- by requests -------------------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[tuple[int, list[str]]]:
    """A port that nobody may reach, and who did."""
    came: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    link, address = server.accept()
                except OSError:
                    return
                came.append(str(address))
                link.close()

        Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)


TRICKS = (
    ("/{slug}/@127.0.0.1:{port}/", ""), ("/{slug}//127.0.0.1:{port}/", ""), ("/{slug}/http://127.0.0.1:{port}/", ""),
    ("/{slug}/\\\\127.0.0.1:{port}/", ""), ("/{slug}/.@127.0.0.1:{port}/", ""), ("/{slug}/%40127.0.0.1:{port}/", ""),
    ("/{slug}@127.0.0.1:{port}/", ""), ("http://127.0.0.1:{port}/{slug}/echo", ""), ("//127.0.0.1:{port}/{slug}/echo", ""),
    ("/{slug}/echo?url=http://127.0.0.1:{port}/", ""), ("/{slug}/echo", "X-Forwarded-Host: 127.0.0.1:{port}"),
    ("/{slug}/echo", "Forwarded: host=127.0.0.1:{port}"), ("/{slug}/echo", "X-Original-URL: http://127.0.0.1:{port}/"),
    ("/{slug}/echo", "X-Forwarded-Server: 127.0.0.1:{port}"), ("/{slug}/echo", "Location: http://127.0.0.1:{port}/"),
    ("/{slug}/status/302", ""),
)  # fmt: skip


@pytest.mark.usefixtures("shop")
def test_no_request_chooses_where_it_goes(
    shop: Shop, listener: tuple[int, list[str]], record_property: Record
) -> None:
    customer, (port, came) = shop.customer(), listener
    gateway = urlsplit(shop.gateway.url)
    for target, header in TRICKS:
        for host in ("farebox.example", f"127.0.0.1:{port}"):
            lines = [
                f"GET {target.format(slug=SLUG, port=port)} HTTP/1.1", f"Host: {host}", "Connection: close",
                f"Authorization: Bearer {customer.issued.clear}", *([header.format(port=port)] if header else []), "", "",
            ]  # fmt: skip
            with socket.create_connection((gateway.hostname, gateway.port), timeout=10) as link:
                link.sendall("\r\n".join(lines).encode())
                answer = b"".join(iter(lambda: link.recv(65_536), b""))
            assert answer.startswith(b"HTTP/1.1 ")
            assert not answer.startswith(b"HTTP/1.1 5")
    record_property("tricks", 2 * len(TRICKS))
    record_property("by_tricks", len(came))
    assert came == []
