"""One POST to a customer's webhook: guarded, bounded, without redirects. The body is what Slack's incoming webhooks take."""

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from django.conf import settings

from core.outbound import ForbiddenAddress, guarded_socket

SECONDS = 8
LONGEST_URL = 2_000
_TIMEOUT = aiohttp.ClientTimeout(total=SECONDS, connect=4)


@dataclass(frozen=True, slots=True)
class Posted:
    """How it went; `words` are for the customer's history and hold nothing of the answer's body."""

    ok: bool
    words: str


def url_fault(url: str) -> str:
    """What is wrong with this address as a webhook, in words; '' when nothing is. Where it leads is checked on connecting."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "This is not an address."
    schemes = ("https", "http") if settings.WEBHOOK_ALLOW_PRIVATE else ("https",)
    if parts.scheme not in schemes or not host:
        return "Give an address that begins with https://."
    if parts.username is not None or parts.password is not None:
        return "Leave name and password out of the address."
    if len(url) > LONGEST_URL or any(c.isspace() or not c.isprintable() for c in url):
        return "This is not an address."
    return ""


def host_of(url: str) -> str:
    """The host, all that pages and history show of a webhook: the path is its secret."""
    return urlsplit(url).hostname or ""


def slack_text(text: str) -> str:
    """Escaped as Slack asks, so that no name becomes a link or calls a channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def post_text(url: str, text: str) -> Posted:
    """Send it; never raises for what the network or the receiver does."""
    if fault := url_fault(url):
        return Posted(False, fault)
    return asyncio.run(_post(url, {"text": slack_text(text)}))


async def _post(url: str, payload: dict[str, str]) -> Posted:
    connector = aiohttp.TCPConnector(
        socket_factory=guarded_socket(allow_private=lambda: settings.WEBHOOK_ALLOW_PRIVATE), limit=1
    )
    headers = {"User-Agent": "Farebox-Alerts/1"}
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector, timeout=_TIMEOUT, trust_env=False, headers=headers,
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as session,
            session.post(url, json=payload, allow_redirects=False, auto_decompress=False) as answer,
        ):  # fmt: skip
            return Posted(200 <= answer.status < 300, f"answered {answer.status}")
    except TimeoutError:
        return Posted(False, f"no answer within {SECONDS} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Posted(False, _reason(error))


def _reason(error: BaseException) -> str:
    """Forbidden and unreachable look alike: nobody maps our network by reading answers."""
    if isinstance(error, ForbiddenAddress | aiohttp.ClientConnectorError | OSError):
        return "could not connect to a public address"
    return f"failed: {type(error).__name__}"
