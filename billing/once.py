"""A form that is sent twice acts once: its one-time number stays in the audit entry of what it did.

Asked under the lock of the customer's billing account, under which the act writes that entry: two requests at the same moment
are one after the other.
"""

from accounts.models import AuditEvent, Organization
from core.errors import PortalError


class SentBefore(PortalError):
    code, status, title = "sent_before", 409, "This was done already"


def check_once(organization: Organization, action: str, once: str) -> dict[str, object]:
    """What the audit entry of the act has to keep; nothing for acts without a number. Raises SentBefore."""
    if not once:
        return {}
    entries = AuditEvent.objects.for_organization(organization).filter(action=action, details__once=once)
    if entries.exists():
        raise SentBefore(
            "This form was sent before, and what it says was done once. To do it again, load the page again."
        )
    return {"once": once}
