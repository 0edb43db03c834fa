"""Form controls for `components/field.html`: one kind of markup per widget, hints and errors tied to the control."""

from django import forms, template
from django.forms.boundfield import BoundField
from django.utils.safestring import SafeString

register = template.Library()


@register.filter
def control_kind(field: BoundField) -> str:
    """`hidden`, `check`, `choices` (radio buttons or many boxes), `password` or `line`."""
    widget = field.field.widget
    if field.is_hidden:
        return "hidden"
    if isinstance(widget, forms.RadioSelect | forms.CheckboxSelectMultiple):
        return "choices"
    if isinstance(widget, forms.CheckboxInput):
        return "check"
    return "password" if isinstance(widget, forms.PasswordInput) else "line"


@register.simple_tag
def control(field: BoundField, *, hint: str = "", autofocus: bool = False) -> SafeString:
    """The widget with its hint and errors named for screen readers."""
    described = [f"{field.auto_id}-error"] if field.errors else []
    if hint or field.help_text:
        described.append(f"{field.auto_id}-hint")
    attrs: dict[str, str | bool] = {"aria-describedby": " ".join(described) or False}
    if field.errors:
        attrs["aria-invalid"] = "true"
    if autofocus:
        attrs["autofocus"] = True
    if _repeats_label(field):
        attrs["placeholder"] = False
    return field.as_widget(attrs=attrs)


def _repeats_label(field: BoundField) -> bool:
    """A placeholder that only says the label again goes: it vanishes as soon as somebody types."""
    placeholder = str(field.field.widget.attrs.get("placeholder", ""))
    return placeholder.lower().startswith(str(field.label).lower())
