"""The schema snapshot: one SQL file that stands for all migrations so far, so that a first start need not run them.

It is loaded only into a database without tables, and `migrate` always runs afterwards: an old snapshot is harmless.
"""

import gzip
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

from deploy.local.servers import Postgres

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = ROOT / "deploy" / "schema.sql.gz"
# The drain and beat make the months they need; those of the day of the dump would only be old.
MONTH_PARTITIONS = "public.usage_event_[0-9]*"


def is_empty(database_url: str) -> bool:
    """Whether the database has no tables."""
    with psycopg.connect(database_url) as db:
        row = db.execute(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchone()
    return row == (0,)


def load(database_url: str, snapshot: Path = SNAPSHOT) -> bool:
    """Fill an empty database from the snapshot, all or nothing. Says whether it did.

    It does not when a migration that the snapshot stands for was edited since.
    """
    if not snapshot.is_file() or not is_empty(database_url):
        return False
    text = gzip.decompress(snapshot.read_bytes()).decode()
    covered = set(re.findall(r"(?m)^-- stands for (\S+ \w+)$", text))
    if not covered <= set(_migrations()):
        return False
    with psycopg.connect(database_url) as db, db.transaction():
        db.execute(text.encode())
    return True


def _migrations() -> list[str]:
    """Each migration of ours with a digest of its text."""
    files = sorted(path for path in ROOT.glob("*/migrations/*.py") if path.name != "__init__.py")
    return [
        f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}" for path in files
    ]


def migrate(database_url: str) -> None:
    """Run the migrations against a database in a process of its own; raises CalledProcessError with their output."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": os.environ.get("REDIS_URL") or "redis://127.0.0.1:1/0",  # migrations do not use it
        "SECRET_KEY": os.environ.get("SECRET_KEY") or "migrations-only",
    }
    command = [sys.executable, "manage.py", "migrate", "--verbosity=0", "--skip-checks"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"migrate failed:\n{done.stdout}{done.stderr}")


def write(target: Path = SNAPSHOT) -> None:
    """Migrate an empty database for real and dump it."""
    with tempfile.TemporaryDirectory(prefix="farebox-schema-") as folder:
        Path(folder).chmod(0o711)  # `nobody` must reach the server's folder inside
        server = Postgres(Path(folder) / "postgres", durable=False)
        server.start()
        try:
            migrate(server.url)
            text = "".join(f"-- stands for {migration}\n" for migration in _migrations()) + _dump(server)
        finally:
            server.stop()
    target.write_bytes(gzip.compress(text.encode(), mtime=0))  # no time: the same schema is the same file


def _dump(server: Postgres) -> str:
    command = [str(server.binaries.folder / "pg_dump"), "--inserts", "--no-owner", "--no-privileges"]
    command += [f"--exclude-table={MONTH_PARTITIONS}", f"--dbname={server.url}"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # Commands of psql, and settings that older servers do not know or that would outlive the load.
    return re.sub(r"(?m)^(\\\w+ .*|SET (transaction_timeout|default_table_access_method) .*)\n", "", text)
