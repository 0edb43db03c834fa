"""The statuses of the owner's API and of sign-in, provoked: part of tests/test_api_statuses.py."""

from collections.abc import Callable
from typing import Any

from django.core.cache import cache
from django.db import OperationalError
from django.test import Client

from accounts.models import Organization
from accounts.services import create_staff
from core.clock import now
from core.idempotency import StillRunning
from keys.services import issue_owner_key
from plans.default_catalogue import install_default_catalogue

OWNER = "owner-key-for-tests-only-0123456789"
PASSWORD = "correct horse battery staple"
TENANTS = "/api/admin/tenants"
Provoke = Callable[[Any], Any]


def _call(
    method: str, path: str, body: Any = None, *, token: str = OWNER, form: bool = False, **more: str
) -> Any:
    headers = {"Authorization": f"Bearer {token}"} | {n.replace("_", "-"): v for n, v in more.items()}
    client = Client(raise_request_exception=False)
    if method in ("get", "delete"):
        return getattr(client, method)(path, headers=headers)
    kind = "application/x-www-form-urlencoded" if form else "application/json"
    return getattr(client, method)(path, "a=b" if form else body or {}, content_type=kind, headers=headers)


def _narrow_key() -> str:
    return issue_owner_key(name="reporting", at=now())[1]


def _key_for_tenants() -> str:
    return issue_owner_key(name="crm", at=now(), scopes=["tenants"])[1]


def narrow(method: str, path: str) -> Provoke:
    """A key for tenants at another part of the owner's API."""
    return lambda w: _call(method, path, token=_key_for_tenants())


def _common(method: str, path: str, broken: str, good: dict[str, Any] | None = None) -> dict[int, Provoke]:
    """What all addresses of tenants answer; `{t}` and `{k}` in the path are the world's customer and key."""

    def at(world: Any) -> str:
        return path.format(t=world.customer.organization.public_id, k=world.customer.issued.key.public_id)

    found: dict[int, Provoke] = {
        200: lambda w: _call(method, at(w), good),
        401: lambda w: _call(method, at(w), good, token="wrong"),
        403: lambda w: _call(method, at(w), good, token=_narrow_key()),
        503: lambda w: (w.without_database(broken), _call(method, at(w), good))[1],
    }
    if "{t}" in path:
        found[404] = lambda w: _call(method, path.format(t="org_unknown", k="key_unknown"), good)
    if method in ("post", "patch"):
        found[400] = lambda w: _call(method, at(w), {"name": "", "grace_seconds": -1})
        found[415] = lambda w: _call(method, at(w), form=True)
    return found


def _once(path: str, good: dict[str, Any], other: dict[str, Any]) -> dict[int, Provoke]:
    """What an address that takes an Idempotency-Key answers besides."""

    def at(world: Any) -> str:
        return path.format(t=world.customer.organization.public_id, k=world.customer.issued.key.public_id)

    def running(world: Any) -> Any:
        def still(*_: Any, **__: Any) -> Any:
            raise StillRunning

        world.monkeypatch.setattr("core.idempotent_api.carry_out_once", still)
        return _call("post", at(world), good, Idempotency_Key="one")

    def reused(world: Any) -> Any:
        _call("post", at(world), good, Idempotency_Key="one")
        return _call("post", at(world), other, Idempotency_Key="one")

    return {409: running, 422: reused}


def _prepared(provoke: dict[int, Provoke]) -> dict[int, Provoke]:
    """With plans on sale."""

    def after(one: Provoke) -> Provoke:
        return lambda w: (install_default_catalogue(at=now()), one(w))[1]

    return {status: after(one) for status, one in provoke.items()}


def _sign_in(**changes: Any) -> Any:
    body = {"email": "ops@farebox.example", "password": PASSWORD} | changes
    return Client(raise_request_exception=False).post(
        "/api/auth/login", body, content_type="application/json"
    )


def _staff() -> dict[str, str]:
    cache.clear()
    create_staff(email="ops@farebox.example", password=PASSWORD)
    tokens: dict[str, str] = _sign_in().json()
    return tokens


