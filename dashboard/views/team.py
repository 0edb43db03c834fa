"""The team: members, roles, invitations, ownership."""

from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.current import choose_organization
from accounts.models import Invitation, Membership, Role
from accounts.permissions import MANAGERS
from accounts.queries import find_invitation, list_members, list_pending_invitations
from accounts.services import (
    accept_invitation,
    change_role,
    has_address,
    invite_member,
    remove_member,
    revoke_invitation,
    transfer_ownership,
)
from core.clock import now
from core.errors import NotFound, PortalError
from dashboard.access import MemberRequest, member_page
from dashboard.form_limits import limit_posts
from dashboard.forms.team import InvitationForm, RoleForm
from dashboard.opened_invitations import keep_opened_invitation
from dashboard.reauthentication import recently_proven


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member as the list shows it to this reader."""

    membership: Membership
    role: str
    is_reader: bool
    form: RoleForm | None
    can_remove: bool


@require_safe
@member_page()
def team(request: MemberRequest) -> HttpResponse:
    return render(request, "dashboard/team.html", _context(request))


@require_POST
@limit_posts("30/h")
@member_page(*MANAGERS)
def invitation_create(request: MemberRequest) -> HttpResponse:
    form = InvitationForm(request.POST, may_own=_is_owner(request))
    if form.is_valid():
        data = form.cleaned_data
        try:
            invite_member(
                organization=request.organization, email=data["email"], role=data["role"], by=request.user, at=now()
            )  # fmt: skip
        except PortalError as refused:
            form.add_error(refused.field if refused.field in form.fields else None, refused.detail)
        else:
            messages.success(request, f"We sent an invitation to {data['email']}.")
            return redirect("dashboard:team")
    return render(request, "dashboard/team.html", _context(request, form=form), status=422)


@require_POST
@member_page(*MANAGERS)
def invitation_revoke(request: MemberRequest, public_id: str) -> HttpResponse:
    invitations = Invitation.objects.for_organization(request.organization)
    invitation = invitations.select_related("organization").get_or_404(public_id=public_id)
    revoke_invitation(invitation=invitation, by=request.user, at=now())
    messages.success(request, f"The invitation of {invitation.email} no longer works.")
    return redirect("dashboard:team")


@require_http_methods(["GET", "POST"])
@member_page(*MANAGERS)
@recently_proven
def member_role(request: MemberRequest, public_id: str) -> HttpResponse:
    membership = _member(request, public_id)
    form = RoleForm(request.POST or None, may_own=_is_owner(request))
    if request.method == "POST" and form.is_valid():
        change_role(membership=membership, role=form.cleaned_data["role"], by=request.user, at=now())
        messages.success(
            request, f"{membership.user} is {Role(form.cleaned_data['role']).label.lower()} now."
        )
    elif request.method == "POST":
        messages.error(request, "There is no such role.")
    return redirect("dashboard:team")


@require_http_methods(["GET", "POST"])
@member_page()
@recently_proven
def member_remove(request: MemberRequest, public_id: str) -> HttpResponse:
    membership = _member(request, public_id)
    if request.method == "POST":
        remove_member(membership=membership, by=request.user, at=now())
        if membership.user_id == request.user.pk:
            messages.success(request, f"You have left {request.organization}.")
            return redirect("dashboard:landing")
        messages.success(request, f"{membership.user} is out. Keys that they made go on working.")
    return redirect("dashboard:team")


@require_http_methods(["GET", "POST"])
@member_page(Role.OWNER)
@recently_proven
def ownership_transfer(request: MemberRequest) -> HttpResponse:
    if request.method == "POST":
        to = _member(request, request.POST.get("member", ""))
        transfer_ownership(to=to, by=request.user, at=now())
        messages.success(request, f"{to.user} owns {request.organization} now. You are admin.")
    return redirect("dashboard:team")


@never_cache
@require_http_methods(["GET", "POST"])
@limit_posts("30/h")
def invitation_accept(request: HttpRequest, token: str) -> HttpResponse:
    """The link of the mail: join with the account that is signed in, or sign in, or sign up."""
    invitation = find_invitation(token)
    if invitation is None:
        raise NotFound
    user = request.user if request.user.is_authenticated else None
    if request.method == "POST" and user is not None:
        membership = accept_invitation(invitation=invitation, user=user, at=now())
        choose_organization(request, public_id=membership.organization.public_id)
        messages.success(request, f"Welcome to {membership.organization}.")
        return redirect("dashboard:usage")
    keep_opened_invitation(request, invitation)
    is_open = invitation.is_open(now())
    context = {
        "invitation": invitation,
        "role": Role(invitation.role).label.lower(),
        "is_open": is_open,
        "is_addressee": user is not None and has_address(user, invitation.email),
    }
    return render(request, "dashboard/team_invitation.html", context, status=200 if is_open else 410)


def _member(request: MemberRequest, public_id: str) -> Membership:
    members = Membership.objects.for_organization(request.organization).select_related("organization", "user")
    return members.get_or_404(public_id=public_id)


def _is_owner(request: MemberRequest) -> bool:
    return request.membership.role == Role.OWNER


def _context(request: MemberRequest, *, form: InvitationForm | None = None) -> dict[str, object]:
    can_manage, may_own = request.membership.role in MANAGERS, _is_owner(request)
    members = list_members(request.organization)
    others = [member for member in members if member.role != Role.OWNER]
    last_owner = len(members) - len(others) == 1
    return {
        "nav": "team",
        "rows": [
            _row(member, request, is_fixed=last_owner and member.role == Role.OWNER) for member in members
        ],
        "invitations": list_pending_invitations(request.organization),
        "can_manage": can_manage,
        "form": form or InvitationForm(may_own=may_own),
        "heirs": others if may_own else [],
        "at": now(),
    }


def _row(member: Membership, request: MemberRequest, *, is_fixed: bool) -> MemberRow:
    """`is_fixed`: the last owner neither leaves nor steps back."""
    may_own, is_reader = _is_owner(request), member.user_id == request.user.pk
    may_touch = (
        request.membership.role in MANAGERS and (may_own or member.role != Role.OWNER) and not is_fixed
    )
    form = RoleForm(may_own=may_own, initial={"role": member.role}, auto_id=f"{member.public_id}-%s")
    role = Role(member.role).label
    return MemberRow(
        member, role, is_reader, form if may_touch else None, may_touch or (is_reader and not is_fixed)
    )
