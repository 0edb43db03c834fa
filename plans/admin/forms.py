"""Forms of drafts: amounts in the major unit, tiers and texts one a line, so that they work without scripts."""

import re
from decimal import Decimal
from typing import Any

from django import forms

from accounts.models import Organization
from core.currencies import CURRENCIES
from core.money import exponent, format_money, to_major
from plans.models import PlanVersion, PriceComponent, PriceTier, Subscription, VersionState

_TIER = re.compile(r"(?P<end>[\d,_.]+|above)\s*:\s*(?P<unit>\d*\.?\d+)(?:\s*\+\s*(?P<flat>\d*\.?\d+))?")
_TIERS_HELP = (
    "Graduated and volume prices, one tier a line: up to : price per unit, and + what is charged once when it is reached. "
    "The last line starts with above. Example: 10000: 0 / 100000: 0.001 / above: 0.0008 + 5"
)


class LinesField(forms.CharField):
    """A list of texts, one a line."""

    widget = forms.Textarea(attrs={"rows": 4, "cols": 34})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in (super().to_python(value) or "").splitlines() if line.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(data) != list(initial or []))


class VersionForm(forms.ModelForm[PlanVersion]):
    """Fee and minimum as people write them: 49.00."""

    fee = forms.DecimalField(
        min_value=0,
        max_digits=16,
        decimal_places=3,
        initial=0,
        help_text="Per interval, in the currency's major unit.",
    )
    minimum = forms.DecimalField(
        min_value=0, max_digits=16, decimal_places=3, initial=0, required=False, label="Minimum spend",
        help_text="Per usage month; what is missing is charged as a true-up.",
    )  # fmt: skip
    features = LinesField(required=False, help_text="Entitlements that routes ask for, one a line.")
    texts = LinesField(required=False, help_text="Lines on the pricing page.")

    class Meta:
        model = PlanVersion
        fields = (
            "plan", "currency", "interval", "fee", "minimum", "over_cap", "trial_days", "concurrency", "features", "texts",
        )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        version = self.instance
        for name in ("fee", "minimum"):
            amount = to_major(getattr(version, f"{name}_minor"), version.currency)
            self.initial.setdefault(name, f"{amount:.{exponent(version.currency)}f}")

    def clean_currency(self) -> str:
        currency = str(self.cleaned_data["currency"]).upper()
        if currency not in CURRENCIES:
            raise forms.ValidationError("This is not a currency of ISO 4217.")
        return currency

    def clean(self) -> dict[str, Any]:
        """Amounts in whole minor units of the currency."""
        cleaned = super().clean() or self.cleaned_data
        currency = cleaned.get("currency")
        for name in ("fee", "minimum"):
            amount = cleaned.get(name) or Decimal(0)
            scaled = amount.scaleb(exponent(currency or ""))
            if currency and scaled != scaled.to_integral_value():
                self.add_error(name, f"{currency} has {exponent(currency)} decimals.")
            else:
                setattr(self.instance, f"{name}_minor", int(scaled))
        return cleaned


class ComponentForm(forms.ModelForm[PriceComponent]):
    """A price with its tiers in one field."""

    tiers = forms.CharField(
        required=False,
        help_text=_TIERS_HELP,
        widget=forms.Textarea(attrs={"rows": 4, "cols": 40, "spellcheck": "false"}),
    )

    class Meta:
        model = PriceComponent
        exclude = ("version",)
        labels = {"maximum_minor": "Maximum of the line"}
        widgets = {"match": forms.Textarea(attrs={"rows": 1, "cols": 40, "spellcheck": "false"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, value in self.initial.items():
            if isinstance(value, Decimal):  # 50000, not 50000.000000000 or 0E-9
                self.initial[name] = Decimal(_plain(value))
        if self.instance.pk:
            self.initial["tiers"] = tiers_as_text(self.instance)

    def clean_match(self) -> dict[str, str]:
        match = self.cleaned_data["match"]
        if match is not None and not isinstance(match, dict):
            raise forms.ValidationError('Names and values, like {"region": "eu"}.')
        return match or {}

    def clean_tiers(self) -> list[PriceTier]:
        lines = [line.strip() for line in self.cleaned_data["tiers"].splitlines() if line.strip()]
        return [_tier(line) for line in lines]

    def save(self, commit: Any = True) -> PriceComponent:
        component = super().save(commit)
        if commit and "tiers" in self.changed_data:
            component.tiers.all().delete()
            for tier in self.cleaned_data["tiers"]:
                tier.component = component
                tier.save()
        return component


def tiers_as_text(component: PriceComponent) -> str:
    """The tiers as `ComponentForm` reads them."""
    rows = sorted(component.tiers.all(), key=lambda t: (t.up_to is None, t.up_to or 0))
    return "\n".join(
        f"{'above' if t.up_to is None else _plain(t.up_to)}: {_plain(t.unit_price)}"
        + (f" + {_plain(t.flat_price)}" if t.flat_price else "")
        for t in rows
    )


def _tier(line: str) -> PriceTier:
    found = _TIER.fullmatch(line)
    if found is None:
        raise forms.ValidationError(
            f"Not a tier: {line!r}. Write it like 10000: 0.001 + 5, the last like above: 0.0008."
        )
    end = found["end"].replace(",", "").replace("_", "")
    tier = PriceTier(
        up_to=None if end == "above" else Decimal(end),
        unit_price=Decimal(found["unit"]),
        flat_price=Decimal(found["flat"] or 0),
    )
    tier.clean_fields(exclude=["component"])
    return tier


def _plain(value: Decimal) -> str:
    return f"{value.normalize() if value else Decimal(0):f}"


class ScheduleForm(forms.Form):
    publish_at = forms.DateTimeField(
        label="Moment", widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
    )


class CustomerForm(forms.Form):
    """Customers can be many: named by their public id."""

    organization = forms.CharField(
        label="Customer", help_text="Public id, as the list of organizations shows it: org_…", max_length=60
    )

    def clean_organization(self) -> Organization:
        organization = Organization.objects.filter(
            public_id=self.cleaned_data["organization"].strip()
        ).first()
        if organization is None:
            raise forms.ValidationError("There is no customer with this id.")
        return organization


class PriceListField(forms.ModelChoiceField[PlanVersion]):
    """Versions with what tells them apart."""

    def label_from_instance(self, obj: PlanVersion) -> str:
        fee = format_money(obj.fee_minor, obj.currency)
        return f"{obj}: {fee} ({obj.currency}) a {obj.interval}"


class MoveForm(forms.Form):
    to_version = PriceListField(PlanVersion.objects.none(), label="To the price list")

    def __init__(self, *args: Any, version: PlanVersion, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        lists = PlanVersion.objects.filter(
            state=VersionState.PUBLISHED, currency=version.currency, interval=version.interval
        )
        field = self.fields["to_version"]
        field.queryset = lists.exclude(pk=version.pk).select_related("plan")  # type: ignore[attr-defined]


class ChangeForm(forms.Form):
    version = PriceListField(PlanVersion.objects.none(), label="From the period's end on")

    def __init__(self, *args: Any, subscription: Subscription, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        lists = PlanVersion.objects.filter(state=VersionState.PUBLISHED).select_related("plan")
        own = lists.filter(plan__organization=subscription.organization)
        field = self.fields["version"]
        field.queryset = (lists.filter(plan__organization=None) | own).exclude(pk=subscription.version_id)  # type: ignore[attr-defined]
