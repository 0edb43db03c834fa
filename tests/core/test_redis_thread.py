"""The blocking client: replies, errors, time-outs, breaks, forks. Against a real server, and against one of strange habits."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from core import redis_thread
from core.redis_thread import ThreadClient


@pytest.fixture
def client(usage_redis: "redis.Redis") -> ThreadClient:
    return ThreadClient(os.environ["REDIS_URL"], timeout=2.0)


class Oddity:
    """A server that answers each command with the next of these bytes; None closes, '' says nothing."""

    def __init__(self, *answers: bytes | None) -> None:
        self._answers = list(answers)
        self.commands = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._links: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                self._links.append(link)
                while link.recv(65_536):
                    self.commands += 1
                    answer = self._answers.pop(0)
                    if answer is None:
                        break
                    link.sendall(answer)
                link.shutdown(socket.SHUT_RDWR)
                link.close()

    def close(self) -> None:
        for link in self._links:
            link.close()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(2)


@pytest.fixture
def odd() -> Iterator[Any]:
    made: list[Oddity] = []

    def make(*answers: bytes | None) -> Oddity:
        made.append(Oddity(*answers))
        return made[-1]

    yield make
    for server in made:
        server.close()


def test_replies_come_as_redis_gives_them(client: ThreadClient) -> None:
    assert client.execute("SET", "a", b"\x00\xff") in (b"OK", "OK")
    assert client.execute("GET", "a") == b"\x00\xff"
    assert client.execute("INCRBY", "n", 2**53) == 2**53
    assert client.execute("GET", "missing") is None
    assert client.execute("EVAL", "return {1, 'two', {}}", 0) == [1, b"two", []]
    large = b"x" * 1_000_000
    assert client.execute("ECHO", large) == large


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"-NOSCRIPT no such\r\n", NoScriptError), (b"-OOM full\r\n", OutOfMemoryError), (b"-ERR odd\r\n", ResponseError),
    ],
)  # fmt: skip
def test_errors_of_redis_leave_the_connection_as_it_is(odd: Any, answer: bytes, error: type) -> None:
    server = odd(answer, b"+PONG\r\n")
    client = ThreadClient(server.url, timeout=1)

    with pytest.raises(error):
        client.execute("EVALSHA", "x", 0)

    assert client.execute("PING") in (b"PONG", "PONG")


@pytest.mark.parametrize(
    ("answers", "error"),
    [((b"",), RedisTimeoutError), ((b"$5\r\nhal",), RedisTimeoutError), ((None,), RedisConnectionError),
     ((b"?nonsense\r\n",), RedisConnectionError)],
)  # fmt: skip
def test_what_is_not_answered_is_neither_repeated_nor_read_later(
    odd: Any, answers: tuple[bytes | None], error: type
) -> None:
    server = odd(*answers)
    client, began = ThreadClient(server.url, timeout=0.3), time.monotonic()

    with pytest.raises(error):
        client.execute("INCR", "n")

    assert time.monotonic() - began < 1
    assert server.commands == 1
    assert not client._local.connection.is_usable()


def test_nobody_there_is_a_connection_error() -> None:
    with pytest.raises(RedisConnectionError):
        ThreadClient("redis://127.0.0.1:1/0", timeout=1).execute("PING")


def test_connection_that_the_server_closed_meanwhile_is_made_again(
    client: ThreadClient, usage_redis: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_thread, "TRUSTED_SECONDS", 0.0)
    number = client.execute("CLIENT", "ID")
    usage_redis.client_kill_filter(_id=str(number))

    assert client.execute("CLIENT", "ID") != number


def test_each_thread_and_each_fork_has_a_connection_of_its_own(client: ThreadClient) -> None:
    numbers = [client.execute("CLIENT", "ID"), client.execute("CLIENT", "ID")]
    thread = threading.Thread(target=lambda: numbers.append(client.execute("CLIENT", "ID")))
    thread.start()
    thread.join()
    assert numbers[0] == numbers[1] != numbers[2]

    client._local.connection._pid = -1  # as a child sees it
    assert client.execute("CLIENT", "ID") not in numbers


def test_database_and_password_are_those_of_the_address(
    client: ThreadClient, usage_redis: "redis.Redis"
) -> None:
    number = usage_redis.connection_pool.connection_kwargs.get("db", 0)
    head = os.environ["REDIS_URL"].rsplit("/", 1)[0]
    assert f" db={number} " in client.execute("CLIENT", "INFO").decode()
    assert b" db=5 " in ThreadClient(f"{head}/5", timeout=1).execute("CLIENT", "INFO")

    usage_redis.execute_command("ACL", "SETUSER", "teller", "on", ">secret", "~*", "+@all")
    try:
        address = os.environ["REDIS_URL"].rpartition("@")[2].removeprefix("redis://")
        known = ThreadClient(f"redis://teller:secret@{address}", timeout=1)
        assert b" user=teller " in known.execute("CLIENT", "INFO")
        with pytest.raises(RedisError):
            ThreadClient(f"redis://teller:wrong@{address}", timeout=1).execute("PING")
    finally:
        usage_redis.execute_command("ACL", "DELUSER", "teller")


def test_interrupted_command_breaks_its_connection(
    client: ThreadClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.execute("PING")
    connection = client._local.connection

    def interrupt(_: socket.socket) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(connection, "_read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        client.execute("SET", "a", "1")

    assert client.execute("GET", "a") == b"1"
