"""Secrets are compared in constant time, or looked up by their SHA-256: never with == (issue 5, 8)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("core", "accounts", "plans", "keys", "metering", "gateway", "billing", "dashboard", "config")
SECRET = re.compile(
    r"(^|_)(token|secret|password|signature|digest|hash|hexdigest|mac|hmac|credential|stamp|csrf|clear|api_key|nonce)(_hash)?$",
    re.IGNORECASE,
)
# Compared by == although the name sounds like a secret, and why nobody learns anything by its time.
ALLOWED: dict[tuple[str, str], str] = {}


def compared(source: str) -> Iterator[tuple[int, str]]:
    """Lines on which something that is named like a secret is compared with == or != to other than a constant."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare) or not all(
            isinstance(op, ast.Eq | ast.NotEq) for op in node.ops
        ):
            continue
        sides = [node.left, *node.comparators]
        if any(isinstance(side, ast.Constant) for side in sides):
            continue
        if names := [name for side in sides for name in named(side) if SECRET.search(name)]:
            yield node.lineno, ast.unparse(node) if names else ""


def named(node: ast.expr) -> Iterator[str]:
    """What a side is called: `a.token`, `token[:8]`, `digest(key)`, `request["secret"]`."""
    match node:
        case ast.Name():
            yield node.id
        case ast.Attribute():
            yield node.attr
        case ast.Call():
            yield from named(node.func)
        case ast.Subscript():
            yield from named(node.value)
            if isinstance(node.slice, ast.Constant):
                yield str(node.slice.value)


def test_secrets_are_never_compared_with_equal_signs() -> None:
    found = {
        (str(path.relative_to(ROOT)), text)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if "migrations" not in path.parts
        for _, text in compared(path.read_text(encoding="utf-8"))
    }
    assert found - set(ALLOWED) == set()
    assert set(ALLOWED) - found == set(), "allowed, but no longer there"


@pytest.mark.parametrize(
    "source",
    [
        "if token == expected: pass", "if request.headers['signature'] != made: pass", "ok = digest(key) == row.hash",
        "if self.secret[:8] == given: pass", "if given != settings.ADMIN_API_KEY: pass", "x = a.hexdigest() == b",
    ],
)  # fmt: skip
def test_the_search_finds(source: str) -> None:
    assert list(compared(source))


@pytest.mark.parametrize(
    "source", ["token == ''", "compare_digest(token, given)", "row.name == given", "tokens[hash] is None"]
)
def test_the_search_leaves_alone(source: str) -> None:
    assert not list(compared(source))
