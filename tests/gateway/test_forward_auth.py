"""What other gateways may ask, each in its own words, and what becomes of calls whose end they report or do not report."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from core.redis import usage_redis
from core.redis_layout import reservations_key
from gateway.dialects import Inquiry, _is_in, client_address, read_address, read_original
from gateway.reservations import Pending
from gateway.tokens import seal, unseal
from tests.examples.processes import ROOT, Answer
from tests.gateway.kit import SLUG, Customer, Process, Shop, wait_for
from tests.gateway.outer import TRUSTED
from tests.gateway.test_refusals import assert_refused

PREFIX = "/api/forward-auth"


@pytest.fixture(scope="module")
def gate(shop: Shop) -> Iterator[Process]:
    process = Process(**TRUSTED, FAREBOX_FORWARD_AUTH_REPORT_SECONDS="3").wait_until_ready()
    try:
        yield process
    finally:
        process.stop()


def ask(
    gate: Process, customer: Customer, at: str = f"nginx/{SLUG}", method: str = "GET", **headers: str
) -> Answer:
    sent = {"Authorization": f"Bearer {customer.issued.clear}"} | {
        k.replace("_", "-"): v for k, v in headers.items()
    }
    return gate.api.send(method, f"{PREFIX}/{at}", headers=sent)


def nginx(
    gate: Process, customer: Customer, uri: str = "/echo", method: str = "GET", *, reported: bool = False
) -> Answer:
    at = f"{'reported/' if reported else ''}nginx/{SLUG}"
    return ask(gate, customer, at, X_Original_URI=uri, X_Original_Method=method)


def report(gate: Process, word: str, status: int | str = 200, **more: str) -> Answer:
    headers = {"X-Farebox-Reservation": word, "X-Farebox-Status": str(status)}
    return gate.api.send(
        "POST", f"{PREFIX}/report", headers=headers | {f"X-Farebox-{k}": v for k, v in more.items()}
    )


def open_reservations(customer: Customer) -> int:
    organization = customer.organization
    found: Any = usage_redis().zcard(reservations_key(organization.shard, organization.pk))
    return int(found)


def test_each_gateway_is_understood_in_its_own_words(shop: Shop, gate: Process) -> None:
    customer = shop.customer()
    answers = [
        ask(gate, customer, f"nginx/{SLUG}", X_Original_URI="/five?a=1", X_Original_Method="POST"),
        ask(gate, customer, "nginx", X_Original_URI=f"/{SLUG}/five", X_Original_Method="POST"),
        ask(gate, customer, f"caddy/{SLUG}", X_Forwarded_Uri="/five", X_Forwarded_Method="POST"),
        ask(gate, customer, f"traefik/{SLUG}/", X_Forwarded_Uri="/five", X_Forwarded_Method="POST"),
        ask(gate, customer, f"envoy/{SLUG}/five?a=1", "POST"),
    ]

    for answer in answers:
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["x-farebox-organization"] == customer.organization.public_id
        assert answer.headers["farebox-units"] == "5"
        assert "x-farebox-reservation" not in answer.headers
    assert answers[4].headers["x-envoy-auth-headers-to-remove"] == "authorization,x-api-key"
    assert [event["qty"] for event in customer.events()] == [5] * 5
    assert all("status" not in event and event["door"] == "forward" for event in customer.events())
    assert open_reservations(customer) == 0


def test_only_its_own_headers_are_read(shop: Shop, gate: Process) -> None:
    """A client brings headers of another gateway along: they say nothing here."""
    customer = shop.customer()
    forged = {"X_Original_URI": f"/{SLUG}/five", "X_Original_Method": "GET"}
    assert_refused(ask(gate, customer, "caddy", **forged), 400, "bad_request")
    assert_refused(ask(gate, customer, "envoy/nothing/here", **forged), 404, "not_found")
    assert (
        ask(gate, customer, "nginx", X_Forwarded_Uri=f"/{SLUG}/five", X_Forwarded_Method="GET").status == 403
    )
    answer = ask(gate, customer, f"caddy/{SLUG}", X_Forwarded_Uri="/echo", X_Forwarded_Method="GET", **forged)
    assert (answer.status, answer.headers["farebox-units"]) == (200, "1")
    assert len(customer.events()) == 1


def test_strangers_may_not_ask(shop: Shop, gate: Process) -> None:
    """The gateway of the other tests trusts nobody; a trusted one believes no address but the connection's."""
    customer = shop.customer()
    for path in (f"{PREFIX}/caddy/{SLUG}", f"{PREFIX}/report", f"{PREFIX}/refused", f"{PREFIX}/nothing"):
        headers = {
            "Authorization": f"Bearer {customer.issued.clear}", "X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1",
            "X-Forwarded-Uri": "/echo", "X-Forwarded-Method": "GET",
        }  # fmt: skip
        assert_refused(shop.gateway.api.get(path, headers=headers), 403, "gateway_not_trusted")
    assert_refused(ask(gate, customer, "haproxy"), 404, "not_found")
    assert customer.events() == []