def _without(world: Any, name: str) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OperationalError("gone")

    world.monkeypatch.setattr(name, fail)


def _guesses(_: Any) -> Any:
    cache.clear()
    return [_sign_in(password="wrong") for _ in range(7)][-1]


def _refresh(token: str) -> Any:
    return _call("post", "/api/auth/refresh", {"refresh": token})


OWNER_API: dict[str, dict[int, Provoke]] = {
    "get /api/admin/tenants": _common("get", TENANTS, "billing.tenant_api.find_tenants")
    | {400: lambda w: _call("get", TENANTS + "?limit=0")},
    "post /api/admin/tenants": _prepared(
        _common("post", TENANTS, "billing.tenant_api.create_tenant", {"name": "Acme"})
        | _once(TENANTS, {"name": "Acme"}, {"name": "Other"})
    ),
    "get /api/admin/tenants/{tenant}": _common("get", TENANTS + "/{t}", "billing.tenant_api.tenants"),
    "patch /api/admin/tenants/{tenant}": _common(
        "patch", TENANTS + "/{t}", "billing.tenant_api.change_tenant", {"daily_token_limit": 5}
    )
    | {409: lambda w: _taken(w)},
    "delete /api/admin/tenants/{tenant}": _common(
        "delete", TENANTS + "/{t}", "billing.tenant_api.change_tenant"
    ),
    "get /api/admin/tenants/{tenant}/usage": _common(
        "get", TENANTS + "/{t}/usage", "billing.tenant_api.tenant_usage"
    ),
    "get /api/admin/tenants/{tenant}/keys": _common(
        "get", TENANTS + "/{t}/keys", "billing.tenant_keys_api.list_keys"
    ),
    "post /api/admin/tenants/{tenant}/keys": _common(
        "post", TENANTS + "/{t}/keys", "billing.tenant_keys_api.issue_key", {"name": "prod"}
    )
    | _once(TENANTS + "/{t}/keys", {"name": "prod"}, {"name": "other"}),
    "delete /api/admin/tenants/{tenant}/keys/{key}": _common(
        "delete", TENANTS + "/{t}/keys/{k}", "billing.tenant_keys_api.revoke_key"
    ),
    "post /api/admin/tenants/{tenant}/keys/{key}/rotate": _common(
        "post", TENANTS + "/{t}/keys/{k}/rotate", "billing.tenant_keys_api.rotate_key", {"grace_seconds": 5}
    )
    | _once(TENANTS + "/{t}/keys/{k}/rotate", {"grace_seconds": 5}, {"grace_seconds": 6}),
    "post /api/auth/login": {
        200: lambda w: (_staff(), _sign_in())[1],
        400: lambda w: _sign_in(email=""),
        401: lambda w: (cache.clear(), _sign_in())[1],
        415: lambda w: _call("post", "/api/auth/login", form=True),
        429: _guesses,
        503: lambda w: (cache.clear(), _without(w, "accounts.staff_sessions._authenticated"), _sign_in())[2],
    },
    "post /api/auth/refresh": {
        200: lambda w: _refresh(_staff()["refresh"]),
        400: lambda w: _refresh(""),
        401: lambda w: _refresh("wrong"),
        415: lambda w: _call("post", "/api/auth/refresh", form=True),
        503: lambda w: (_without(w, "accounts.auth_api.refresh_session"), _refresh("any"))[1],
    },
    "post /api/auth/logout": {
        200: lambda w: _call("post", "/api/auth/logout", token=_staff()["access"]),
        401: lambda w: Client().post("/api/auth/logout"),
        503: lambda w: (
            access := _staff()["access"],
            _without(w, "accounts.auth_api.end_session"),
            _call("post", "/api/auth/logout", token=access),
        )[2],
    },
}


def _taken(world: Any) -> Any:
    install_default_catalogue(at=now())
    _call("post", TENANTS, {"name": "Acme", "stripe_customer_id": "cus_1"})
    organization: Organization = world.customer.organization
    return _call("patch", f"{TENANTS}/{organization.public_id}", {"stripe_customer_id": "cus_1"})
