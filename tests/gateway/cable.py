"""A cable to a server that can be cut, held and mended: how a gateway sees PostgreSQL or Redis fail."""

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Cable:
    """Forwards TCP from a port of its own. `cut`: refused and closed; `hold`: open, but nothing passes any more.
    `sent` is all that went to the server."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 0)
        self.sent = bytearray()
        self._links: list[socket.socket] = []
        self._flows = threading.Event()
        self._flows.set()
        self._is_cut = self._is_over = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        port = self._listener.getsockname()[1]
        self.url = url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{port}")
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        self._is_cut = True
        while self._links:
            _shut(self._links.pop())

    def hold(self) -> None:
        self._flows.clear()

    def mend(self) -> None:
        self._is_cut = False
        self._flows.set()

    def close(self) -> None:
        self._is_over = True
        self.mend()
        self._thread.join(2)
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while not self._is_over:
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            if self._is_cut:
                _shut(near)
                continue
            far = socket.create_connection(self._target)
            near.settimeout(None)
            self._links += [near, far]
            for source, sink, record in ((near, far, self.sent), (far, near, None)):
                threading.Thread(target=self._pump, args=(source, sink, record), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, record: bytearray | None) -> None:
        with suppress(OSError):
            while piece := source.recv(65_536):
                self._flows.wait()
                if record is not None:
                    record += piece
                sink.sendall(piece)
        _shut(source)
        _shut(sink)


def _shut(link: socket.socket) -> None:
    with suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
    link.close()
