"""How the API's document names the keys that an endpoint takes. Imported by MeteringConfig.ready."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema


class _EitherHeader(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # subclasses register themselves
    """A key as bearer token, or in a header of its own."""

    target_class: Any = None
    names: list[str]
    header: str
    description: str

    @property
    def name(self) -> list[str]:  # type: ignore[override]  # the base's attribute is only read
        return self.names

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        return [{name: []} for name in self.names]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        return [
            {"type": "http", "scheme": "bearer", "description": self.description},
            {"type": "apiKey", "in": "header", "name": self.header, "description": self.description},
        ]


class CustomerKeyScheme(_EitherHeader):  # type: ignore[no-untyped-call]
    target_class = "metering.drf.FareboxKeyAuthentication"
    names = ["customerKey", "customerKeyHeader"]
    header = "X-API-Key"
    description = "A key of an organization: `fb_live_...` or `fb_test_...`."


class StaffTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.authentication.StaffTokenAuthentication"
    name = "staffToken"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The access token of `POST /api/auth/login`.",
        }


class OwnerKeyScheme(_EitherHeader):  # type: ignore[no-untyped-call]
    target_class = "keys.authentication.OwnerKeyAuthentication"
    match_subclasses = True
    names = ["ownerKey", "ownerKeyHeader"]
    header = "X-Admin-Key"
    description = "A key of the owner: `ADMIN_API_KEY`, or one made by `manage.py issue_owner_key`."