def test_what_a_proxy_says_of_its_client_makes_nobody_trusted(shop: Shop) -> None:
    """uvicorn is told to believe X-Forwarded-For: the connection is still the one that counts."""
    customer = shop.customer()
    gate = Process(FAREBOX_FORWARD_AUTH_FROM="192.0.2.7", FORWARDED_ALLOW_IPS="*").wait_until_ready()
    try:
        answer = ask(gate, customer, f"envoy/{SLUG}/echo", X_Forwarded_For="192.0.2.7")
    finally:
        gate.stop()
    assert_refused(answer, 403, "gateway_not_trusted")


def test_nginx_gets_a_word_that_it_exchanges_for_the_refusal(shop: Shop, gate: Process) -> None:
    customer = shop.customer(per_minute=0)

    refused = nginx(gate, customer, "/echo?secret=1")
    assert_refused(refused, 403, "rate_limited")
    word = refused.headers["x-farebox-refusal"]
    told = gate.api.get(f"{PREFIX}/refused", headers={"X-Farebox-Refusal": word})

    document = assert_refused(told, 429, "rate_limited")
    assert document["instance"] == f"/{SLUG}/echo"
    assert document["request_id"] == refused.headers["x-request-id"]
    assert int(told.headers["retry-after"]) > 0
    forged = word[:-1] + ("A" if word[-1] != "A" else "B")
    for bad in (forged, "", "a.b", "é", seal("reservation", {"c": "x"})):
        answer = gate.api.get(
            f"{PREFIX}/refused", headers={"X-Farebox-Refusal": bad.encode().decode("latin-1")}
        )
        assert_refused(answer, 400, "bad_request")


@pytest.mark.parametrize("uri", ["echo", "", "http://other/echo", "/../up", "/%2e%2e/up", "/free#/five", "*"])
def test_an_address_that_can_mean_two_things_is_refused(shop: Shop, gate: Process, uri: str) -> None:
    customer = shop.customer()
    answer = ask(gate, customer, f"traefik/{SLUG}", X_Forwarded_Uri=uri, X_Forwarded_Method="GET")
    assert_refused(answer, 400, "bad_path")
    assert customer.events() == []


def test_what_is_reported_is_what_is_billed(shop: Shop, gate: Process) -> None:
    customer = shop.customer()
    word = nginx(gate, customer, reported=True).headers["x-farebox-reservation"]
    assert (open_reservations(customer), customer.events()) == (1, [])

    answers = [
        report(gate, word, 201, Seconds="0.25", **{"Bytes-In": "7", "Bytes-Out": "90"}) for _ in range(3)
    ]

    assert [answer.status for answer in answers] == [204, 204, 204]
    event = customer.only_event()
    assert (event["qty"], event["status"], event["dur"], event["in"], event["out"]) == (
        1,
        201,
        250_000,
        7,
        90,
    )
    assert open_reservations(customer) == 0


@pytest.mark.parametrize(
    ("status", "quantity", "reason"),
    [(304, 1, ""), (404, 0, "client_error"), (500, 0, "upstream_error"), (499, 0, "client_gone"), ("009", 0, "client_gone")],
)  # fmt: skip
def test_statuses_are_billed_as_at_our_own_gateway(
    shop: Shop, gate: Process, status: int | str, quantity: int, reason: str
) -> None:
    customer = shop.customer()
    word = nginx(gate, customer, reported=True).headers["x-farebox-reservation"]
    assert report(gate, word, status).status == 204
    event = customer.only_event()
    assert (event["qty"], event["reason"]) == (quantity, reason)


def test_a_route_that_bills_client_errors_does_so_here(shop: Shop, gate: Process) -> None:
    customer = shop.customer()
    word = nginx(gate, customer, "/status/404/billed", reported=True).headers["x-farebox-reservation"]
    report(gate, word, 404)
    assert customer.only_event()["qty"] == 1


def test_a_report_is_taken_by_any_worker_and_counts_once(shop: Shop, gate: Process) -> None:
    customer = shop.customer()
    second = Process(**TRUSTED, FAREBOX_FORWARD_AUTH_REPORT_SECONDS="3").wait_until_ready()
    try:
        word = nginx(gate, customer, reported=True).headers["x-farebox-reservation"]
        assert report(second, word, 500).status == 204
        assert customer.only_event()["reason"] == "upstream_error"
        wait_for(lambda: _is_late(gate, word), within=10)
    finally:
        second.stop()
    assert [event["qty"] for event in customer.events()] == [
        0
    ]  # also after the first worker's patience has ended


def _is_late(gate: Process, word: str) -> bool:
    return report(gate, word).status == 409


