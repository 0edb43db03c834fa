"""Sessions of staff whose time is over. Apart from the acts of sessions, because mails and their tasks stand below those."""

from datetime import datetime

from accounts.models import StaffSession


def forget_sessions(*, at: datetime) -> int:
    """Delete sessions whose time is over, ended by their people or not; how many. The audit log keeps who signed in."""
    deleted, _ = StaffSession.objects.filter(expires_at__lte=at).delete()
    return deleted
