"""A client that writes its frames by hand, to send what no library would and to read as slowly as it likes."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.gateway.kit import Customer, Process

TEXT, CONT, CLOSE, PING, PONG = 1, 0, 8, 9, 10


class Raw:
    """One open connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.stream = sock.makefile("rb")

    def send(
        self, opcode: int, data: bytes = b"", *, fin: bool = True, mask: bool = True, flags: int = 0
    ) -> None:
        head = bytes([(0x80 if fin else 0) | flags | opcode])
        length, bit = len(data), 0x80 if mask else 0
        if length < 126:
            head += bytes([bit | length])
        elif length < 65_536:
            head += bytes([bit | 126]) + struct.pack("!H", length)
        else:
            head += bytes([bit | 127]) + struct.pack("!Q", length)
        self.sock.sendall(head + (b"\0\0\0\0" if mask else b"") + data)

    def read(self) -> tuple[int, bytes]:
        """The next frame, as it came."""
        head = self.stream.read(2)
        if len(head) < 2:
            raise ConnectionError("the gateway closed")
        length = head[1] & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self.stream.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.stream.read(8))
        return head[0] & 0x0F, self.stream.read(length)

    def close_code(self) -> int:
        """The code of the close frame that comes next."""
        while True:
            opcode, data = self.read()
            if opcode == CLOSE:
                return int(struct.unpack("!H", data[:2])[0])


def handshake(
    customer: Customer, path: str, *, method: str = "GET", version: str = "1.1", host: str = "gateway"
) -> bytes:
    """What asks for a WebSocket, as bytes."""
    lines = [
        f"{method} /{path} HTTP/{version}", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", f"X-API-Key: {customer.issued.clear}", "", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode()


@contextmanager
def raw(
    gateway: Process, customer: Customer, path: str, *, room: int = 0, early: bytes = b""
) -> Iterator[Raw]:
    """`room`: bytes that the system keeps for us unread; `early`: what is sent without waiting for the answer."""
    host, _, port = urlsplit(gateway.url).netloc.partition(":")
    with socket.socket() as sock:
        if room:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        sock.settimeout(15)
        sock.connect((host, int(port)))
        sock.sendall(handshake(customer, path, host=host) + early)
        connection = Raw(sock)
        assert b" 101 " in connection.stream.readline()
        while connection.stream.readline() != b"\r\n":
            pass
        with connection.stream:
            yield connection
