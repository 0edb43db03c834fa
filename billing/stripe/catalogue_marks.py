"""Whether Stripe has a version's prices, in words for the pages of staff: from the last check, nothing is asked of Stripe."""

from collections import defaultdict
from collections.abc import Iterator

from billing.models import FindingKind, StripeFinding
from billing.stripe.catalogue import obstacle
from billing.stripe.catalogue_entries import entries_of, meter_subject, product_subject
from billing.stripe.catalogue_rows import facts_of, is_complete, loaded
from billing.stripe.catalogue_sync import last_check
from billing.stripe.client import is_configured
from plans.models import PlanVersion, VersionState
from plans.staff_marks import Marks


def stripe_marks(versions: list[PlanVersion]) -> Marks:
    """Of each published or retired version; of none without Stripe. A few queries, however many versions."""
    if not is_configured():
        return {}
    versions = loaded(versions)
    found = _found(versions)
    at = last_check()
    checked = f" (checked {at:%d %b %Y %H:%M} UTC)" if at else ""
    return {
        version.pk: found[version.pk] or [_mark(version) + checked]
        for version in versions
        if version.state != VersionState.DRAFT
    }


def _mark(version: PlanVersion) -> str:
    if reason := obstacle(facts_of(version)):
        return f"Not sold through Stripe: {reason}"
    if is_complete(version):
        return "In step with Stripe"
    return "Stripe does not have its prices" + ("" if version.state == VersionState.RETIRED else " yet")


def _found(versions: list[PlanVersion]) -> dict[int, list[str]]:
    """Open findings about prices of these versions, or about what they share: product and meters."""
    by_subject: dict[str, list[int]] = defaultdict(list)
    for version in versions:
        for subject in _subjects(version):
            by_subject[subject].append(version.pk)
    findings = StripeFinding.objects.filter(kind=FindingKind.PRICE, closed_at=None, subject__in=by_subject)
    marks: dict[int, list[str]] = defaultdict(list)
    for subject, text in findings.values_list("subject", "text"):
        for pk in by_subject[subject]:
            marks[pk].append(f"Stripe: {text}")
    return marks


def _subjects(version: PlanVersion) -> Iterator[str]:
    product = getattr(version.plan, "stripe_product", None)
    yield product.stripe_id if product else product_subject(version.plan.slug)
    yield from (row.stripe_id for row in version.stripe_prices.all())
    for entry in entries_of(version, facts_of(version)):
        yield entry.subject
        if entry.component is not None:
            yield meter_subject(entry.component)
