"""var/secret.env: secrets made once and kept, and the settings of this machine, so that `manage.py` fits what runs."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography.fernet import Fernet


def ensure_environment(state: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of all processes: secrets of earlier starts, missing ones made now, and `settings` as they are today.

    Variables that are set outside win. Written with mode 0600.
    """
    path = state / "secret.env"
    kept = _read(path)
    made = {
        "SECRET_KEY": kept.get("SECRET_KEY") or secrets.token_urlsafe(50),
        "ENCRYPTION_KEYS": kept.get("ENCRYPTION_KEYS") or Fernet.generate_key().decode(),
        "STRIPE_WEBHOOK_SECRET": kept.get("STRIPE_WEBHOOK_SECRET") or f"whsec_{secrets.token_hex(16)}",
        "ADMIN_API_KEY": kept.get("ADMIN_API_KEY") or secrets.token_urlsafe(32),
    }
    values = {**made, **settings}
    partial = path.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    partial.replace(path)
    return {name: os.environ.get(name) or value for name, value in values.items()}


def seed_mark(state: Path) -> Path:
    """Exists while the seed runs; found at a start, the last one was cut off in the middle."""
    return state / "seeding"


def _read(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    pairs = (line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, value in pairs}
