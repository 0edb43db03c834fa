"""How an exchange with an upstream fails, and what of the client ends it."""


class UpstreamUnavailable(Exception):
    """The upstream could not be reached (`is_untouched`: it never saw the request), or broke off before it answered, or
    answered what is no HTTP."""

    def __init__(self, *, is_untouched: bool = False) -> None:
        self.is_untouched = is_untouched
        super().__init__()


class UpstreamTimeout(Exception):
    """The upstream took longer than the route allows."""


class UpstreamCut(Exception):
    """The upstream broke off in the middle of its answer."""


class StaleConnection(UpstreamUnavailable):
    """A kept-alive connection was closed before a byte of the answer came: most likely it had been closed before we asked."""


class ClientGone(Exception):
    """The client closed the connection."""


class BodyTooLarge(Exception):
    """The request's body is over the route's limit."""
