"""Parameters of a request: Stripe's bracketed form data decoded, read by type, and remembered as read.

What a handler never read is reported (see `/_standin/violations`): a parameter that the real Stripe would obey and the
stand-in ignores must not go unnoticed.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

from stripe_standin.errors import invalid, needed

_TRUE, _FALSE = ("true", "1"), ("false", "0")


def decode(text: str) -> dict[str, Any]:
    """`items[0][price]=x&expand[]=y` as {"items": [{"price": "x"}], "expand": ["y"]}."""
    tree: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        keys = name.replace("]", "").split("[")
        place = tree
        for key in keys[:-1]:
            inner = place.setdefault(key if key else str(len(place)), {})
            if not isinstance(inner, dict):
                raise invalid(f"Invalid parameter: {name}", param=name)
            place = inner
        place[keys[-1] or str(len(place))] = value
    return {key: _lists(value) for key, value in tree.items()}


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(key.isdigit() for key in value):
        return [_lists(value[key]) for key in sorted(value, key=int)]
    return {key: _lists(inner) for key, inner in value.items()}


class Params:
    """A mapping that knows its path (for error messages) and which names were read."""

    def __init__(self, values: dict[str, Any], path: str = "") -> None:
        self._values, self._path = values, path
        self._read: set[str] = set()
        self._inner: list[Params] = []

    def _name(self, name: str) -> str:
        return f"{self._path}[{name}]" if self._path else name

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def raw(self, name: str) -> Any:
        self._read.add(name)
        return self._values.get(name)

    def cleared(self, name: str) -> bool:
        """Sent as an empty value, which unsets."""
        return name in self._values and self._values[name] in ("", None)

    def text(self, name: str, default: str | None = None) -> str | None:
        value = self.raw(name)
        if isinstance(value, dict | list):
            raise invalid(f"Invalid string: {value}", param=self._name(name))
        return default if value in (None, "") else str(value)

    def required(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise needed(self._name(name))
        return value

    def number(self, name: str, default: int | None = None) -> int | None:
        value = self.text(name)
        if value is None:
            return default
        try:
            return int(value)
        except ValueError:
            raise invalid(
                f"Invalid integer: {value}", param=self._name(name), code="parameter_invalid_integer"
            ) from None

    def flag(self, name: str, *, default: bool = False) -> bool:
        value = self.raw(name)
        if value in (None, ""):
            return default
        low = str(value).lower()
        if low not in (*_TRUE, *_FALSE):
            raise invalid(f"Invalid boolean: {value}", param=self._name(name))
        return low in _TRUE

    def choice(self, name: str, options: tuple[str, ...], default: str | None = None) -> str | None:
        value = self.text(name, default)
        if value is not None and value not in options:
            listed = ", ".join(options[:-1]) + (f", or {options[-1]}" if len(options) > 1 else options[-1])
            raise invalid(f"Invalid {self._name(name)}: must be one of {listed}", param=self._name(name))
        return value

    def sub(self, name: str) -> "Params":
        value = self.raw(name)
        if value not in (None, "") and not isinstance(value, dict):
            raise invalid("Invalid object", param=self._name(name))
        inner = Params(value or {}, self._name(name))
        self._inner.append(inner)
        return inner

    def items(self, name: str) -> list["Params"]:
        value = self.raw(name)
        if value in (None, ""):
            return []
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise invalid("Invalid array", param=self._name(name))
        made = [Params(each, f"{self._name(name)}[{index}]") for index, each in enumerate(value)]
        self._inner += made
        return made

    def texts(self, name: str) -> list[str]:
        value = self.raw(name)
        if value in (None, ""):
            return []
        if not isinstance(value, list):
            raise invalid("Invalid array", param=self._name(name))
        return [str(each) for each in value]

    def metadata(self, present: dict[str, str] | None = None, name: str = "metadata") -> dict[str, str]:
        """Present metadata with what was sent: an empty value removes a key, an empty whole removes all."""
        value = self.raw(name)
        if value is None:
            return dict(present or {})
        if value == "":
            return {}
        merged = dict(present or {}) | {key: str(each) for key, each in value.items()}
        return {key: each for key, each in merged.items() if each != ""}

    def address(self, name: str = "address") -> dict[str, Any] | None:
        value = self.raw(name)
        if not value:
            return None
        return {
            key: value.get(key) or None
            for key in ("city", "country", "line1", "line2", "postal_code", "state")
        }

    def names(self) -> set[str]:
        return set(self._values)

    def plain(self) -> dict[str, Any]:
        """Everything, read at once."""
        self._read |= set(self._values)
        return self._values

    def unread(self) -> Iterator[str]:
        yield from (self._name(name) for name in self._values if name not in self._read)
        for inner in self._inner:
            yield from inner.unread()
