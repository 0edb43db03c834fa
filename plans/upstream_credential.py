"""Which headers and values may carry the owner's credential: whole lines that no server reads as anything else.

The gateway sends nothing that would break out of its line; here staff learn of it before every call fails.
"""

import re

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# They say where a message goes and where it ends; the gateway writes them itself.
_OF_THE_CONNECTION = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


def header_name_fault(name: str) -> str:
    """What is wrong with a header that shall carry a credential, in words; '' when nothing is."""
    if not _TOKEN.fullmatch(name):
        return "This is not the name of a header: letters, digits and hyphens, for example Authorization."
    if name.lower() in _OF_THE_CONNECTION:
        return f"{name} is written by the gateway itself and cannot carry a credential."
    return ""


def credential_fault(value: str) -> str:
    """What is wrong with a credential, in words; '' when nothing is."""
    if not (value.isascii() and value.isprintable()):
        return "A credential is plain ASCII characters on one line."
    return ""
