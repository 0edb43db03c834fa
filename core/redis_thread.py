"""A blocking Redis client for the request path of threads: a connection a thread, two system calls a command.

redis-py asks the socket thrice more a command (is it alive, may I write, may I read), and each time the thread gives the
interpreter away and has to win it back: under load that costs more than the command. Here the kernel keeps the time-outs.
Nothing is ever sent twice: a command that is not answered may or may not have run.
"""

import os
import select
import socket
import ssl
import struct
import threading
import time
from contextlib import suppress
from typing import Any

import hiredis
from redis.asyncio.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from core.redis_loop import Argument, Reply, pack, reply_error

RECEIVE_BYTES = 65_536
TRUSTED_SECONDS = 0.1  # a connection that was used so lately is not looked at first


class ThreadClient:
    """`client.execute("EVALSHA", sha, ...)`. Safe to share by threads and across forks."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self._options: dict[str, Any] = dict(parse_url(url))
        self._timeout = timeout
        self._local = threading.local()

    def execute(self, *command: Argument) -> Reply:
        """The reply to one command. Raises RedisError: ConnectionError, TimeoutError, or what Redis answered."""
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is None or not connection.is_usable():
            connection = self._local.connection = self._connect()
        return connection.ask(command)

    def _connect(self) -> "_Connection":
        try:
            link = self._open()
        except TimeoutError as error:
            raise RedisTimeoutError("no connection in time") from error
        except OSError as error:
            raise RedisConnectionError(str(error)) from error
        connection = _Connection(link, self._timeout)
        if self._options.get("password"):
            user = (self._options["username"],) if self._options.get("username") else ()
            connection.ask(("AUTH", *user, self._options["password"]))
        if self._options.get("db"):
            connection.ask(("SELECT", int(self._options["db"])))
        return connection

    def _open(self) -> socket.socket:
        if "path" in self._options:
            link = socket.socket(socket.AF_UNIX)
            link.settimeout(self._timeout)
            link.connect(self._options["path"])
            return link
        host, port = self._options.get("host", "localhost"), self._options.get("port", 6379)
        link = socket.create_connection((host, port), self._timeout)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if "connection_class" in self._options:  # rediss:
            return ssl.create_default_context().wrap_socket(link, server_hostname=host)
        return link


class _Connection:
    """One socket of one thread of one process."""

    def __init__(self, link: socket.socket, timeout: float) -> None:
        if not isinstance(link, ssl.SSLSocket):  # which would take the kernel's time-outs for faults
            link.settimeout(None)
            limit = struct.pack("ll", int(timeout), int(timeout % 1 * 1_000_000))
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._link: socket.socket | None = link
        self._reader = hiredis.Reader()
        self._pid = os.getpid()
        self._used_at = time.monotonic()
        self._timeout = timeout

    def __del__(self) -> None:
        self._close()

    def is_usable(self) -> bool:
        """Not broken, not inherited by a fork, not closed by the server meanwhile."""
        if self._link is None or self._pid != os.getpid():
            return False
        if time.monotonic() - self._used_at < TRUSTED_SECONDS:
            return True
        # Nothing was asked, so what can be read is the end.
        return not select.select([self._link], [], [], 0)[0]

    def ask(self, command: tuple[Argument, ...]) -> Reply:
        if self._link is None:
            raise RedisConnectionError("connection lost")
        try:
            self._link.sendall(pack(command))
            reply = self._read(self._link)
        except BaseException as error:
            self._close()  # a later reply must not be taken for that of the next command
            if isinstance(error, BlockingIOError | TimeoutError):  # the kernel's time-out, and Python's
                raise RedisTimeoutError("no reply in time") from error
            if isinstance(error, OSError | hiredis.ProtocolError):
                raise RedisConnectionError(str(error)) from error
            raise
        self._used_at = time.monotonic()
        if isinstance(reply, hiredis.ReplyError):
            raise reply_error(str(reply))
        return reply

    def _read(self, link: socket.socket) -> Reply:
        give_up_at = time.monotonic() + self._timeout
        while time.monotonic() < give_up_at:
            piece = link.recv(RECEIVE_BYTES)
            if not piece:
                raise ConnectionResetError("closed by the server")
            self._reader.feed(piece)
            if (reply := self._reader.gets()) is not False:
                return reply
        raise TimeoutError

    def _close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            with suppress(OSError):
                link.close()
