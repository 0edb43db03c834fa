"""What has to be done between the start of the servers and of Farebox itself: schema, static files, seed.

One process for all of it: each `manage.py` command of its own would spend a second on imports.
"""

import argparse
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import django
from django.apps import apps
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command

from deploy.local.environment import seed_mark
from deploy.local.schema import load
from deploy.local.supervisor import PROGRESS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seed", action="store_true", help="fill an empty installation with the demo's customers"
    )
    arguments = parser.parse_args()
    if load(os.environ["DATABASE_URL"]):
        _tell("schema snapshot loaded")
    django.setup()
    _step("migrations", lambda: call_command("migrate", verbosity=0, skip_checks=True))
    _step("static files", _collect_static)
    if arguments.seed:
        _step("demo customers", _seed)
    else:
        call_command("install_catalogue", "--if-empty", stdout=_Progress())


def _seed() -> None:
    """Seed an empty installation; a mark says that it is under way, so that the next start knows half a seed."""
    mark = seed_mark(Path(settings.VAR_DIR))
    if apps.get_model("accounts", "Organization").objects.exists():
        return
    mark.touch()
    call_command("seed", "--if-empty", upstream=os.environ["FAREBOX_UPSTREAM_URL"], stdout=_Progress())
    mark.unlink()


class _Progress:
    """A command's standard output as progress."""

    def write(self, text: str) -> None:
        if text.strip():
            _tell(text.strip())

    def flush(self) -> None: ...


def _tell(text: str) -> None:
    print(f"{PROGRESS}{text}", flush=True)


def _step(name: str, work: Callable[[], object]) -> None:
    started = time.monotonic()
    work()
    _tell(f"{name}: {time.monotonic() - started:.1f} s")


def _collect_static() -> None:
    """Hash and compress the assets, unless they are the ones of last time."""
    digest = hashlib.sha256()
    for finder in get_finders():
        for path, storage in sorted(finder.list([]), key=lambda found: found[0]):
            stat = os.stat(storage.path(path))
            digest.update(f"{path}:{stat.st_size}:{stat.st_mtime_ns}\n".encode())
    stamp = settings.STATIC_ROOT / ".stamp"
    if stamp.is_file() and stamp.read_text() == digest.hexdigest():
        return
    call_command("collectstatic", interactive=False, clear=settings.STATIC_ROOT.is_dir(), verbosity=0)
    stamp.write_text(digest.hexdigest())


if __name__ == "__main__":
    main()
