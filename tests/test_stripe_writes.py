"""Each write of ours to Stripe carries an idempotency key of ours, held by reading the code; what the requests really carry is
held by the fixture `stripe_standin` in every test that uses it."""

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from tests.test_conventions import FILES, name_of, nodes

KEYS = ("once", "once_at", "self.once")
# Stripe's own identifier makes a meter event count once; a key would repeat its 500 for a day (billing/stripe/sink.py).
WITHOUT = {("billing/stripe/sink.py", "meter_events.create")}
Write = tuple[str, str]


def _verbs(module: Any) -> Iterator[tuple[Write, str]]:
    """((service, method), HTTP verb) of all that the library can ask for."""
    for name, (path, class_name) in getattr(module, "_subservices", {}).items():
        inner = import_module(path)
        for method, function in vars(getattr(inner, class_name)).items():
            source = inspect.getsource(function) if inspect.isfunction(function) else ""
            if found := re.search(r'self\._request\(\s*"(\w+)"', source):
                yield (name, method), found[1]
        yield from _verbs(inner)


def _posts() -> set[Write]:
    found = [*_verbs(import_module("stripe._v1_services")), *_verbs(import_module("stripe._v2_services"))]
    return {write for write, verb in found if verb == "post"}


def _writes(tree: list[ast.AST], posts: set[Write]) -> Iterator[tuple[str, ast.Call]]:
    for node in tree:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        service = ast.unparse(node.func.value).rsplit(".", 1)[-1]
        if (service, node.func.attr) in posts:
            yield f"{service}.{node.func.attr}", node


def _has_key(call: ast.Call, made: set[str]) -> bool:
    given = [*call.args[1:], *(word.value for word in call.keywords if word.arg == "options")]
    return any(
        (isinstance(one, ast.Call) and ast.unparse(one.func) in KEYS) or ast.unparse(one) in made
        for one in given
    )


def _made_keys(tree: list[ast.AST]) -> set[str]:
    """Names that hold a key."""
    return {
        ast.unparse(target)
        for node in tree
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if ast.unparse(node.value.func) in KEYS
        for target in node.targets
    }


def test_every_write_to_stripe_has_a_key() -> None:
    posts = _posts()
    found: dict[Write, bool] = {}
    for path in FILES:
        tree = list(nodes(path))
        for name, call in _writes(tree, posts):
            where = (name_of(path), name)
            found[where] = found.get(where, True) and _has_key(call, _made_keys(tree))
    assert {where for where, has_key in found.items() if not has_key} == WITHOUT
    # Else this test would look at nothing.
    assert {
        ("billing/stripe/checkout.py", "sessions.create"),
        ("billing/stripe/customers.py", "customers.create"),
        ("billing/stripe/items.py", "invoice_items.create"),
        ("billing/stripe/catalogue_apply.py", "prices.create"),
    } <= set(found)


def test_what_is_read_and_what_is_deleted_needs_none() -> None:
    posts = _posts()
    assert ("subscriptions", "update") in posts
    assert not posts & {("subscriptions", "cancel"), ("subscriptions", "retrieve"), ("invoices", "list")}
