"""The look holds its own promises: tokens, contrast, no inline style or script, mails that read well."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.template.loader import get_template, render_to_string

BASE = Path(settings.BASE_DIR)
TOKENS = (BASE / "static/css/variables.css").read_text()
PAGES = [
    path
    for path in (BASE / "templates").rglob("*.html")
    if "emails" not in path.parts and path.parent.name != "email"
]
PAIRS = [
    *(("ink", ground) for ground in ("bg", "panel", "accent-soft")),
    *(("dim", ground) for ground in ("bg", "panel")),
    *(("accent", ground) for ground in ("bg", "panel", "accent-soft")),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("warn", "warn-soft"),
    ("bad", "bad-soft"),
    ("bad", "panel"),
    ("on-bad", "bad"),
]


def block(pattern: str) -> dict[str, str]:
    found = re.search(pattern + r"\s*\{(.*?)\}", TOKENS, re.S | re.M)
    assert found, pattern
    return dict(re.findall(r"--([\w-]+):\s*([^;]+);", found[1]))


LIGHT = block(r"^:root")
DARK = block(r':root\[data-theme="dark"\]')


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_text_has_contrast(theme: dict[str, str], text: str, ground: str) -> None:
    assert contrast(theme[text], theme[ground]) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_edges_of_controls_can_be_seen(theme: dict[str, str]) -> None:
    assert contrast(theme["line-strong"], theme["panel"]) >= 3


def test_chosen_dark_and_the_systems_dark_are_the_same() -> None:
    assert block(r':root:not\(\[data-theme="light"\]\)') == DARK


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(BASE / "templates")))
def test_page_has_no_inline_style_or_script(path: Path) -> None:
    source = path.read_text()
    assert not re.search(r"\sstyle\s*=", source)
    assert not re.search(r"<style|\son[a-z]+\s*=|hx-on|javascript:", source)
    assert all("src=" in tag for tag in re.findall(r"<script\b[^>]*>", source))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(BASE / "templates")))
def test_template_compiles(path: Path) -> None:
    assert get_template(str(path.relative_to(BASE / "templates")))


def test_every_named_asset_exists() -> None:
    named = {name for path in PAGES for name in re.findall(r"{% static '([^']+)' %}", path.read_text())}
    assert named
    assert [name for name in sorted(named) if not (BASE / "static" / name).is_file()] == []


def test_comments_of_templates_stay_on_one_line() -> None:
    # Django shows a {# #} that spans lines to the reader.
    assert [
        path.name
        for path in PAGES
        for line in path.read_text().splitlines()
        if "{#" in line and "#}" not in line
    ] == []


MAIL_FACTS = {
    "brand_name": "Kite & Co",
    "portal_url": "https://portal.example",
    "organization": SimpleNamespace(name="Smith & Sons", public_id="org_1"),
    "user": SimpleNamespace(email="alice@example.com"),
    "invited_by": SimpleNamespace(email="alice@example.com"),
    "role": "developer",
    "plan_name": "Starter",
    "trial_days": 14,
    "accept_url": "https://portal.example/i/abc",
    "customer_url": "https://portal.example/admin/1",
}


@pytest.mark.parametrize("name", ["welcome", "invitation", "signup_notice"])
def test_mail_names_the_customer_in_text_and_html(name: str) -> None:
    subject = render_to_string(f"emails/{name}-subject.txt", MAIL_FACTS).strip()
    text = render_to_string(f"emails/{name}-body.txt", MAIL_FACTS)
    html = render_to_string(f"emails/{name}-body.html", MAIL_FACTS)
    assert "\n" not in subject
    assert "&amp;" not in subject + text
    assert "Smith & Sons" in text
    assert "Smith &amp; Sons" in html
    assert '<html lang="en">' in html


@pytest.mark.parametrize("name", ["email_confirmation", "password_reset_key", "account_already_exists"])
def test_account_mail_holds_its_link_unescaped(name: str) -> None:
    link = "https://portal.example/a?b=1&c=2"
    facts = {"email": "alice@example.com", "activate_url": link, "password_reset_url": link}
    text = render_to_string(f"account/email/{name}_message.txt", facts)
    html = render_to_string(f"account/email/{name}_message.html", facts)
    assert link in text
    assert link.replace("&", "&amp;") in html
