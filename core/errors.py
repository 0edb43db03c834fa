"""Errors are facts: a code for programs, a status, a public sentence for people. Rendered in one place (RFC 9457)."""

from typing import Any, ClassVar

DOCS_PATH = "/docs/errors/"


class PortalError(Exception):
    """A refusal that the caller may read. Subclasses set code, status and title; the detail may be given per case."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The request could not be carried out"

    def __init__(self, detail: str = "", *, field: str = "") -> None:
        self.detail = detail or self.title
        self.field = field
        super().__init__(self.detail)


class NotFound(PortalError):
    code, status, title = "not_found", 404, "There is nothing here"


class Forbidden(PortalError):
    code, status, title = "forbidden", 403, "Your role does not allow this"


def problem(
    *,
    code: str,
    status: int,
    title: str,
    detail: str,
    request_id: str,
    instance: str = "",
    docs_url: str = "",
    **more: Any,
) -> dict[str, Any]:
    """The body of `application/problem+json` (RFC 9457), the same from every door."""
    body: dict[str, Any] = {
        "type": f"{docs_url}{DOCS_PATH}#{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }
    if instance:
        body["instance"] = instance
    return body | more
