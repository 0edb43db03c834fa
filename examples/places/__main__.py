"""Serve Places: `python -m examples.places --port 9100`."""

import argparse
import contextlib
import socket
import sys

import uvicorn

from examples.places.app import app


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.places", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9100, help="0 takes a free one; the address is printed")
    options = parser.parse_args()
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listener = socket.create_server((options.host, options.port), family=family, backlog=2048)
    except OSError as error:
        print(f"places: cannot listen on {options.host}:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    host = f"[{options.host}]" if family == socket.AF_INET6 else options.host
    print(f"places: http://{host}:{listener.getsockname()[1]}", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
