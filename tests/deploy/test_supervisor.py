"""The supervisor starts in order, restarts what dies, and leaves nothing behind, however it ends."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.local.ports import PortTaken, free_port, require_free
from deploy.local.process import Program, ProgramFailed
from deploy.local.supervisor import AlreadyRunning, StateLock, Supervisor

ROOT = Path(__file__).resolve().parents[2]

# A master with a worker of its own, as gunicorn and uvicorn have: the worker ignores the death of its parent.
MASTER = """
import subprocess, sys, time
from pathlib import Path
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
with Path(sys.argv[1]).open("a") as pids:
    import os
    pids.write(f"{os.getpid()} {worker.pid}\\n")
time.sleep(300)
"""

SUPERVISED = """
import sys
from pathlib import Path
from deploy.local.process import Program
from deploy.local.supervisor import Supervisor
state, pids, master = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
with Supervisor(state) as supervisor:
    before = len(pids.read_text().splitlines()) if pids.exists() else 0
    ready = lambda: pids.exists() and len(pids.read_text().splitlines()) > before
    supervisor.start(Program(name="master", argv=[sys.executable, "-c", master, str(pids)], ready=ready))
    print("up", flush=True)
    supervisor.run()
"""


def wait_for(condition: Callable[[], bool], *, within: float = 10.0) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Supervised:
    """A supervisor in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.state, self._pids = folder / "state", folder / "pids"
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISED, str(self.state), str(self._pids), MASTER],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "up\n"

    def pids(self) -> list[tuple[int, int]]:
        """Master and worker of each start."""
        return [(int(a), int(b)) for a, b in map(str.split, self._pids.read_text().splitlines())]

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        status = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    running = Supervised(tmp_path)
    yield running
    if running.process.poll() is None:
        running.end(signal.SIGKILL)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_children_and_their_workers_end_with_the_supervisor(
    supervised: Supervised, how: signal.Signals
) -> None:
    [(master, worker)] = supervised.pids()

    status = supervised.end(how)

    assert status == 0
    assert not is_running(master)
    assert not is_running(worker)


def test_nothing_outlives_a_killed_supervisor(supervised: Supervised) -> None:
    [(master, worker)] = supervised.pids()
    assert is_running(master)
    assert is_running(worker)

    supervised.end(signal.SIGKILL)

    assert wait_for(lambda: not is_running(master) and not is_running(worker), within=5)


def test_dead_child_is_started_again_and_its_old_worker_removed(supervised: Supervised) -> None:
    [(master, worker)] = supervised.pids()

    os.kill(master, signal.SIGKILL)

    assert wait_for(lambda: len(supervised.pids()) == 2)
    assert wait_for(lambda: not is_running(worker))
    second_master, second_worker = supervised.pids()[1]
    assert is_running(second_master)
    assert is_running(second_worker)


def test_child_started_again_does_not_outlive_a_killed_supervisor(supervised: Supervised) -> None:
    os.kill(supervised.pids()[0][0], signal.SIGKILL)
    assert wait_for(lambda: len(supervised.pids()) == 2)
    # The guard learns of the new child right after it was made; the worker's own line may come earlier.
    time.sleep(0.2)

    supervised.end(signal.SIGKILL)

    assert wait_for(lambda: not any(is_running(pid) for pair in supervised.pids() for pid in pair), within=5)


def test_second_supervisor_of_a_state_folder_is_refused(supervised: Supervised) -> None:
    with pytest.raises(AlreadyRunning, match=rf"process {supervised.process.pid}\b"):
        StateLock(supervised.state)


def test_state_folder_is_free_again_after_a_kill(supervised: Supervised) -> None:
    supervised.end(signal.SIGKILL)

    lock = StateLock(supervised.state)

    assert (supervised.state / "supervisor.lock").read_text() == str(os.getpid())
    lock.release()


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor in this process; the handlers that it sets are put back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    said: list[str] = []
    with Supervisor(tmp_path / "state", say=said.append) as running:
        yield running
    for number, handler in handlers.items():
        signal.signal(number, handler)


def python(code: str, *, name: str = "child", ready: Callable[[], bool] = lambda: True) -> Program:
    return Program(name=name, argv=[sys.executable, "-c", textwrap.dedent(code)], ready=ready, ready_within=5)


def test_program_that_ends_before_it_is_ready_is_reported_with_its_log(supervisor: Supervisor) -> None:
    with pytest.raises(ProgramFailed, match="(?s)child ended with status 3.*the reason"):
        supervisor.start(python("print('the reason'); raise SystemExit(3)", ready=lambda: False))


def test_program_that_keeps_failing_is_started_ever_more_slowly(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    code = f"open({str(starts)!r}, 'a').write('x'); raise SystemExit(1)"
    supervisor.start(python(code))

    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        supervisor.tick()
        time.sleep(0.01)

    assert 2 <= len(starts.read_text()) <= 5  # pauses of 0.2, 0.4, 0.8 s


def test_command_runs_to_its_end_and_its_status_counts(supervisor: Supervisor, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    supervisor.run_once(python(f"open({str(mark)!r}, 'w').write('done')"))
    assert mark.read_text() == "done"

    with pytest.raises(ProgramFailed, match="(?s)child ended with status 2.*broken"):
        supervisor.run_once(python("print('broken'); raise SystemExit(2)"))


def test_taken_port_is_named_with_its_holder_and_a_way_out() -> None:
    port = free_port()
    code = f"import socket; s = socket.create_server(('127.0.0.1', {port})); print('up', flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "up\n"

        with pytest.raises(PortTaken) as caught:
            require_free({"PORT_WEB": port, "PORT_GATEWAY": free_port()}, patience=0)
        holder.kill()

    text = str(caught.value)
    assert f"Port {port} is taken" in text
    assert f"(process {holder.pid})" in text
    assert f"PORT_WEB={port + 1}" in text
    assert "PORT_GATEWAY" not in text


def test_the_same_port_twice_is_refused() -> None:
    port = free_port()
    with pytest.raises(PortTaken, match="a port of its own"):
        require_free({"PORT_WEB": port, "PORT_GATEWAY": port})


def test_free_ports_lie_outside_the_range_of_outgoing_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(1024 < free_port() < lowest for _ in range(5))