def test_a_call_that_nobody_reports_is_billed_with_an_unknown_end(shop: Shop, gate: Process) -> None:
    customer = shop.customer()
    word = nginx(gate, customer, reported=True).headers["x-farebox-reservation"]
    wait_for(customer.events, within=10)
    event = customer.only_event()
    assert (event["qty"], event["reason"], "status" in event) == (1, "", False)
    assert_refused(report(gate, word, 500), 409, "report_too_late")
    assert len(customer.events()) == 1


def test_or_it_is_free_where_the_owner_wants_that(shop: Shop) -> None:
    customer = shop.customer()
    environment = {"FAREBOX_FORWARD_AUTH_REPORT_SECONDS": "1", "FAREBOX_FORWARD_AUTH_UNREPORTED": "free"}
    gate = Process(**TRUSTED, **environment).wait_until_ready()
    try:
        nginx(gate, customer, reported=True)
        wait_for(customer.events, within=10)
    finally:
        gate.stop()
    event = customer.only_event()
    assert (event["qty"], event["reason"]) == (0, "unreported")
    assert open_reservations(customer) == 0


def test_a_worker_that_stops_leaves_its_calls_to_the_others(shop: Shop, gate: Process) -> None:
    customer = shop.customer()
    first = Process(**TRUSTED).wait_until_ready()
    word = nginx(first, customer, reported=True).headers["x-farebox-reservation"]
    first.stop()
    assert open_reservations(customer) == 1
    assert report(gate, word, 200).status == 204
    assert customer.only_event()["status"] == 200


def test_reports_that_are_not_ours_are_refused(shop: Shop, gate: Process) -> None:
    customer = shop.customer()
    word = nginx(gate, customer, reported=True).headers["x-farebox-reservation"]
    for bad in ("", "x", word[:-2] + "zz", word.partition(".")[0] + "."):
        assert_refused(report(gate, bad), 400, "bad_request")
    assert_refused(report(gate, word, "fine"), 400, "bad_request")
    assert customer.events() == []
    assert report(gate, word, 500).status == 204


# --- without a server --------------------------------------------------------------------------------------------


def test_trust_is_by_address_and_network() -> None:
    networks = ("10.0.0.7", "10.1.0.0/24", "fd00::/8")
    for peer in ("10.0.0.7", "10.1.0.255", "::ffff:10.1.0.1", "fd00::1"):
        assert _is_in(peer, networks), peer
    for peer in ("10.0.0.8", "10.1.1.0", "", "nginx", "::1", "10.0.0.7, 10.0.0.8"):
        assert not _is_in(peer, networks), peer
    assert not _is_in("127.0.0.1", ())


def test_a_header_that_comes_twice_is_no_address() -> None:
    inquiry = read_address(f"{PREFIX}/caddy")
    assert isinstance(inquiry, Inquiry)
    headers = [(b"x-forwarded-method", b"GET"), (b"x-forwarded-uri", b"/a"), (b"x-forwarded-uri", b"/b")]
    assert getattr(read_original(inquiry, "GET", headers), "code", "") == "bad_request"
    assert getattr(read_original(inquiry, "GET", headers[:2]), "path", "") == "/a"


def test_guesses_count_for_the_address_that_the_trusted_gateway_added() -> None:
    assert client_address([(b"x-forwarded-for", b"1.1.1.1, 2.2.2.2")], "9.9.9.9") == "2.2.2.2"
    assert (
        client_address([(b"x-forwarded-for", b"1.1.1.1"), (b"x-forwarded-for", b"3.3.3.3")], "9.9.9.9")
        == "3.3.3.3"
    )
    assert client_address([], "9.9.9.9") == "9.9.9.9"


def test_a_sealed_word_is_for_one_purpose_and_one_installation(settings: Any) -> None:
    word = seal("one", {"a": 1})
    assert unseal("one", word) == {"a": 1}
    assert unseal("two", word) is None
    assert Pending.unsealed(word) is None
    settings.SECRET_KEY = "another"
    assert unseal("one", word) is None


def test_each_configuration_asks_at_an_address_that_is_understood() -> None:
    """Also Traefik's, which no test runs."""
    for path in sorted((ROOT / "deploy").rglob("*")):
        if (
            path.is_file()
            and b"/api/forward-auth/" in path.read_bytes()
            and path.name != "farebox.conf.template"
        ):
            named = re.findall(r"/api/forward-auth/[a-z/]+", path.read_text())
            known = [
                one for one in named if one in (f"{PREFIX}/report", f"{PREFIX}/refused") or read_address(one)
            ]
            assert known == named, path
    traefik = yaml.safe_load((ROOT / "deploy/traefik/forward-auth.yml").read_text())["http"]
    assert set(traefik["routers"]["api"]["middlewares"]) == set(traefik["middlewares"])
    assert traefik["middlewares"]["farebox"]["forwardAuth"]["trustForwardHeader"] is False
    assert set(traefik["middlewares"]["without-key"]["headers"]["customRequestHeaders"]) == {
        "Authorization",
        "X-Api-Key",
    }
