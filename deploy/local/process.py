"""One child process: how it is started, asked to stop, and made to die with its parent."""

import ctypes
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)  # loaded here: nothing may be imported between fork and exec


class Account(NamedTuple):
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """The account for programs that refuse to run as root: `nobody` when we are root, None when we are not."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


@dataclass(frozen=True)
class Program:
    """What to run and how to know that it is up. `ready` is asked again and again; it must answer within a second or two."""

    name: str
    argv: Sequence[str]
    ready: Callable[[], bool] = lambda: True
    before_start: Callable[[], None] = lambda: None
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    ready_within: float = 60.0
    stop_within: float = 15.0


class ProgramFailed(Exception):
    """A program ended or did not get ready; the message ends with the last lines of its log."""


def spawn(program: Program, log: Path) -> subprocess.Popen[bytes]:
    """Start `program` in a session of its own with its output appended to `log`.

    Call it from a thread that lives as long as the child may: the kernel's parent-death signal follows the thread.
    """
    parent = os.getpid()
    death_signal = int(program.death_signal)

    def die_with_parent() -> None:  # runs after setuid, which would clear the setting
        _LIBC.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    program.before_start()
    account = program.account
    with log.open("ab") as output:
        return subprocess.Popen(
            list(program.argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=program.cwd,
            env={**os.environ, **program.env},
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )


def wait_ready(
    program: Program,
    process: subprocess.Popen[bytes],
    log: Path,
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Return when the program answers; raise ProgramFailed when it ends first or takes longer than it may."""
    deadline = time.monotonic() + program.ready_within
    while not program.ready():
        if stopping():
            return
        if process.poll() is not None:
            raise ProgramFailed(f"{program.name} ended with status {process.returncode}.\n{tail(log)}")
        if time.monotonic() > deadline:
            raise ProgramFailed(
                f"{program.name} was not ready after {program.ready_within:.0f} s.\n{tail(log)}"
            )
        time.sleep(0.02)


def stop(program: Program, process: subprocess.Popen[bytes]) -> None:
    """Ask the program to stop, insist when it does not; returns when it and what it started are gone."""
    if process.poll() is None:
        process.send_signal(program.stop_signal)
        try:
            process.wait(program.stop_within)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
    kill_group(process.pid)


def kill_group(leader: int) -> None:
    """SIGKILL to everything left in the process group of a child: workers must not outlive their master."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # nothing is left, or the number went to somebody else's process


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message."""
    try:
        text = log.read_bytes()[-8192:].decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(line[:300] for line in text.splitlines()[-lines:])
