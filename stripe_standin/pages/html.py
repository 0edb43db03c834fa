"""Filling templates: every value is escaped unless it is `Html`."""

from functools import cache
from html import escape
from pathlib import Path
from string import Template

from stripe_standin.pages.response import Page

_FOLDER = Path(__file__).parent / "templates"


class Html(str):
    """Text that is already markup."""


@cache
def _template(name: str) -> Template:
    return Template((_FOLDER / f"{name}.html").read_text())


def fill(name: str, /, **values: object) -> Html:
    safe = {key: value if isinstance(value, Html) else escape(str(value)) for key, value in values.items()}
    return Html(_template(name).substitute(safe))


def page(name: str, /, *, status: int = 200, title: str, **values: object) -> Page:
    whole = fill("layout", title=title, body=fill(name, title=title, **values))
    return Page(whole.encode(), status=status)


def many(name: str, rows: list[dict[str, object]]) -> Html:
    return Html("".join(fill(name, **row) for row in rows))


def problem(text: str) -> Html:
    return fill("_problem", text=text) if text else Html("")
