"""`make bench`: what the doors cost, one figure a line as `name value unit`, with what was asked for beside it.

All on loopback, in rounds that take turns, so that a busy machine is busy for all; a figure is the median of its rounds. The
CPU time of a server a call says more on a busy machine than calls a second do. Needs DATABASE_URL and REDIS_URL of servers to
fill (`python -m deploy.local with-servers`). docs/performance.md tells what each figure is.
"""

import argparse
import importlib
import os
import subprocess
import sys

import django

from benchmarks.kit import ROOT

PARTS = {
    "doors": "doors",
    "nginx": "against_nginx",
    "latency": "latency",
    "streams": "streams",
    "workers": "workers",
    "hold": "hold_streams",
}
PROGRAMS = (
    "scripts",
    "reports",
    "statements",
)  # modules to run; reports and statements fill servers of their own
USUAL = (*(part for part in PARTS if part != "hold"), "scripts")  # holding streams takes minutes


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3, help="of each round of load")
    parser.add_argument(
        "--part", action="append", choices=[*PARTS, *PROGRAMS], help=f"measure only this (repeatable); else: {', '.join(USUAL)}"
    )  # fmt: skip
    chosen = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.peer.settings"
    django.setup()
    print(f"machine_cores {len(os.sched_getaffinity(0))} cores", flush=True)
    for part in chosen.part or USUAL:
        if part in PROGRAMS:
            subprocess.run([sys.executable, "-m", f"benchmarks.{part}"], cwd=ROOT, check=True)
        else:
            importlib.import_module(f"benchmarks.{PARTS[part]}").measure(chosen.seconds)


if __name__ == "__main__":
    main()
