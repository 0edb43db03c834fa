"""Upstreams over TLS: verified by name and authority, asked with a certificate where they want one, connections kept."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.core.exceptions import ImproperlyConfigured

from gateway.app import Gateway
from gateway.health_checks import nobody
from gateway.proxy import UpstreamUnavailable, ask_upstream
from gateway.upstream_tls import upstream_tls

DAY = timedelta(days=1)


@dataclass
class Authority:
    """Signs certificates of servers and clients; everything lies in `folder`."""

    folder: Path
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        certificate = self._signed(self.name, self.key, x509.BasicConstraints(ca=True, path_length=0))
        self.file = self.folder / "ca.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, *names: str, until: datetime | None = None) -> Path:
        """Certificate and key of these names, in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = x509.SubjectAlternativeName(
            [x509.IPAddress(ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names]
        )
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._signed(subject, key, alternatives, until=until)
        path = self.folder / f"{names[0]}-{id(key)}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
        return path

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType, *, until: datetime | None = None
    ) -> x509.Certificate:  # fmt: skip
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            issuer_name=self.name, subject_name=subject, public_key=key.public_key(),
            serial_number=x509.random_serial_number(), not_valid_before=now - 2 * DAY, not_valid_after=until or now + DAY,
        )  # fmt: skip
        return builder.add_extension(extension, critical=True).sign(self.key, hashes.SHA256())


@dataclass
class Seen:
    """What a server saw: connections, names asked for, requests."""

    port: int = 0
    connections: int = 0
    requests: int = 0
    names: list[str | None] = field(default_factory=list)


@asynccontextmanager
async def serving(certificate: Path, *, clients_of: Path | None = None) -> AsyncIterator[Seen]:
    seen = Seen()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda link, name, context: seen.names.append(name)
    if clients_of is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients_of)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                seen.requests += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, OSError):
            writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        seen.port = server.sockets[0].getsockname()[1]
        yield seen


@asynccontextmanager
async def started() -> AsyncIterator[Gateway]:
    gateway = Gateway()
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()
        await asyncio.sleep(0.05)  # transports close in the loop's next turns


async def ask(gateway: Gateway, seen: Seen, host: str = "localhost") -> int:
    answer = await ask_upstream(
        gateway.session, method="GET", url=f"https://{host}:{seen.port}/", headers=[], body=nobody(), has_body=False,
        connect_timeout_s=5, timeout_s=5,
    )  # fmt: skip
    assert b"".join([piece async for piece in answer.chunks()]) == b"ok"
    answer.close()
    return answer.status


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_an_own_authority_is_trusted_and_connections_are_kept(
    authority: Authority, settings: Any
) -> None:
    settings.UPSTREAM_CA_FILE = str(authority.file)
    async with serving(authority.issue("localhost")) as seen, started() as gateway:
        assert [await ask(gateway, seen) for _ in range(3)] == [200, 200, 200]
        assert (seen.connections, seen.requests, seen.names) == (1, 3, ["localhost"])


async def test_an_unknown_authority_is_not_trusted(authority: Authority) -> None:
    async with serving(authority.issue("localhost")) as seen, started() as gateway:
        with pytest.raises(UpstreamUnavailable) as caught:
            await ask(gateway, seen)
        assert (caught.value.is_untouched, seen.requests) == (True, 0)


async def test_a_certificate_is_of_the_server_that_was_asked(authority: Authority, settings: Any) -> None:
    settings.UPSTREAM_CA_FILE = str(authority.file)
    async with started() as gateway:
        async with serving(authority.issue("other.example")) as seen:
            with pytest.raises(UpstreamUnavailable):
                await ask(gateway, seen)
        async with serving(authority.issue("localhost")) as seen:
            with pytest.raises(UpstreamUnavailable):
                await ask(gateway, seen, host="127.0.0.1")
        async with serving(authority.issue("127.0.0.1")) as seen:
            assert await ask(gateway, seen, host="127.0.0.1") == 200


async def test_a_certificate_that_has_expired_is_none(authority: Authority, settings: Any) -> None:
    settings.UPSTREAM_CA_FILE = str(authority.file)
    expired = authority.issue("localhost", until=datetime.now(UTC) - DAY)
    async with serving(expired) as seen, started() as gateway:
        with pytest.raises(UpstreamUnavailable):
            await ask(gateway, seen)


async def test_a_server_that_asks_is_shown_our_certificate(authority: Authority, settings: Any) -> None:
    settings.UPSTREAM_CA_FILE = str(authority.file)
    async with serving(authority.issue("localhost"), clients_of=authority.file) as seen:
        async with started() as gateway:
            with pytest.raises(UpstreamUnavailable):
                await ask(gateway, seen)
        settings.UPSTREAM_CLIENT_CERT_FILE = str(authority.issue("farebox.example"))
        async with started() as gateway:
            assert await ask(gateway, seen) == 200


@pytest.mark.parametrize("name", ["UPSTREAM_CA_FILE", "UPSTREAM_CLIENT_CERT_FILE"])
def test_files_that_cannot_be_read_are_told_of_at_the_start(name: str, settings: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    for path in ("/nowhere/at/all.pem", str(tmp_path / "bad.pem")):
        setattr(settings, name, path)
        with pytest.raises(ImproperlyConfigured):
            upstream_tls()


def test_old_protocols_are_not_spoken() -> None:
    context = upstream_tls()
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
