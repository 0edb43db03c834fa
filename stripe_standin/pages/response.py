"""What a page answers."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Page:
    body: bytes = b""
    status: int = 200
    content_type: str = "text/html; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


def redirect(url: str) -> Page:
    return Page(status=303, headers={"Location": url})
