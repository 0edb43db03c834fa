"""Answers kept for requests that may be sent again. No domain words: who called is a text of the caller's making."""

from django.db import models

from core.crypto import EncryptedTextField


class KeptAnswer(models.Model):
    """What a request with an `Idempotency-Key` was answered. Encrypted: it may hold a new key's clear text."""

    caller = models.CharField(max_length=80)
    key = models.CharField(max_length=200)
    fingerprint = models.BinaryField(max_length=32, help_text="SHA-256 of method, path and body.")
    body = EncryptedTextField()
    at = models.DateTimeField()
    kept_until = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint("caller", "key", name="kept_answer_once")]

    def __str__(self) -> str:
        return f"{self.caller} {self.key}"
