"""Where allauth's second factor meets Farebox: secrets of authenticator apps are encrypted at rest."""

from allauth.mfa.adapter import DefaultMFAAdapter

from core.crypto import decrypt, encrypt


class MFAAdapter(DefaultMFAAdapter):
    def encrypt(self, text: str) -> str:
        return encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        return decrypt(encrypted_text)
