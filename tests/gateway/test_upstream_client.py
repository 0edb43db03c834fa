"""The client of the proxy path against upstreams that speak well, badly, late, or not at all."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.proxy import (
    Answer,
    Body,
    BodyTooLarge,
    ClientGone,
    UpstreamCut,
    UpstreamTimeout,
    UpstreamUnavailable,
    ask_upstream,
)
from gateway.upstream.asking import request_head
from gateway.upstream.connection import Connection
from gateway.upstream.origin import Origin, split_url
from tests.gateway.scripted import Scripted, Talk, answering, body_of, rest_of, scripted

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STATUS = b"HTTP/1.1 200 OK\r\n"


# --- answers that are passed on -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "said", "status", "body", "is_kept"),
    [
        ("GET", OK, 200, b"ok", True),
        ("GET", b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", 404, b"", True),
        ("GET", b"HTTP/1.1 204 No\r\n\r\n", 204, b"", True),
        ("GET", b"HTTP/1.1 304 Not\r\nContent-Length: 100\r\n\r\n", 304, b"", True),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", 200, b"", True),
        ("HEAD", STATUS + b"Transfer-Encoding: chunked\r\n\r\n", 200, b"", True),
        ("HEAD", STATUS + b"Connection: close\r\n\r\n", 200, b"", False),
        ("HEAD", b"HTTP/1.0 200 OK\r\n\r\n", 200, b"", False),
        ("GET", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n" + OK, 200, b"ok", True),
        ("GET", STATUS + b"Transfer-Encoding: Chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: 1\r\n\r\n", 200, b"abc", True),
        ("GET", STATUS + b"Content-Length: 2\r\nConnection: close\r\n\r\nok", 200, b"ok", False),
        ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
        ("GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
    ],
)  # fmt: skip
async def test_answers_are_read_to_their_end_and_connections_kept(
    method: str, said: bytes, status: int, body: bytes, is_kept: bool
) -> None:
    async with scripted(answering(said, OK)) as upstream:
        assert await upstream.read(method) == (status, body)
        await asyncio.sleep(0)
        assert upstream.pool.open_connections == is_kept

        assert (await upstream.read(method))[0] in (200, status)
        assert upstream.talks == (1 if is_kept else 2)


async def test_answer_without_a_length_ends_with_its_connection() -> None:
    async with scripted(answering(b"HTTP/1.1 200 OK\r\n\r\nall of it", closes=True)) as upstream:
        assert await upstream.read() == (200, b"all of it")


async def test_answer_may_come_byte_by_byte() -> None:
    async def act(talk: Talk) -> None:
        await talk.head()
        for byte in b"HTTP/1.1 201 Made\r\nX-A: 1\r\nContent-Length: 3\r\n\r\nabc":
            await talk.say(bytes([byte]))
            await asyncio.sleep(0.001)
        await talk.reader.read()

    async with scripted(act) as upstream:
        answer = await upstream.ask()
        assert (answer.status, answer.header(b"x-a"), await rest_of(answer)) == (201, b"1", b"abc")


# --- answers that are refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 99 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        STATUS + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        STATUS + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        STATUS + b"Content-Length: 2, 2\r\n\r\nok",
        STATUS + b"Content-Length: -2\r\n\r\nok",
        STATUS + b"Content-Length: 99999999999999999999\r\n\r\nok",
        STATUS + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        STATUS + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        STATUS + b"Transfer-Encoding: gzip\r\n\r\nok",
        STATUS + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        STATUS + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        STATUS + b"X-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
        STATUS + b"X-Space : a\r\nContent-Length: 2\r\n\r\nok",
        STATUS + b"X-Return: a\rb\r\nContent-Length: 2\r\n\r\nok",
        STATUS + b"X-Null: a\0b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        STATUS + b"X-Long: " + b"x" * (32 * 1024 + 1) + b"\r\nContent-Length: 2\r\n\r\nok",
        STATUS + (b"X-Many: " + b"x" * 1000 + b"\r\n") * 300 + b"Content-Length: 2\r\n\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 12_000 + OK,
        b"",
        b"HTTP/1.1 200",
    ],
    ids=lambda said: said[:60].decode("latin-1"),
)  # fmt: skip
async def test_what_is_no_clean_http_is_refused_and_its_connection_closed(said: bytes) -> None:
    async with scripted(answering(said, closes=not said or said.endswith(b"200"))) as upstream:
        with pytest.raises(UpstreamUnavailable) as caught:
            await upstream.ask("POST")
        await asyncio.sleep(0.01)
        assert upstream.pool.open_connections == 0
        assert not caught.value.is_untouched


@pytest.mark.parametrize(
    ("said", "closes"),
    [
        (STATUS + b"Content-Length: 9\r\n\r\nnot all", True),
        (STATUS + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", True),
        (STATUS + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n", False),
        (STATUS + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", False),
        (STATUS + b"Transfer-Encoding: chunked\r\n\r\n0\r\nT: " + b"x" * 40_000 + b"\r\n\r\n", False),
    ],
    ids=["short", "no last chunk", "no number", "chunk too long", "endless trailer"],
)
async def test_body_that_breaks_off_is_a_cut_answer(said: bytes, closes: bool) -> None:
    async def act(talk: Talk) -> None:
        await talk.head()
        head, _, rest = said.partition(b"\r\n\r\n")
        await talk.say(head + b"\r\n\r\n")
        await asyncio.sleep(0.02)
        await talk.say(rest)
        if not closes:
            await talk.reader.read()

    async with scripted(act) as upstream:
        answer = await upstream.ask()
        with pytest.raises(UpstreamCut):
            await rest_of(answer)
        await asyncio.sleep(0.01)
        assert upstream.pool.open_connections == 0


async def test_what_follows_an_answer_never_becomes_the_next_one() -> None:
    async with scripted(answering(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")) as upstream:
        assert await upstream.read() == (200, b"ok")
        assert await upstream.read() == (200, b"ok")
        assert upstream.talks == 2


async def test_body_of_an_answer_to_head_never_becomes_the_next_one() -> None:
    async with scripted(answering(OK)) as upstream:
        assert await upstream.read("HEAD") == (200, b"")
        assert await upstream.read("HEAD") == (200, b"")
        assert upstream.talks == 2


async def test_what_comes_unasked_closes_the_connection() -> None:
    async def act(talk: Talk) -> None:
        await talk.head()
        await talk.say(OK)
        await asyncio.sleep(0.05)
        await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
        await talk.reader.read()

    async with scripted(act) as upstream:
        assert await upstream.read() == (200, b"ok")
        await asyncio.sleep(0.1)
        assert upstream.pool.open_connections == 0


# --- time, and connections that are gone --------------------------------------------------------------------------


async def test_silent_upstream_is_not_waited_for() -> None:
    async with scripted(answering()) as upstream:
        with pytest.raises(UpstreamTimeout):
            await asyncio.wait_for(upstream.ask(timeout_s=0.1), 2)


async def test_pause_in_an_answer_is_not_waited_for_but_a_slow_one_is() -> None:
    async def act(talk: Talk) -> None:
        await talk.head()
        await talk.say(STATUS + b"Content-Length: 10\r\n\r\n")
        for _ in range(5):
            await asyncio.sleep(0.06)
            await talk.say(b"x")
        await talk.reader.read()

    async with scripted(act) as upstream:
        answer = await upstream.ask(timeout_s=0.15)
        pieces: list[bytes] = []
        with pytest.raises(UpstreamTimeout):
            await _collect(answer, pieces)
        assert b"".join(pieces) == b"xxxxx"


async def _collect(answer: Answer, pieces: list[bytes]) -> None:
    async for piece in answer.chunks():
        pieces.append(piece)


async def test_head_that_drips_has_no_more_time_than_one_that_does_not_come() -> None:
    async def act(talk: Talk) -> None:
        await talk.head()
        await talk.say(STATUS + b"X-Drip: ")
        while True:
            await asyncio.sleep(0.05)
            await talk.say(b"x")

    async with scripted(act) as upstream:
        with pytest.raises(UpstreamTimeout):
            await asyncio.wait_for(upstream.ask(timeout_s=0.3), 2)


async def test_interim_answers_say_that_more_time_is_needed() -> None:
    async def act(talk: Talk) -> None:
        await talk.head()
        for _ in range(5):
            await asyncio.sleep(0.1)
            await talk.say(b"HTTP/1.1 102 Processing\r\n\r\n")
        await talk.say(OK)
        await talk.reader.read()

    async with scripted(act) as upstream:
        assert await upstream.read(timeout_s=0.3) == (200, b"ok")


async def test_time_of_a_short_request_is_kept_after_a_long_one() -> None:
    async def act(talk: Talk) -> None:
        await talk.head()
        await talk.say(OK)
        await talk.reader.read()

    async with scripted(act) as upstream:
        await upstream.read(timeout_s=60)
        with pytest.raises(UpstreamTimeout):
            await asyncio.wait_for(upstream.ask(timeout_s=0.1), 2)
        assert upstream.talks == 1


async def _closes_when_asked_again(talk: Talk) -> None:
    await talk.head()
    await talk.say(OK)
    await talk.head()


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
async def test_kept_connection_that_had_ended_is_replaced_for_what_may_be_repeated(method: str) -> None:
    async with scripted(_closes_when_asked_again) as upstream:
        await upstream.read()
        assert (await upstream.read(method))[0] == 200
        assert upstream.talks == 2


async def test_request_that_may_not_be_repeated_is_not() -> None:
    async with scripted(_closes_when_asked_again) as upstream:
        await upstream.read()
        with pytest.raises(UpstreamUnavailable):
            await upstream.ask("POST", body=body_of(b"once"))
        assert upstream.talks == 1


async def test_fresh_connection_that_ends_is_not_tried_again() -> None:
    async def act(talk: Talk) -> None:
        await talk.head()

    async with scripted(act) as upstream:
        with pytest.raises(UpstreamUnavailable):
            await upstream.ask()
        assert upstream.talks == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_connection_that_ended_before_it_was_asked_fails_at_once(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a balancer whose servers are all away: taken, and hung up in the moment in which we are told."""
    async with scripted(answering(OK)) as upstream:
        pool = upstream.pool
        make = pool.connection

        async def ended(*args: Any, **named: Any) -> Connection:
            connection = await make(*args, **named)
            connection.transport.abort()
            await asyncio.sleep(0.01)
            return connection

        monkeypatch.setattr(pool, "connection", ended)
        async with asyncio.timeout(1):
            with pytest.raises(UpstreamUnavailable) as failed:
                await upstream.ask(method, timeout_s=30)
        assert failed.value.is_untouched
        assert pool.open_connections == 0


