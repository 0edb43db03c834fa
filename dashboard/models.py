"""What the portal keeps for itself."""

from django.db import models


class StoredMail(models.Model):
    """A mail of a development installation (dashboard/mailbox.py); the newest 500 are kept."""

    sent_at = models.DateTimeField()
    to = models.CharField(max_length=1000)
    subject = models.CharField(max_length=300)
    text = models.TextField()
    html = models.TextField(blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.subject} to {self.to}"
