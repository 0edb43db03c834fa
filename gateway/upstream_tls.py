"""How upstreams are trusted over TLS, and how the gateway shows itself to those that ask."""

import ssl

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


def upstream_tls() -> ssl.SSLContext:
    """Names and certificates are verified, always; UPSTREAM_CA_FILE adds an authority of the owner's to the system's, and
    UPSTREAM_CLIENT_CERT_FILE is shown to servers that ask for one. Raises ImproperlyConfigured."""
    context = ssl.create_default_context()
    try:
        if settings.UPSTREAM_CA_FILE:
            context.load_verify_locations(cafile=settings.UPSTREAM_CA_FILE)
        if settings.UPSTREAM_CLIENT_CERT_FILE:
            context.load_cert_chain(
                settings.UPSTREAM_CLIENT_CERT_FILE,
                settings.UPSTREAM_CLIENT_KEY_FILE or None,
                password=_no_password,
            )
    except (OSError, ssl.SSLError) as error:
        raise ImproperlyConfigured(
            "UPSTREAM_CA_FILE, UPSTREAM_CLIENT_CERT_FILE or UPSTREAM_CLIENT_KEY_FILE cannot be read as PEM: "
            f"{type(error).__name__}"
        ) from error
    return context


def _no_password() -> str:
    raise ssl.SSLError("the key has a password; nobody is there to type it")
