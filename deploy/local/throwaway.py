"""Runs a command against servers that exist only for it: `python -m deploy.local with-servers COMMAND ...`.

Used by checks and measurements that must touch neither the demo's data nor a developer's.
"""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.local import testing
from deploy.local.environment import ensure_environment
from deploy.local.servers import Valkey


def with_servers(command: Sequence[str]) -> int:
    """Run `command` with DATABASE_URL (a migrated, empty, durable database) and REDIS_URL set; returns its status."""
    with tempfile.TemporaryDirectory(prefix="farebox-run-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # `nobody` must reach PostgreSQL's folder inside
        postgres, valkey = testing.start_postgres(folder, durable=True), Valkey(folder / "valkey")
        valkey.start()
        try:
            url = testing.clone(postgres.url, template=testing.TEMPLATE, name="farebox_throwaway")
            own = {"DATABASE_URL": url, "REDIS_URL": valkey.url, "FAREBOX_VAR_DIR": str(folder)}
            secrets = ensure_environment(folder, {"STATIC_ROOT": str(folder / "static")})
            (folder / "static").mkdir()
            return subprocess.run(list(command), env={**os.environ, **secrets, **own}, check=False).returncode
        finally:
            valkey.stop()
            postgres.stop()
