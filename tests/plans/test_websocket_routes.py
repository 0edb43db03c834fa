"""What a route of WebSockets needs to be."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from plans.models import Aggregation, Dialect, Meter, Route, WebSocketBilling
from tests.factories import create_meter, create_product, create_route

pytestmark = pytest.mark.django_db


def route(**facts: Any) -> Route:
    route = create_route(create_product(), websocket=WebSocketBilling.MESSAGES, methods=("GET",))
    for name, value in facts.items():
        setattr(route, name, value)
    return route


def test_a_handshake_is_a_get() -> None:
    opened = route()
    opened.full_clean()
    opened.methods = ["POST"]
    with pytest.raises(ValidationError, match="opened with GET"):
        opened.full_clean()


def test_language_models_take_plain_calls() -> None:
    with pytest.raises(ValidationError, match="plain calls"):
        route(dialect=Dialect.RESPONSES).full_clean()


def test_messages_need_a_meter_of_sums_and_connections_do_not() -> None:
    create_meter("opened")
    Meter.objects.filter(slug="opened").update(aggregation=Aggregation.COUNT)
    by_message = route(meter=Meter.objects.get(slug="opened"))
    with pytest.raises(ValidationError, match="meter of sums"):
        by_message.full_clean()
    by_message.websocket = WebSocketBilling.CONNECTION
    by_message.full_clean()
