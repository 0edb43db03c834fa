"""TCP ports on this machine: choosing free ones, and saying who holds a taken one."""

import os
import random
import re
import socket
import time
from pathlib import Path


class PortTaken(Exception):
    """A port that the demo needs is in use."""


def free_port() -> int:
    """A free port below the kernel's range for outgoing connections.

    Inside that range a client that dials a dead server can be given the very port it dials and talk to itself, which
    then also keeps the restarted server from binding.
    """
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        lowest = 32768
    chooser = random.SystemRandom()
    for _ in range(200):
        port = chooser.randrange(min(20000, lowest - 2000), lowest)
        if is_free(port):
            return port
    raise PortTaken("No free TCP port was found.")


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody listens there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def require_free(ports: dict[str, int], *, host: str = "127.0.0.1", patience: float = 2.0) -> None:
    """Raise PortTaken naming each taken port, its variable and its holder; waits a moment for a demo that just stopped.

    `ports` maps the name of the environment variable that changes the port to the port.
    """
    deadline = time.monotonic() + patience
    while taken := {name: port for name, port in ports.items() if not is_free(port, host)}:
        if time.monotonic() > deadline:
            raise PortTaken("\n".join(_sentence(name, port) for name, port in taken.items()))
        time.sleep(0.1)
    if len(set(ports.values())) < len(ports):
        raise PortTaken(f"Each of {', '.join(ports)} needs a port of its own.")


def _sentence(variable: str, port: int) -> str:
    holder = _holder(port)
    by = f" by {holder}" if holder else ""
    return f"Port {port} is taken{by}. Stop that program, or choose another port: {variable}={port + 1} make demo"


def _holder(port: int) -> str:
    """'name (process 123)' of the listener, '' when this user may not see it."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for columns in map(str.split, rows):
            if columns[3] == "0A" and int(columns[1].rsplit(":", 1)[1], 16) == port:  # 0A: listening
                inodes.add(f"socket:[{columns[9]}]")
    for process in Path("/proc").iterdir():
        if not re.fullmatch(r"\d+", process.name):
            continue
        try:
            if any(os.readlink(fd) in inodes for fd in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue
    return ""
