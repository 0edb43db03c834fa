"""Plain HTTP for tests that look from outside."""

import urllib.error
import urllib.request


def status_of(url: str, key: str) -> int:
    """The status that a call with this key gets."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
