"""What the stand-in knows: tables of JSON objects by id, in the order of their creation, kept in a file if wanted."""

import json
import os
import secrets
import string
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stripe_standin.errors import missing

Obj = dict[str, Any]
_ALPHABET = string.ascii_letters + string.digits


class Store:
    """Tables are named as the objects in them ("customer", "invoice"); names with a leading underscore are the stand-in's own."""

    def __init__(self, *, deterministic: bool = False) -> None:
        self.tables: dict[str, dict[str, Any]] = {}
        self.deterministic = deterministic
        self.counter = 0
        self.dirty = False

    def new_id(self, prefix: str) -> str:
        self.counter += 1
        if self.deterministic:
            return f"{prefix}_{self.counter:014d}"
        return f"{prefix}_{''.join(secrets.choice(_ALPHABET) for _ in range(24))}"

    def table(self, name: str) -> dict[str, Any]:
        return self.tables.setdefault(name, {})

    def add(self, obj: Obj) -> Obj:
        self.table(obj["object"])[obj["id"]] = obj
        return obj

    def peek(self, name: str, identifier: str | None) -> Obj | None:
        return self.table(name).get(identifier or "")

    def get(self, name: str, identifier: str, *, param: str = "id", status: int = 404) -> Obj:
        found = self.peek(name, identifier)
        if found is None:
            raise missing(name.replace("_", " ").replace(".", " "), identifier, param=param, status=status)
        return found

    def named(self, name: str, identifier: str, param: str) -> Obj:
        """An object that a parameter refers to: its absence is a 400, not a 404."""
        return self.get(name, identifier, param=param, status=400)

    def remove(self, obj: Obj) -> None:
        self.table(obj["object"]).pop(obj["id"], None)

    def where(self, name: str, test: Callable[[Obj], bool] | None = None, **equals: Any) -> Iterator[Obj]:
        """Oldest first."""
        for obj in list(self.table(name).values()):
            if all(obj.get(key) == value for key, value in equals.items()) and (test is None or test(obj)):
                yield obj

    def save(self, path: Path) -> None:
        """Whole or not at all: a killed process leaves the file of the last save."""
        text = json.dumps({"tables": self.tables, "counter": self.counter})
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(handle, "w") as sink:
            sink.write(text)
        Path(name).replace(path)

    def load(self, path: Path) -> None:
        kept = json.loads(path.read_text())
        self.tables, self.counter = kept["tables"], kept["counter"]

    def clear(self) -> None:
        self.tables.clear()
        self.counter = 0
        self.dirty = True
