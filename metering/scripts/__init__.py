"""The scripts that Redis runs for the door. Each is put together from parts, because a script cannot call another one.

A script starts with `#!lua`, which makes Redis refuse it as a whole when memory is full, before its first line.
"""

from collections.abc import Container
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha1
from pathlib import Path

# Whole sub-buckets of a window beside the current one. A limit that is always used up admits N in 1 + 1/BUCKETS windows:
# 0.42 % too few with 240 (976 bytes a window), 0.83 % with 120, where at most 0.5 % is allowed (test_exactness.py).
BUCKETS = 240
_FOLDER = Path(__file__).parent
_NOW = ("clock", "now")
_CAP = ("charges", "spend")
_TRACES = ("reservations", "refusals")
_PARTS = {
    "admit": (*_NOW, "numbers", "windows", "admit_plain", "admit_first", *_CAP, "admit_capped", *_TRACES),
    "extend": ("clock", "numbers", "windows", "charges", "spend"),
    "settle": ("numbers", "settle_plain", "charges", "spend", "weights"),
    "track": ("numbers",),
    "restore": ("numbers",),
    "renew": ("clock", "numbers"),
    "release": ("numbers", "reservations"),
    "sweep": ("clock", "numbers", "reservations"),
    "refuse": ("clock", "numbers", "refusals"),
    "cut": (),
    "correct": ("numbers",),
    "mark": (),
    # Behind `dry_run`, parts are read once more: from there on what they call is looked at.
    "look": (
        *_NOW, "numbers", "windows", "admit_plain", "look_first", *_CAP, "look_capped",
        "dry_run", "numbers", "windows", *_CAP, *_TRACES, "admit()",
    ),
    "verify": ("dry_run", *_NOW, "numbers", "windows", *_TRACES, *_CAP, "weights", "admit()", "settle()"),
}  # fmt: skip
NAMES = tuple(_PARTS)


@dataclass(frozen=True, slots=True)
class Script:
    """Source and the name Redis knows it by."""

    name: str
    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


def build_script(name: str, *, clock: str | None = None, without: Container[str] = ()) -> Script:
    """A script from its parts; `clock` puts other source in the place of the server's clock, `without` leaves parts out (tests
    run in their own time, and the long way)."""
    names = [part for part in _PARTS[name] if part not in without]
    parts = [clock if part == "clock" and clock is not None else _read(part) for part in names]
    return Script(name, "\n".join(["#!lua", f"local BUCKETS = {BUCKETS}", *parts, _read(name)]))


@cache
def script(name: str) -> Script:
    """The script that production runs under this name."""
    return build_script(name)


def _read(name: str) -> str:
    """A part's source; `name()` is a whole script as a function of its keys and arguments, so that another can run it."""
    if name.endswith("()"):
        name = name.removesuffix("()")
        return f"local function {name}(KEYS, ARGV)\n{_read(name)}\nend"
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
