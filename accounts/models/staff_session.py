from typing import Any, ClassVar

from django.db import models

from accounts.models.user import User
from core.ids import public_id


def staff_session_public_id() -> str:
    return public_id("ses")


class StaffSession(models.Model):
    """A sign-in of staff at the JSON API. It ends at sign-out, at `expires_at`, with a new password (`stamp`), or when
    a refresh token is used twice: `serial` counts the refreshes, and only the newest token is good."""

    public_id = models.CharField(max_length=40, unique=True, default=staff_session_public_id, editable=False)
    user = models.ForeignKey(User, models.PROTECT, related_name="+")
    stamp = models.CharField(max_length=128, help_text="Of the password at sign-in, not the password's hash.")
    serial = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[models.Manager[Any]] = models.Manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        indexes = [models.Index(fields=["expires_at"], name="staff_session_expiry")]

    def __str__(self) -> str:
        return f"{self.user} {self.public_id}"