async def test_connection_that_the_upstream_closed_is_not_used() -> None:
    async with scripted(answering(OK, closes=True)) as upstream:
        for number in (1, 2):
            assert await upstream.read("POST") == (200, b"ok")
            await asyncio.sleep(0.05)
            assert upstream.talks == number


async def test_who_leaves_takes_the_request_along() -> None:
    left, ended = asyncio.Event(), asyncio.Event()

    async def act(talk: Talk) -> None:
        await talk.head()
        left.set()
        await talk.reader.read()
        ended.set()

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    async with scripted(act) as upstream:
        body = Body(receive, 0)
        body.watch()
        with pytest.raises(ClientGone):
            await _ask_watched(upstream, body)
        await asyncio.wait_for(ended.wait(), 2)
        body.close()


async def _ask_watched(upstream: Scripted, body: Body) -> None:
    await ask_upstream(
        upstream.pool, method="GET", url=f"http://127.0.0.1:{upstream.port}/", headers=[], body=body, has_body=False,
        connect_timeout_s=1, timeout_s=5,
    )  # fmt: skip


# --- bodies -------------------------------------------------------------------------------------------------------


async def _echo(talk: Talk) -> None:
    while head := await talk.head():
        body = b""
        if b"Transfer-Encoding: chunked\r\n" in head:
            while size := int(await talk.reader.readline(), 16):
                body += await talk.reader.readexactly(size)
                await talk.reader.readline()
            await talk.reader.readline()
        else:
            length = int(head.partition(b"ength: ")[2].partition(b"\r\n")[0])
            body = await talk.reader.readexactly(length)
        await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize("headers", [[], [("Content-Length", "6")]])
