"""Products cannot take the names under which the gateway has addresses of its own."""

import pytest
from django.core.exceptions import ValidationError

from plans.models import Product


@pytest.mark.django_db
def test_a_product_cannot_hide_behind_the_gateways_own_addresses() -> None:
    product = Product(slug="api", name="API", upstream_url="http://127.0.0.1:9")
    with pytest.raises(ValidationError) as caught:
        product.full_clean()
    assert set(caught.value.message_dict) == {"slug"}
    product.slug = "apis"
    product.full_clean()
