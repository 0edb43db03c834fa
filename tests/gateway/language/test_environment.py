"""Models without a server of their own: the environment's, by the family of the dialect."""

from typing import Any

import pytest

from gateway.routes import load_route_table
from plans.language_catalogue import install_language_models

pytestmark = pytest.mark.django_db


def test_the_environment_names_servers(settings: Any) -> None:
    install_language_models(upstream_url="https://llm.example/v1")
    found = load_route_table().find("POST", "/v1/messages")
    assert found is not None
    assert found.route is not None
    assert found.route.language is not None
    assert found.route.language.upstream is None

    settings.UPSTREAM_OPENAI_BASE_URL = "https://openai.example/v1/"
    settings.UPSTREAM_OPENAI_API_KEY = "sk-1"
    settings.UPSTREAM_ANTHROPIC_BASE_URL = "https://anthropic.example/v1"
    table, servers = load_route_table(), []
    for path in ("/v1/chat/completions", "/v1/messages"):
        match = table.find("POST", path)
        assert match is not None
        assert match.route is not None
        assert match.route.language is not None
        servers.append(match.route.language.upstream)
    assert [(s.base_url, s.credential) for s in servers if s is not None] == [
        ("https://openai.example/v1", ("Authorization", "Bearer sk-1")),
        ("https://anthropic.example/v1", None),
    ]