async def test_body_is_sent_in_chunks_or_at_its_length(headers: list[tuple[str, str]]) -> None:
    async with scripted(_echo) as upstream:
        for _ in range(2):
            assert await upstream.read("POST", body=body_of(b"ab", b"", b"cdef"), headers=headers) == (
                200,
                b"abcdef",
            )
        assert upstream.talks == 1


async def test_value_that_names_chunks_does_not_make_them() -> None:
    headers = [("X-Note", "Transfer-Encoding: chunked"), ("Content-Length", "2")]
    async with scripted(answering(OK)) as upstream:
        assert await upstream.read("PUT", body=body_of(b"ab"), headers=headers) == (200, b"ok")


async def test_answer_before_the_end_of_the_body_passes_and_its_connection_is_not_kept() -> None:
    async def act(talk: Talk) -> None:
        await talk.head()
        await talk.say(b"HTTP/1.1 413 Large\r\nContent-Length: 2\r\n\r\nno")
        await talk.reader.read()

    never = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await never.wait()
        return {}

    async with scripted(act) as upstream:
        assert await upstream.read("POST", body=Body(receive, 10)) == (413, b"no")
        await asyncio.sleep(0.01)
        assert upstream.pool.open_connections == 0


async def test_body_over_the_limit_ends_the_request() -> None:
    async with scripted(answering()) as upstream:
        body = body_of(b"x" * 11)
        body.limit = 10
        with pytest.raises(BodyTooLarge):
            await upstream.ask("POST", body=body)


