"""Refusals in Stripe's shape: `{"error": {"type", "code", "param", "message"}}`."""

from typing import Any


class StripeError(Exception):
    """An answer that is not 200. `extra` goes into the error object (decline code, payment intent, ...)."""

    def __init__(
        self, status: int, kind: str, message: str, *, code: str = "", param: str = "", **extra: Any
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.code, self.param, self.extra = status, kind, code, param, extra

    def body(self) -> dict[str, Any]:
        error: dict[str, Any] = {"type": self.kind, "message": str(self), **self.extra}
        if self.code:
            error |= {
                "code": self.code,
                "doc_url": f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}",
            }
        if self.param:
            error["param"] = self.param
        return {"error": error}


def invalid(message: str, *, param: str = "", code: str = "", status: int = 400) -> StripeError:
    return StripeError(status, "invalid_request_error", message, code=code, param=param)


def missing(kind: str, identifier: object, *, param: str = "id", status: int = 404) -> StripeError:
    """`kind` as Stripe writes it in messages: "customer", "price", "billing meter"."""
    return invalid(f"No such {kind}: '{identifier}'", param=param, code="resource_missing", status=status)


def needed(param: str) -> StripeError:
    return invalid(f"Missing required param: {param}.", param=param, code="parameter_missing")
