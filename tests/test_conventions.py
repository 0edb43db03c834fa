"""What HOUSE_STYLE asks of all our code, held by reading it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps

ROOT = Path(__file__).parent.parent
OURS = ("core", "accounts", "plans", "keys", "metering", "gateway", "billing", "dashboard", "config")
FILES = [f for app in OURS for f in sorted((ROOT / app).rglob("*.py")) if "migrations" not in f.parts]
# Once apps are ready: classes of the OpenAPI schema register themselves, and reconciling learns of statements.
LATE_IMPORTS = {"metering/apps.py", "billing/apps.py", "plans/apps.py"}
THEIR_SIGNATURES = {"send_confirmation_mail"}  # overrides a method of allauth, which passes it by place
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text()))


def functions(path: Path) -> Iterator[Function]:
    return (node for node in nodes(path) if isinstance(node, Function))


def positional(function: Function) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args]


def test_boolean_arguments_are_keyword_only() -> None:
    found = [
        f"{name_of(path)}: {function.name}({argument.arg})"
        for path in FILES
        for function in functions(path)
        if function.name not in THEIR_SIGNATURES
        for argument in positional(function)
        if argument.annotation is not None and ast.unparse(argument.annotation) in ("bool", "bool | None")
    ]
    assert found == []


def test_nothing_is_printed() -> None:
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in FILES
        for node in nodes(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert found == []


def test_imports_stand_on_top() -> None:
    found = {
        name_of(path)
        for path in FILES
        for function in functions(path)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert found == LATE_IMPORTS


@pytest.mark.parametrize("file", ["services.py", "queries.py"])
def test_services_and_queries_are_told_the_time(file: str) -> None:
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in FILES
        if path.name == file
        for node in nodes(path)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("now", "utcnow", "today")
    ]
    assert found == []


def test_at_is_keyword_only_in_services() -> None:
    found = [
        f"{name_of(path)}: {function.name}"
        for path in FILES
        if path.name == "services.py"
        for function in functions(path)
        if not function.name.startswith("_") and "at" in [argument.arg for argument in positional(function)]
    ]
    assert found == []


def test_rows_of_a_tenant_are_reached_through_it() -> None:
    models = [
        model for app in OURS if apps.is_installed(app) for model in apps.get_app_config(app).get_models()
    ]
    owned = [m for m in models if any(f.name == "organization" for f in m._meta.get_fields())]
    assert len(owned) > 10
    unscoped = {m.__name__ for m in owned if not hasattr(m._default_manager, "for_organization")}
    assert unscoped == set()
