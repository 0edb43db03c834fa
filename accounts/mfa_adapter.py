"""Where allauth's second factor meets Farebox: secrets of authenticator apps are encrypted at rest, and their picture has a
white ground, so that it can be scanned from a dark page."""

from io import BytesIO

import qrcode
from allauth.mfa.adapter import DefaultMFAAdapter
from qrcode.image.svg import SvgPathFillImage

from core.crypto import decrypt, encrypt


class MFAAdapter(DefaultMFAAdapter):
    def encrypt(self, text: str) -> str:
        return encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        return decrypt(encrypted_text)

    def build_totp_svg(self, url: str) -> str:
        drawn = BytesIO()
        qrcode.make(url, image_factory=SvgPathFillImage).save(drawn)  # type: ignore[attr-defined,no-untyped-call]
        return drawn.getvalue().decode()
