"""Shape of the forms about alerts; the rules are in metering/alerts/services.py."""

from decimal import Decimal
from typing import Any

from django import forms

from core.money import exponent
from metering.alerts.services import AlertTerms
from metering.models import Alert, AlertAction, AlertKind
from metering.models.alerts import MOST_CALLS_PER_MINUTE
from plans.models import Meter

MAIN = ""
_SHARES = (AlertKind.INCLUDED, AlertKind.QUOTA, AlertKind.CAP)
_AMOUNTS = (AlertKind.SPEND, AlertKind.CAP)


class AlertForm(forms.Form):
    kind = forms.ChoiceField(choices=AlertKind.choices, label="Watch")
    meter = forms.ChoiceField(required=False, help_text="Not for amounts and the cap.")
    threshold = forms.DecimalField(
        min_value=Decimal("0.000000001"), max_digits=24, decimal_places=9,
        help_text="Per cent, units of the meter, or an amount.",
    )  # fmt: skip
    action = forms.ChoiceField(
        choices=[
            (AlertAction.NOTIFY, "Only tell"),
            (AlertAction.THROTTLE, "Tell and throttle live keys for the rest of the period"),
            (AlertAction.BLOCK, "Tell and refuse calls with live keys for the rest of the period"),
        ],
        label="When it is reached", widget=forms.RadioSelect,
    )  # fmt: skip
    calls_per_minute = forms.IntegerField(
        required=False, min_value=1, max_value=MOST_CALLS_PER_MINUTE, help_text="What a throttle leaves."
    )
    by_mail = forms.BooleanField(required=False, label="E-mail", help_text="To members who chose it.")
    by_webhook = forms.BooleanField(
        required=False, label="Webhook", help_text="To the address on the page before."
    )
    enabled = forms.BooleanField(required=False, label="Switched on")

    def __init__(self, *args: Any, meters: list[Meter], currency: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.meters, self.currency = {meter.slug: meter for meter in meters}, currency
        choices = [(MAIN, "The plan's main meter"), *((m.slug, m.name) for m in meters)]
        self.fields["meter"].choices = choices  # type: ignore[attr-defined]
        if currency:
            self.fields["threshold"].help_text = f"Per cent, units of the meter, or an amount in {currency}."

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        says_rate = data.get("calls_per_minute") or "calls_per_minute" in self.errors
        if data.get("action") == AlertAction.THROTTLE and not says_rate:
            self.add_error("calls_per_minute", "Say how many calls a minute are left.")
        threshold, kind = data.get("threshold"), data.get("kind")
        if threshold is not None and kind in _SHARES and threshold > 10_000:
            self.add_error("threshold", "Give at most 10,000 %.")
        if threshold is not None and kind == AlertKind.SPEND and self._has_more_digits(threshold):
            self.add_error("threshold", f"{self.currency} has {exponent(self.currency)} decimals.")
        return data

    def terms(self) -> AlertTerms:
        data = self.cleaned_data
        kind = AlertKind(data["kind"])
        return AlertTerms(
            kind=kind,
            threshold=data["threshold"],
            action=AlertAction(data["action"]),
            meter=None if kind in _AMOUNTS else self.meters.get(data["meter"]),
            currency=self.currency if kind == AlertKind.SPEND else "",
            calls_per_minute=data["calls_per_minute"],
            by_mail=data["by_mail"],
            by_webhook=data["by_webhook"],
            enabled=data["enabled"],
        )

    def _has_more_digits(self, amount: Decimal) -> bool:
        return amount != round(amount, exponent(self.currency))


class WebhookForm(forms.Form):
    url = forms.CharField(
        max_length=2_000, label="Webhook address",
        help_text="Slack's incoming webhooks, or anything that reads {\"text\": \"…\"}. It is kept encrypted and not shown again.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "inputmode": "url", "placeholder": "https://"}),
    )  # fmt: skip


def initial_of(alert: Alert) -> dict[str, Any]:
    """A stored alert as the form shows it."""
    return {
        "kind": alert.kind, "meter": alert.meter.slug if alert.meter else MAIN, "threshold": f"{alert.threshold.normalize():f}",
        "action": alert.action, "calls_per_minute": alert.calls_per_minute, "by_mail": alert.by_mail,
        "by_webhook": alert.by_webhook, "enabled": alert.enabled,
    }  # fmt: skip
