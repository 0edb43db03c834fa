import pytest
from cryptography.fernet import Fernet, InvalidToken
from django.db import connection

from core.crypto import decrypt, encrypt
from plans.models import Product
from tests.factories import create_product


def test_what_is_encrypted_can_be_read_again() -> None:
    token = encrypt("Bearer secret")
    assert "secret" not in token
    assert decrypt(token) == "Bearer secret"


def test_the_empty_text_stays_empty() -> None:
    assert (encrypt(""), decrypt("")) == ("", "")


def test_an_old_key_still_reads_and_a_removed_one_does_not(settings) -> None:  # type: ignore[no-untyped-def]
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.ENCRYPTION_KEYS = [old]
    token = encrypt("upstream")
    settings.ENCRYPTION_KEYS = [new, old]
    assert decrypt(token) == "upstream"
    settings.ENCRYPTION_KEYS = [new]
    with pytest.raises(InvalidToken):
        decrypt(token)


@pytest.mark.django_db
def test_a_credential_is_not_stored_in_clear() -> None:
    product = create_product(credential_header="Authorization", credential="Bearer upstream-secret")
    with connection.cursor() as cursor:
        cursor.execute("SELECT credential FROM plans_product WHERE id = %s", [product.pk])
        (stored,) = cursor.fetchone()
    assert "upstream-secret" not in stored
    assert Product.objects.get(pk=product.pk).credential == "Bearer upstream-secret"
