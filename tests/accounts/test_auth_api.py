"""Staff sign in at the JSON API: tokens, their ends, and what strangers learn."""

from datetime import timedelta
from typing import Any

import jwt
import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.core.cache import cache
from django.http import HttpResponse
from django.test import Client

from accounts.models import AuditEvent, StaffSession, User
from accounts.over_sessions import forget_sessions
from accounts.services import create_person, create_staff
from accounts.tokens import ACCESS, REFRESH, BadToken, Claims, read_token, sign_token
from core.clock import now
from tests.metering.api_kit import problem

PASSWORD = "correct horse battery staple"
OPENED = "/api/admin/tenants"
SECRET = "JBSWY3DPEHPK3PXP"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_limits() -> None:
    cache.clear()


@pytest.fixture
def staff() -> User:
    return create_staff(email="ops@farebox.example", password=PASSWORD)


def post(path: str, body: Any = None, *, token: str = "", **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Client(raise_request_exception=False).post(
        f"/api/auth/{path}", body, content_type="application/json", headers=headers, **more
    )


def sign_in(**changes: str) -> Any:
    return post("login", {"email": "ops@farebox.example", "password": PASSWORD} | changes)


def look(token: str) -> HttpResponse:
    answer: Any = Client().get(OPENED, headers={"Authorization": f"Bearer {token}"})
    return answer  # type: ignore[no-any-return]


def test_staff_get_tokens_that_open_the_owners_api(staff: User) -> None:
    answer = sign_in()
    assert answer.status_code == 200
    tokens = answer.json()
    assert look(tokens["access"]).status_code == 200
    session = StaffSession.objects.get()
    assert session.expires_at.isoformat() == tokens["refresh_expires_at"]
    assert session.expires_at - session.created_at == timedelta(hours=12)
    (event,) = AuditEvent.objects.filter(action="staff.signed_in")
    assert (event.by, event.target) == (staff, session.public_id)
    claims = jwt.decode(tokens["access"], options={"verify_signature": False})
    assert set(claims) == {"iss", "aud", "sub", "use", "n", "iat", "exp"}  # nothing of the person
    assert claims["exp"] - claims["iat"] == 600


def test_unknown_wrong_and_not_staff_are_told_the_same(staff: User) -> None:
    create_person(email="alice@northwind.example", password=PASSWORD, is_confirmed=True)
    answers = [
        sign_in(email="nobody@farebox.example"),
        sign_in(password="wrong"),
        sign_in(email="alice@northwind.example"),
    ]
    told = [problem(answer, 401, "wrong_credentials") for answer in answers]
    assert len({str({**one, "request_id": ""}) for one in told}) == 1
    assert {answer["WWW-Authenticate"] for answer in answers} == {'Bearer realm="farebox"'}
    assert not StaffSession.objects.exists()
    staff.is_active = False
    staff.save()
    problem(sign_in(), 401, "wrong_credentials")


def test_failures_are_limited_with_those_of_the_portal(staff: User) -> None:
    for _ in range(3):
        problem(sign_in(password="wrong"), 401, "wrong_credentials")
    for _ in range(2):
        Client().post("/accounts/login/", {"login": "ops@farebox.example", "password": "wrong"})
    refused = sign_in()
    problem(refused, 429, "too_many_sign_ins")
    assert int(refused["Retry-After"]) > 0


def test_a_customers_right_password_counts_as_a_failure(staff: User) -> None:
    create_person(email="alice@northwind.example", password=PASSWORD, is_confirmed=True)
    statuses = [sign_in(email="alice@northwind.example").status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]


def test_a_refresh_token_is_good_once_and_ends_the_session_when_used_twice(staff: User) -> None:
    first = sign_in().json()
    second = post("refresh", {"refresh": first["refresh"]}).json()
    assert second["refresh_expires_at"] == first["refresh_expires_at"]
    assert look(second["access"]).status_code == 200
    problem(post("refresh", {"refresh": first["refresh"]}), 401, "invalid_token")
    problem(look(second["access"]), 401, "invalid_token")
    problem(post("refresh", {"refresh": second["refresh"]}), 401, "invalid_token")
    assert AuditEvent.objects.filter(action="staff.refresh_reused").count() == 1


def test_tokens_are_for_one_use_only(staff: User) -> None:
    tokens = sign_in().json()
    problem(look(tokens["refresh"]), 401, "invalid_token")
    problem(post("refresh", {"refresh": tokens["access"]}), 401, "invalid_token")


def test_signing_out_ends_the_session(staff: User) -> None:
    tokens, other = sign_in().json(), sign_in().json()
    assert post("logout", token=tokens["access"]).json() == {"status": "signed_out"}
    problem(look(tokens["access"]), 401, "invalid_token")
    problem(post("refresh", {"refresh": tokens["refresh"]}), 401, "invalid_token")
    problem(post("logout", token=tokens["access"]), 401, "invalid_token")
    assert look(other["access"]).status_code == 200
    assert post("logout").status_code == 401


@pytest.mark.parametrize("change", ["password", "is_staff", "is_active"])
def test_a_new_password_or_a_lost_flag_ends_every_session(staff: User, change: str) -> None:
    tokens = sign_in().json()
    if change == "password":
        staff.set_password("another one that is long")
    else:
        setattr(staff, change, False)
    staff.save()
    problem(look(tokens["access"]), 401, "invalid_token")
    problem(post("refresh", {"refresh": tokens["refresh"]}), 401, "invalid_token")


def test_the_session_is_over_when_its_hours_are(staff: User, settings: Any) -> None:
    settings.JWT_SESSION = timedelta(seconds=0)
    tokens = sign_in().json()
    problem(look(tokens["access"]), 401, "invalid_token")
    problem(post("refresh", {"refresh": tokens["refresh"]}), 401, "invalid_token")


@pytest.mark.parametrize(
    "body", [{}, {"email": "a@b.c"}, {"email": 1, "password": ["x"]}, {"email": "a\x00", "password": "b"}, []]
)
def test_a_body_of_another_shape_is_named(body: Any) -> None:
    answer = post("login", body)
    assert answer.status_code == 400
    assert answer.json()["code"] in ("validation_error", "parse_error")


def test_an_authenticator_app_is_asked_for_its_code(staff: User) -> None:
    TOTP.activate(staff, SECRET)
    stored = Authenticator.objects.get(user=staff)
    assert SECRET not in str(stored.data)  # encrypted at rest
    problem(sign_in(), 401, "code_needed")
    problem(sign_in(code="000000"), 401, "wrong_credentials")
    code = format_hotp_value(hotp_value(SECRET, next(iter(yield_hotp_counters_from_time()))))
    assert sign_in(code=code).status_code == 200
    problem(sign_in(code=code), 401, "wrong_credentials")  # good once


def test_guesses_of_a_code_are_limited(staff: User) -> None:
    TOTP.activate(staff, SECRET)
    statuses = [sign_in(code=f"{guess:06}").status_code for guess in range(6)]
    assert statuses[0] == 401
    assert statuses[-1] == 429


def test_keys_are_rotated(settings: Any) -> None:
    at = now()

    def made() -> str:
        return sign_token(Claims("ses_1", ACCESS, 0), at=at, until=at + timedelta(minutes=1))

    settings.JWT_KEYS = ["old"]
    old = made()
    settings.JWT_KEYS = ["new", "old"]
    new = made()
    assert jwt.get_unverified_header(old)["kid"] != jwt.get_unverified_header(new)["kid"]
    assert read_token(old, use=ACCESS, at=at) == Claims("ses_1", ACCESS, 0)
    settings.JWT_KEYS = ["new"]
    assert read_token(new, use=ACCESS, at=at).session == "ses_1"
    with pytest.raises(BadToken):
        read_token(old, use=ACCESS, at=at)


def test_forged_tokens_are_refused() -> None:
    at = now()
    good = sign_token(Claims("ses_1", ACCESS, 0), at=at, until=at + timedelta(minutes=1))
    header, payload, signature = good.split(".")
    claims = jwt.decode(good, options={"verify_signature": False})
    name = {"kid": jwt.get_unverified_header(good)["kid"]}
    unsigned = jwt.encode(claims, "", algorithm="none", headers=name)
    other_key = jwt.encode(claims, "x" * 32, algorithm="HS256", headers=name)
    for bad in (
        unsigned,
        other_key,
        f"{header}.{payload}.",
        f"{header}.{payload}.{signature[:-2]}",
        "eyJ.a.b",
        "",
        "a.b.c",
        "é.é.é",
    ):
        with pytest.raises(BadToken):
            read_token(bad, use=ACCESS, at=at)
    for use, moment in ((REFRESH, at), (ACCESS, at + timedelta(minutes=1))):
        with pytest.raises(BadToken):
            read_token(good, use=use, at=moment)


def test_secrets_do_not_show(staff: User) -> None:
    tokens = sign_in().json()
    stored = str(StaffSession.objects.values().get())
    assert tokens["access"] not in stored
    assert tokens["refresh"] not in stored
    assert staff.password not in stored


def test_a_token_costs_one_query(staff: User, django_assert_num_queries: Any) -> None:
    access = sign_in().json()["access"]
    with django_assert_num_queries(2):  # the session, and the (empty) page of tenants
        look(access)


def test_sessions_that_are_over_are_forgotten_and_the_audit_log_keeps_them(staff: User) -> None:
    sign_in()
    session = StaffSession.objects.get()
    assert forget_sessions(at=session.expires_at - timedelta(seconds=1)) == 0
    assert forget_sessions(at=session.expires_at) == 1
    assert not StaffSession.objects.exists()
    assert AuditEvent.objects.filter(action="staff.signed_in", target=session.public_id).exists()
