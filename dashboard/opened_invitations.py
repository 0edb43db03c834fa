"""The invitation whose link this browser opened: sign-up takes the address and the organization from it."""

from django.http import HttpRequest

from accounts.models import Invitation

SESSION_KEY = "opened_invitation"
PARAMETER = "invitation"


def keep_opened_invitation(request: HttpRequest, invitation: Invitation) -> None:
    """Remember that this browser came with the link's secret."""
    request.session[SESSION_KEY] = invitation.public_id


def find_opened_invitation(request: HttpRequest) -> Invitation | None:
    """The invitation that the request names, if this browser has opened its link."""
    named = request.POST.get(PARAMETER) or request.GET.get(PARAMETER)
    if not named or named != request.session.get(SESSION_KEY):
        return None
    return Invitation.objects.select_related("organization").filter(public_id=named).first()