async def test_answer_that_nobody_takes_stays_with_the_upstream() -> None:
    said = 0

    async def act(talk: Talk) -> None:
        nonlocal said
        await talk.head()
        await talk.say(STATUS + b"Content-Length: 1000000000\r\n\r\n")
        while True:
            await talk.say(b"x" * 65_536)
            said += 65_536

    async with scripted(act) as upstream:
        answer = await upstream.ask(timeout_s=0.2)
        await asyncio.sleep(0.5)  # longer than the route's time: it is not the upstream who waits
        held = said
        assert held < 16 * 1024 * 1024, "that is more than the sockets between hold"

        pieces = answer.chunks()
        taken = 0
        while taken < held + 1_000_000:
            taken += len(await anext(pieces))
        assert said > held
        answer.close()
        with pytest.raises(UpstreamCut):
            await anext(pieces)


# --- connections --------------------------------------------------------------------------------------------------


async def test_connections_are_shared_and_bounded() -> None:
    async with scripted(answering(OK, OK, OK), most=4) as upstream:  # two to one server
        answers = await asyncio.gather(*(upstream.ask() for _ in range(2)))
        third = asyncio.create_task(upstream.read())
        await asyncio.sleep(0.05)
        assert not third.done()

        assert await rest_of(answers[0]) == b"ok"
        assert await asyncio.wait_for(third, 1) == (200, b"ok")
        assert upstream.talks == 2

        with pytest.raises(UpstreamUnavailable) as caught:
            await asyncio.gather(
                *(upstream.ask(timeout_s=0.1, connect_s=0.1) for _ in range(2)),
            )
        assert caught.value.is_untouched
        answers[1].close()


async def test_idle_connection_makes_room_for_another_server() -> None:
    async with scripted(answering(OK), most=1) as one, scripted(answering(OK)) as other:
        await one.read()
        other.pool, own = one.pool, other.pool
        assert await other.read() == (200, b"ok")
        assert await one.read() == (200, b"ok")
        other.pool = own


async def test_forbidden_address_and_closed_port_are_untouched(settings: Any) -> None:
    async with scripted(answering(OK)) as upstream:
        port, upstream.port = upstream.port, 9
        with pytest.raises(UpstreamUnavailable) as caught:
            await upstream.ask()
        assert caught.value.is_untouched

        upstream.port, settings.UPSTREAM_ALLOW_PRIVATE = port, False
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(UpstreamUnavailable) as caught:
                await upstream.ask(host=host)
            assert caught.value.is_untouched
        assert upstream.talks == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "upstream")]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


async def test_tls_is_spoken_and_verified(certificate: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with scripted(answering(OK, OK), server_tls=server, tls=trusting) as upstream:
        assert await upstream.read() == (200, b"ok")
        assert await upstream.read() == (200, b"ok")
        assert upstream.talks == 1
        with pytest.raises(UpstreamUnavailable) as caught:  # trusted, but for another name
            await upstream.ask(host="localhost")
        assert caught.value.is_untouched
    async with scripted(answering(OK), server_tls=server) as upstream:  # nobody vouches for it
        with pytest.raises(UpstreamUnavailable) as caught:
            await upstream.ask()
        assert caught.value.is_untouched


# --- addresses and heads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "origin", "authority", "target"),
    [
        ("http://api.internal:8080/v1/x?y=%2F", Origin("http", "api.internal", 8080), b"api.internal:8080", b"/v1/x?y=%2F"),
        ("https://API.example", Origin("https", "api.example", 443), b"api.example", b"/"),
        ("http://[::1]:80/a", Origin("http", "::1", 80), b"[::1]", b"/a"),
        ("http://bücher.example/ä b", Origin("http", "xn--bcher-kva.example", 80), b"xn--bcher-kva.example", b"/%C3%A4%20b"),
    ],
)  # fmt: skip
def test_addresses_are_split(url: str, origin: Origin, authority: bytes, target: bytes) -> None:
    assert split_url(url) == (origin, target)
    assert origin.authority == authority


@pytest.mark.parametrize("url", ["ftp://a/", "/relative", "http://", "http://a:99999/"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|[Pp]ort"):
        split_url(url)


@pytest.mark.parametrize("value", ["a\r\nX-Forged: 1", "a\nb", "a\rb", "a\0b"])
def test_values_do_not_break_out_of_their_line(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        request_head("GET", Origin("http", "a", 80), b"/", [("X-A", value)], is_chunked=False)


def test_head_names_host_and_length_where_the_caller_does_not() -> None:
    head = request_head("POST", Origin("http", "a", 81), b"/x", [("X-A", "1")], is_chunked=False)

    assert head == b"POST /x HTTP/1.1\r\nHost: a:81\r\nX-A: 1\r\nContent-Length: 0\r\n\r\n"
