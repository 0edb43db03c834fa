"""API keys: list, issue, rotate, revoke. A key's clear text is in the answer of the POST that made it, nowhere else."""

from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import Role
from core.clock import now
from core.errors import PortalError
from dashboard.access import MemberRequest, member_page
from dashboard.form_limits import limit_posts
from dashboard.forms.keys import KeyForm, RotateForm
from dashboard.snippets import first_call_snippets
from keys.models import ApiKey
from keys.queries import list_keys, scope_choices
from keys.services import IssuedKey, issue_key, revoke_key, rotate_key

MAKERS = (Role.OWNER, Role.ADMIN, Role.DEVELOPER)
PILLS = {"active": "good", "rotating": "warn", "expired": "plain", "revoked": "bad"}


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as the list shows it."""

    key: ApiKey
    state: str
    pill: str
    scopes: list[str]
    error: str = ""

    @property
    def is_open(self) -> bool:
        """Whether the question about revoking is shown again, with what was wrong."""
        return bool(self.error)


SHOWN = {"all": "All keys", "active": "Active", "ended": "Ended"}
ENDED = ("expired", "revoked")


@require_safe
@member_page()
def key_list(request: MemberRequest) -> HttpResponse:
    return render(request, "dashboard/key_list.html", _list_context(request))


@never_cache
@require_http_methods(["GET", "POST"])
@limit_posts("30/h")
@member_page(*MAKERS)
def key_create(request: MemberRequest) -> HttpResponse:
    form = KeyForm(request.POST or None, live_allowed=_live_allowed(request))
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        try:
            issued = issue_key(
                organization=request.organization,
                name=data["name"],
                mode=data["mode"],
                by=request.user,
                at=now(),
                scopes=data["scopes"],
                expires_at=data["expires_on"],
                calls_per_minute=data["calls_per_minute"],
            )
        except PortalError as error:
            form.add_error(None, error.detail)
        else:
            return _shown_once(request, issued, "Your new key")
    context = {"form": form, "nav": "keys", "live_allowed": _live_allowed(request)}
    return render(request, "dashboard/key_create.html", context, status=422 if form.errors else 200)


@never_cache
@require_http_methods(["GET", "POST"])
@limit_posts("30/h")
@member_page(*MAKERS)
def key_rotate(request: MemberRequest, public_id: str) -> HttpResponse:
    key = _key(request, public_id)
    form = RotateForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            issued = rotate_key(key=key, grace=form.cleaned_data["grace"], by=request.user, at=now())
        except PortalError as error:
            form.add_error(None, error.detail)
        else:
            return _shown_once(request, issued, f"The new key of {key.name}")
    context = {"form": form, "key": key, "nav": "keys"}
    return render(request, "dashboard/key_rotate.html", context, status=422 if form.errors else 200)


@require_POST
@member_page(*MAKERS)
def key_revoke(request: MemberRequest, public_id: str) -> HttpResponse:
    key = _key(request, public_id)
    if request.POST.get("confirm", "").strip() != key.name:
        context = _list_context(request, wrong_name=public_id)
        return render(request, "dashboard/key_list.html", context, status=422)
    revoke_key(key=key, by=request.user, at=now())
    messages.success(request, f"{key.name} is revoked. Its next call is refused.")
    return redirect("dashboard:key-list")


def _key(request: MemberRequest, public_id: str) -> ApiKey:
    return ApiKey.objects.for_organization(request.organization).get_or_404(public_id=public_id)


def _live_allowed(request: MemberRequest) -> bool:
    """Live keys wait for a confirmed address: an invoice has to reach somebody."""
    return request.user.emailaddress_set.filter(verified=True).exists()


def _shown_once(request: MemberRequest, issued: IssuedKey, title: str) -> HttpResponse:
    context = {
        "issued": issued,
        "title": title,
        "nav": "keys",
        "snippets": first_call_snippets(issued.clear),
    }
    return render(request, "dashboard/key_issued.html", context)


def _list_context(request: MemberRequest, *, wrong_name: str = "") -> dict[str, object]:
    at, labels = now(), {choice.value: choice.label for choice in scope_choices()}
    rows = []
    for key in list_keys(request.organization):
        state, error = key.state(at), "That is not the key's name." if key.public_id == wrong_name else ""
        rows.append(
            KeyRow(key, state, PILLS[state], [labels.get(scope, scope) for scope in key.scopes], error)
        )
    shown = request.GET.get("show", "all") if request.GET.get("show") in SHOWN else "all"
    return {
        "rows": [row for row in rows if shown == "all" or (row.state in ENDED) == (shown == "ended")],
        "has_keys": bool(rows),
        "shown": SHOWN[shown],
        "menu": [(label, f"?show={name}", name == shown) for name, label in SHOWN.items()],
        "nav": "keys",
        "can_make": request.membership.role in MAKERS,
    }
