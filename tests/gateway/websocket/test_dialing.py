"""An API behind TLS has to prove who it is."""

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode

from core.clock import now
from gateway.pools import Upstream
from gateway.proxy import UpstreamUnavailable
from gateway.upstream.pool import Pool
from gateway.upstream_guard import guarded_socket
from gateway.websocket.dial import dial


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of localhost, signed by itself; with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now() - datetime.timedelta(days=1))
        .not_valid_after(now() + datetime.timedelta(days=1)).add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file = tmp_path / "localhost.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


async def ask(certificate: Path) -> bytes:
    """Open a WebSocket to an API with this certificate and hear it once."""

    async def echo(ws: ServerConnection) -> None:
        async for message in ws:
            await ws.send(message)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with serve(echo, "127.0.0.1", 0, ssl=context) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        dialled = await dial(
            Pool(guarded_socket()), Upstream(f"https://127.0.0.1:{port}", None, 5), "/", headers=[], subprotocols=(),
            limit=1000, timeout_s=5,
        )  # fmt: skip
        assert dialled.status == 101
        peer = dialled.peer
        await peer.write(Frame(Opcode.TEXT, b"hello"))
        frame = await peer.read()
        peer.say_goodbye(1000)
        await peer.closed()
        assert frame is not None
        return bytes(frame.data)


def test_a_trusted_certificate_is_enough(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert asyncio.run(ask(certificate)) == b"hello"


def test_another_one_is_not(certificate: Path) -> None:
    with pytest.raises(UpstreamUnavailable):
        asyncio.run(ask(certificate))


def test_a_credential_with_a_line_break_reaches_nobody() -> None:
    async def play() -> None:
        with pytest.raises(UpstreamUnavailable):
            await dial(
                Pool(guarded_socket()), Upstream("http://127.0.0.1:9", None, 5), "/", headers=[("X-Token", "a\r\nX: b")],
                subprotocols=(), limit=1000, timeout_s=5,
            )  # fmt: skip

    asyncio.run(play())
