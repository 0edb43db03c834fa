"""The owner's system for tests: a client of /api/admin/tenants with a key of its own."""

from dataclasses import dataclass
from typing import Any

from django.test import Client

from core.clock import now
from keys.models import OwnerScope
from keys.services import issue_owner_key
from plans.default_catalogue import install_default_catalogue

TENANTS = "/api/admin/tenants"


@dataclass
class OwnersSystem:
    """Calls with a bearer token: an owner key unless told otherwise."""

    token: str

    @classmethod
    def start(cls, *scopes: str) -> "OwnersSystem":
        install_default_catalogue(at=now())
        _, clear = issue_owner_key(name="crm", at=now(), scopes=scopes or (OwnerScope.TENANTS,))
        return cls(clear)

    def call(self, method: str, path: str = "", body: Any = None, **headers: str) -> Any:
        head = {"Authorization": f"Bearer {self.token}"} | {
            n.replace("_", "-"): v for n, v in headers.items()
        }
        client, address = Client(raise_request_exception=False), TENANTS + path
        if method in ("get", "delete"):
            return getattr(client, method)(address, headers=head)
        return getattr(client, method)(
            address, {} if body is None else body, content_type="application/json", headers=head
        )

    def create(self, **fields: Any) -> dict[str, Any]:
        answer = self.call("post", "", {"name": "Acme"} | fields)
        assert answer.status_code == 200, answer.content
        made: dict[str, Any] = answer.json()
        return made
