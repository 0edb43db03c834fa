"""Runs the processes of one machine: in order, each when the one before is ready; restarts what dies; leaves nothing.

One thread does everything, because the kernel's parent-death signal follows the thread that started a child. A guard
process (guard.py) ends the children's own workers when the supervisor is killed.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from deploy.local.process import Program, ProgramFailed, kill_group, spawn, stop, tail, wait_ready

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_STABLE_AFTER = 10.0  # a child that lived this long starts again without a pause
_LARGEST_LOG = 10 * 1024 * 1024
_POLL_SECONDS = 0.05
PROGRESS = "* "  # starts the lines of a command that are for the person who waits


class AlreadyRunning(Exception):
    """Another supervisor holds the state folder."""


class StateLock:
    """The state folder belongs to one supervisor; the kernel frees it however that one ends."""

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] = (state / "supervisor.lock").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise AlreadyRunning(
                f"Farebox already runs from {state} (process {holder}). Stop it first with Ctrl-C or `kill {holder}`."
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        self._file.close()


@dataclass
class _Child:
    program: Program
    log: Path
    process: subprocess.Popen[bytes]
    started: float
    pause: float = _FIRST_PAUSE
    restart_at: float | None = None
    shown: int = 0  # bytes of the log already echoed


@dataclass
class Supervisor:
    """Use as a context manager in the main thread: `start` programs, then `run` until Ctrl-C or SIGTERM."""

    state: Path
    say: Callable[[str], None] = print
    echo: bool = False  # also print the children's logs, each line with its name
    _children: dict[str, _Child] = field(default_factory=dict)
    _stopping: bool = False

    def __enter__(self) -> "Supervisor":
        self._lock = StateLock(self.state)
        self._logs = self.state / "log"
        self._logs.mkdir(exist_ok=True)
        self._guard = subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).with_name("guard.py"))],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the whole terminal group; the guard goes last
            text=True,
            bufsize=1,
        )
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopping = True
        for child in reversed(list(self._children.values())):
            stop(child.program, child.process)
            self._watch("-", child)
        if self._guard.stdin:
            self._guard.stdin.close()
        self._guard.wait()
        self._lock.release()

    @property
    def stopping(self) -> bool:
        return self._stopping

    def start(self, program: Program) -> None:
        """Start `program` and return when it is ready; raises ProgramFailed."""
        self.start_together([program])

    def start_together(self, programs: Sequence[Program]) -> None:
        """Start programs that do not wait for each other; return when all are ready. Raises ProgramFailed."""
        children = [self._launch(program) for program in programs if not self._stopping]
        for child in children:
            try:
                wait_ready(child.program, child.process, child.log, stopping=lambda: self._stopping)
            except ProgramFailed:
                del self._children[child.program.name]
                stop(child.program, child.process)
                self._watch("-", child)
                raise

    def _launch(self, program: Program) -> _Child:
        log = self._logs / f"{program.name}.log"
        _rotate(log)
        shown = log.stat().st_size if log.exists() else 0
        child = _Child(program, log, spawn(program, log), time.monotonic(), shown=shown)
        self._children[program.name] = child
        self._watch("+", child)
        return child

    def start_server(
        self, program: Callable[[], Program], prepare: Callable[[], None], attempts: int = 6
    ) -> None:
        """`start` for a server of ours: prepares again after a lost race for a port or leftovers of a killed one."""
        for attempt in range(attempts):
            prepare()
            try:
                return self.start(program())
            except ProgramFailed:
                if attempt == attempts - 1:
                    raise
                time.sleep(0.2 * (attempt + 1))

    def pid(self, name: str) -> int:
        """The process id of a child, for those who kill it to see it come back."""
        return self._children[name].process.pid

    def run(self) -> None:
        """Watch the children until told to stop."""
        while not self._stopping:
            self.tick()
            time.sleep(_POLL_SECONDS)

    def tick(self, *, but: _Child | None = None) -> None:
        """One round: notice the dead, start again what is due, echo new log lines."""
        for child in self._children.values():
            if child is but:
                continue
            if child.restart_at is not None:
                if time.monotonic() >= child.restart_at:
                    self._restart(child)
            elif child.process.poll() is not None:
                self._bury(child)
            if self.echo:
                self._show(child)

    def run_once(self, program: Program, *, show: bool = False) -> None:
        """Run a command to its end, others are watched meanwhile; raises ProgramFailed on a bad status.

        `show` prints its progress lines as they come; all others stay in the log.
        """
        child = self._launch(program)
        while (ended := child.process.poll() is not None) or not self._stopping:
            if show:
                self._show(child)
            if ended:
                break
            self.tick(but=child)
            time.sleep(_POLL_SECONDS)
        del self._children[program.name]
        stop(program, child.process)
        self._watch("-", child)
        if child.process.returncode and not self._stopping:
            raise ProgramFailed(
                f"{program.name} ended with status {child.process.returncode}.\n{tail(child.log)}"
            )

    def _bury(self, child: _Child) -> None:
        lived = time.monotonic() - child.started
        kill_group(child.process.pid)  # workers of a dead master would keep its port
        self._watch("-", child)
        child.pause = _FIRST_PAUSE if lived > _STABLE_AFTER else min(child.pause * 2, _LONGEST_PAUSE)
        child.restart_at = time.monotonic() + (0 if lived > _STABLE_AFTER else child.pause)
        self.say(
            f"{child.program.name} ended with status {child.process.returncode}; starting it again ({child.log})"
        )

    def _restart(self, child: _Child) -> None:
        child.process = spawn(child.program, child.log)
        child.started = time.monotonic()
        child.restart_at = None
        self._watch("+", child)

    def _watch(self, sign: str, child: _Child) -> None:
        if self._guard.stdin and self._guard.poll() is None:
            self._guard.stdin.write(f"{sign}{child.process.pid}\n")

    def _show(self, child: _Child) -> None:
        with child.log.open("rb") as log:
            log.seek(child.shown)
            whole, _, _rest = log.read(1 << 20).rpartition(b"\n")
        if whole:
            child.shown += len(whole) + 1
            for line in whole.decode(errors="replace").splitlines():
                if self.echo:
                    self.say(f"{child.program.name:>14} | {line}")
                elif line.startswith(PROGRESS):
                    self.say(f"  {line.removeprefix(PROGRESS)}")

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LARGEST_LOG:
        log.replace(log.with_suffix(".log.1"))
