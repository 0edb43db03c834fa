"""The largest bill that is possible, in lines: on the page of caps and beside the bill so far."""

from core.money import format_money
from metering.spending import SpendPosition


def largest_bill_rows(position: SpendPosition) -> list[dict[str, str]]:
    """Fee, the most that usage can cost, and their sum; no lines where nothing bounds the usage."""
    largest, most = position.largest_bill_minor, position.usage_most_minor
    if largest is None or most is None:
        return []

    def amount(minor: int) -> str:
        return format_money(minor, position.currency)

    rows = [
        {
            "label": f"{position.period.version.plan.name}, fee of this period",
            "value": amount(position.fee_minor),
        }
    ]
    if position.minimum_minor > most:
        rows.append({"label": "Minimum spend, with usage", "value": amount(position.minimum_minor)})
    else:
        rows.append({"label": _usage_words(position), "value": amount(most)})
    rows.append({"label": "At most, plus tax", "value": amount(largest), "kind": "total"})
    return rows


def _usage_words(position: SpendPosition) -> str:
    most = position.usage_most_minor
    if position.period.is_trial:
        return "Usage in the trial"
    if position.cap is None:
        return "Usage, by the plan's prices"
    return "Usage, by the cap" if most == position.cap.amount_minor else "Usage, spent before the cap was set"
