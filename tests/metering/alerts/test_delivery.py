"""Webhooks: what is posted, what is tried again, and that nobody is led inside."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.conf import LazySettings

from core.clock import now
from core.outbound import is_allowed
from metering.alerts.delivery import PAUSES, deliver, due_deliveries
from metering.alerts.services import ensure_defaults, send_test, set_webhook
from metering.alerts.webhook import post_text
from metering.models import AlertDelivery, AlertSettings
from tests.metering.alerts.kit import customer, default


class Listener:
    """A receiver on this machine that remembers what came."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.status, self.location = 200, ""
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                listener.heard.append((self.path, json.loads(body)))
                self.send_response(listener.status)
                if listener.location:
                    self.send_header("Location", listener.location)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def inside(settings: LazySettings) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = True


def waiting(url: str) -> AlertDelivery:
    organization = customer()
    ensure_defaults(organization, at=now())
    set_webhook(organization=organization, url=url, by=None, at=now())
    send_test(alert=default(organization, 100), by=None, at=now())
    return AlertDelivery.objects.get(channel="webhook")


@pytest.mark.usefixtures("db", "inside")
def test_it_is_posted_as_slack_reads_it(listener: Listener) -> None:
    row = waiting(f"http://127.0.0.1:{listener.port}/hook")
    assert due_deliveries(at=now()) == [row.pk]
    deliver(row.pk, at=now())
    row.refresh_from_db()
    assert (row.state, row.outcome, row.attempts) == ("sent", "answered 200", 1)
    ((path, body),) = listener.heard
    assert path == "/hook"
    assert set(body) == {"text"}
    assert body["text"].startswith("Northwind Maps: Test, nothing was reached")
    assert deliver(row.pk, at=now()) is None
    assert len(listener.heard) == 1


@pytest.mark.usefixtures("inside")
def test_names_cannot_call_a_channel(listener: Listener) -> None:
    assert post_text(f"http://127.0.0.1:{listener.port}/", "<!channel> & <https://x|y>").ok
    assert listener.heard[0][1]["text"] == "&lt;!channel&gt; &amp; &lt;https://x|y&gt;"


@pytest.mark.usefixtures("db", "inside")
def test_failures_are_tried_again_with_growing_pauses(listener: Listener) -> None:
    listener.status = 500
    row = waiting(f"http://127.0.0.1:{listener.port}/hook")
    at = now()
    for number, pause in enumerate(PAUSES, start=1):
        deliver(row.pk, at=at)
        row.refresh_from_db()
        assert (row.state, row.attempts, row.next_at) == ("waiting", number, at + pause)
        assert due_deliveries(at=at + pause - timedelta(seconds=1)) == []
        at += pause
    deliver(row.pk, at=at)
    row.refresh_from_db()
    assert (row.state, row.outcome, row.attempts) == ("failed", "answered 500", len(PAUSES) + 1)
    assert due_deliveries(at=at + timedelta(days=30)) == []


@pytest.mark.usefixtures("db", "inside")
def test_a_row_names_the_host_that_was_told_in_the_end(listener: Listener) -> None:
    row = waiting("http://127.0.0.2:9/hook")
    deliver(row.pk, at=now())
    row.refresh_from_db()
    assert (row.state, row.recipient) == ("waiting", "127.0.0.2")
    url = f"http://127.0.0.1:{listener.port}/hook"
    set_webhook(organization=row.organization, url=url, by=None, at=now())
    deliver(row.pk, at=row.next_at or now())
    row.refresh_from_db()
    assert (row.state, row.recipient) == ("sent", "127.0.0.1")


@pytest.mark.usefixtures("db", "inside")
def test_a_webhook_taken_away_is_not_called(listener: Listener) -> None:
    row = waiting(f"http://127.0.0.1:{listener.port}/hook")
    AlertSettings.objects.update(webhook_url="")
    deliver(row.pk, at=now())
    row.refresh_from_db()
    assert (row.outcome, listener.heard) == ("no webhook is set", [])


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(listener: Listener, status: int) -> None:
    other = Listener()
    listener.status, listener.location = status, f"http://127.0.0.1:{other.port}/inside"
    posted = post_text(f"http://127.0.0.1:{listener.port}/", "x")
    other.server.shutdown()
    other.server.server_close()
    assert (posted.ok, posted.words, other.heard) == (False, f"answered {status}", [])


# Forms that lead to this machine or to the network around it; all on the listener's port.
HOSTS = (
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "017700000001", "localhost",
    "LOCALHOST", "localhost.", "0.0.0.0", "0", "127.255.255.254", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]", "[::ffff:0:127.0.0.1]", "[fe80::1]", "[fd00::1]", "127.0.0.1%2f", "①②⑦.⓪.⓪.①", "%31%32%37.0.0.1",
)  # fmt: skip


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", HOSTS)
def test_no_form_of_an_inner_address_reaches_a_listener(listener: Listener, host: str, scheme: str) -> None:
    posted = post_text(f"{scheme}://{host}:{listener.port}/hook", "x")
    assert not posted.ok
    assert "127" not in posted.words
    assert listener.heard == []


@pytest.mark.parametrize("host", HOSTS)
def test_also_where_only_the_address_is_in_the_way(
    listener: Listener, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the rule for the form of the address: the connected address alone refuses."""
    monkeypatch.setattr("metering.alerts.webhook.url_fault", lambda _: "")
    assert not post_text(f"http://{host}:{listener.port}/hook", "x").ok
    assert listener.heard == []


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "192.0.0.192", "198.18.0.1", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "::ffff:10.0.0.1", "::10.0.0.1", "::ffff:0:a00:1", "2001:0:7f00:1::", "64:ff9b::a00:1",
        "2002:a00:1::", "fec0::1", "ff02::1", "fd12::1", "fe80::1%eth0", "2001:db8::1", "::",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_allowed(address, allow_private=False)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34"]
)
def test_public_addresses_are_fine(address: str) -> None:
    assert is_allowed(address, allow_private=False)
