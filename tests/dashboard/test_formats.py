"""Money, quantities, times and states as pages show them."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django import forms
from django.template import Context, Template
from django.utils import timezone

from dashboard.templatetags import controls, formats

MOMENT = datetime(2026, 11, 21, 13, 2, 31, tzinfo=UTC)


def render(source: str, **context: object) -> str:
    return Template("{% load formats controls %}" + source).render(Context(context))


@pytest.mark.parametrize(
    ("minor", "currency", "text"), [(4900, "USD", "$49.00"), (-350, "EUR", "-€3.50"), (1200, "JPY", "¥1,200")]
)
def test_money(minor: int, currency: str, text: str) -> None:
    assert formats.money(minor, currency) == text


@pytest.mark.parametrize(
    ("price", "currency", "text"),
    [
        ("0.0005", "USD", "$0.0005"),
        ("0.10", "USD", "$0.10"),
        ("2", "EUR", "€2.00"),
        ("1200.5", "USD", "$1,200.50"),
        ("0.25", "JPY", "¥0.25"),
        ("3", "JPY", "¥3"),
        ("0.001", "CHF", "0.001 CHF"),
    ],
)
def test_unit_price_keeps_all_its_digits(price: str, currency: str, text: str) -> None:
    assert formats.unit_price(Decimal(price), currency) == text


@pytest.mark.parametrize(
    ("micros", "text"),
    [(None, ""), (840, "840 us"), (38_400, "38 ms"), (1_249_000, "1.2 s"), (125_000_000, "2 min 5 s")],
)
def test_duration(micros: int | None, text: str) -> None:
    assert formats.duration(micros) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, ""), (512, "512 B"), (1_490, "1.4 kB"), (3_000_000, "3.0 MB"), (5 * 10**12, "5000.0 GB")],
)
def test_size(count: int | None, text: str) -> None:
    assert formats.size(count) == text


@pytest.mark.parametrize(
    ("used", "whole", "percent"),
    [(0, 0, 0), (5, 0, 100), (5, None, 100), (499, 1_000, 49), (1_200, 1_000, 100)],
)
def test_share_is_whole_and_bounded(used: int, whole: int | None, percent: int) -> None:
    assert formats.share(used, whole) == percent


def test_time_is_in_the_readers_zone_and_names_it() -> None:
    with timezone.override("Europe/Berlin"):
        html = render('{% local_time at "time" %} {% zone %}', at=MOMENT)
    assert '<time datetime="2026-11-21T13:02:31.000+00:00" data-local="time"' in html
    assert ">14:02:31</time>" in html
    assert 'title="21 November 2026, 14:02:31 CET"' in html
    assert '<span data-zone title="Europe/Berlin">Berlin</span>' in html


def test_no_time_says_never() -> None:
    assert render("{% local_time at %}", at=None) == "never"


@pytest.mark.parametrize(("status", "kind"), [(204, "good"), (302, "good"), (429, "warn"), (502, "bad")])
def test_status_pill_carries_the_number(status: int, kind: str) -> None:
    assert formats.status_pill(status) == f'<span class="pill pill-{kind}">{status}</span>'


def test_call_without_an_answer_has_a_plain_pill() -> None:
    assert formats.status_pill(None) == '<span class="pill pill-plain">none</span>'


@pytest.mark.parametrize(
    ("state", "kind", "text"),
    [("active", "good", "active"), ("past_due", "warn", "past due"), ("revoked", "bad", "revoked"), ("made_up", "plain", "made up")],
)  # fmt: skip
def test_state_pill(state: str, kind: str, text: str) -> None:
    assert formats.state_pill(state) == f'<span class="pill pill-{kind}">{text}</span>'


def test_backticks_become_code_and_the_rest_is_escaped() -> None:
    assert formats.code_spans("Send `A: <b>` or <i>") == "Send <code>A: &lt;b&gt;</code> or &lt;i&gt;"


def test_state_is_escaped() -> None:
    assert "<b>" not in formats.state_pill("active", "<b>")


class SignUp(forms.Form):
    email = forms.EmailField(
        help_text="We write there.", widget=forms.EmailInput(attrs={"placeholder": "Email address"})
    )
    password = forms.CharField(widget=forms.PasswordInput)
    plan = forms.ChoiceField(choices=[("a", "A")], widget=forms.RadioSelect)
    news = forms.BooleanField(required=False)
    after = forms.CharField(widget=forms.HiddenInput)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("email", "line"),
        ("password", "password"),
        ("plan", "choices"),
        ("news", "check"),
        ("after", "hidden"),
    ],
)
def test_control_kind(name: str, kind: str) -> None:
    assert controls.control_kind(SignUp()[name]) == kind


def test_control_is_tied_to_its_hint_and_error() -> None:
    html = controls.control(SignUp({"email": "x"})["email"])
    assert 'aria-describedby="id_email-error id_email-hint"' in html
    assert 'aria-invalid="true"' in html
    assert "placeholder" not in html


def test_field_shows_label_error_and_hint_once() -> None:
    html = render(
        '{% include "components/field.html" with field=form.email only %}', form=SignUp({"email": "x"})
    )
    assert html.count('<label for="id_email">Email') == 1
    assert html.count("Enter a valid email address.") == 1
    assert html.count("We write there.") == 1


def test_errors_are_summed_at_the_top_with_links() -> None:
    html = render(
        '{% include "components/form_errors.html" with form=form only %}', form=SignUp({"email": "x"})
    )
    assert "4 things need your attention" in html
    assert '<a href="#id_email">Email</a>: Enter a valid email address.' in html
