"""The life of a plan version: drafted, checked, published (at once or at a moment), superseded or retired; never edited.

Of each (plan, currency, interval) one list is on sale: publishing the next one retires it. Customers stay on theirs until
they are moved (plans/moves.py). Staff only: each act raises Forbidden for others.
"""

from datetime import datetime

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Max, QuerySet
from django.dispatch import Signal

from accounts.models import Organization, User
from accounts.permissions import check_can_sell
from accounts.services import record_audit
from core.errors import PortalError
from plans.models import Plan, PlanVersion, VersionState
from plans.version_checks import version_faults

log = structlog.get_logger(__name__)
# Sent within the transaction, with `version`: for what lies above (billing tells Stripe), which waits for the commit.
version_published = Signal()
_COPIED = (
    "currency", "interval", "fee_minor", "minimum_minor", "over_cap", "concurrency", "trial_days", "features", "texts",
)  # fmt: skip
_COPIED_OF_LIMITS = ("scope", "route_id", "model_id", "calls", "measure", "meter_id", "window_seconds")
_COPIED_OF_PRICES = (
    "meter", "model", "match", "text", "included", "unit_price", "package_size", "quota", "maximum_minor", "position",
)  # fmt: skip


class NotADraft(PortalError):
    code, status, title = "not_a_draft", 409, "Only a draft can be published"


class NotPublishable(PortalError):
    code, status, title = "plan_not_publishable", 400, "This version cannot be sold as it is"


class NotRetirable(PortalError):
    code, status, title = "plan_not_retirable", 409, "This version cannot be taken off sale"


@transaction.atomic
def publish_version(*, version: PlanVersion, by: User | None, at: datetime) -> PlanVersion:
    """Put a draft on sale; the list that it follows is retired. From now on it never changes (a trigger refuses).

    Raises NotADraft, and NotPublishable with every fault (plans/version_checks.py).
    """
    check_can_sell(by)
    version = _locked_draft(version)
    _check(version)
    version.state, version.published_at, version.publish_at = VersionState.PUBLISHED, at, None
    version.save(update_fields=["state", "published_at", "publish_at"])
    _list_of(version).exclude(pk=version.pk).update(state=VersionState.RETIRED)
    record_audit(
        organization=version.plan.organization, by=by, action="plan.published", target=str(version), at=at
    )
    version_published.send(PlanVersion, version=version)
    return version


@transaction.atomic
def schedule_publishing(
    *, version: PlanVersion, publish_at: datetime | None, by: User | None, at: datetime
) -> PlanVersion:
    """Publish a draft at a moment to come; None forgets it. Raises NotADraft or NotPublishable."""
    check_can_sell(by)
    version = _locked_draft(version)
    if publish_at is not None:
        if publish_at <= at:
            raise NotPublishable("Choose a moment that is still to come.", field="publish_at")
        _check(version)
    version.publish_at = publish_at
    version.save(update_fields=["publish_at"])
    action = "plan.publishing_scheduled" if publish_at else "plan.publishing_forgotten"
    record_audit(
        organization=version.plan.organization, by=by, action=action, target=str(version), at=at,
        details={"publish_at": publish_at.isoformat()} if publish_at else {},
    )  # fmt: skip
    return version


def publish_due(*, at: datetime) -> int:
    """Publish the drafts whose moment has come; how many. One that became unsellable meanwhile waits for staff instead."""
    due = PlanVersion.objects.filter(state=VersionState.DRAFT, publish_at__lte=at)
    published = 0
    for version in due.select_related("plan").order_by("publish_at", "pk"):
        try:
            publish_version(version=version, by=None, at=at)
        except PortalError as refused:
            _leave_to_staff(version, refused, at)
        else:
            published += 1
    return published


@transaction.atomic
def retire_version(*, version: PlanVersion, by: User | None, at: datetime) -> PlanVersion:
    """Take a list off sale; who is on it stays on it. Raises NotRetirable unless it is on sale and may be missed."""
    check_can_sell(by)
    version = PlanVersion.objects.select_for_update(of=("self",)).select_related("plan").get(pk=version.pk)
    if version.state != VersionState.PUBLISHED:
        raise NotRetirable("It is not on sale.")
    others = PlanVersion.objects.filter(plan=version.plan, state=VersionState.PUBLISHED).exclude(
        pk=version.pk
    )
    if version.plan.slug == settings.TEST_MODE_PLAN and not others.exists():
        raise NotRetirable("Test keys run at the limits of this plan: publish its next version instead.")
    version.state = VersionState.RETIRED
    version.save(update_fields=["state"])
    record_audit(
        organization=version.plan.organization, by=by, action="plan.retired", target=str(version), at=at
    )
    return version


@transaction.atomic
def new_draft(*, version: PlanVersion, by: User | None, at: datetime) -> PlanVersion:
    """The next version of the same plan as a draft, with everything that this one says."""
    check_can_sell(by)
    draft = _copied(version, version.plan)
    record_audit(
        organization=version.plan.organization, by=by, action="plan.drafted", target=str(draft), at=at
    )
    return draft


@transaction.atomic
def clone_for_customer(
    *, version: PlanVersion, organization: Organization, by: User | None, at: datetime
) -> PlanVersion:
    """A draft of a private plan of this customer, to be priced, published and then set for its period's end.

    One private plan per plan and customer: a second clone is its next version.
    """
    check_can_sell(by)
    base = version.plan
    tail = organization.public_id.partition("_")[2].lower()
    plan, is_new = Plan.objects.get_or_create(
        slug=f"{base.slug[:30]}-{tail}"[:60],
        defaults={
            "name": f"{base.name[:60]} for {organization.name}"[:80],
            "description": base.description,
            "is_public": False,
            "organization": organization,
            "position": base.position,
        },
    )
    draft = _copied(version, plan)
    record_audit(
        organization=organization, by=by, action="plan.cloned", target=str(draft), at=at,
        details={"from": str(version), "is_new": is_new},
    )  # fmt: skip
    return draft


def _check(version: PlanVersion) -> None:
    faults = version_faults(version)
    if faults:
        raise NotPublishable(" ".join(faults))


def _locked_draft(version: PlanVersion) -> PlanVersion:
    version = (
        PlanVersion.objects.select_for_update(of=("self",))
        .select_related("plan__organization")
        .get(pk=version.pk)
    )
    if version.state != VersionState.DRAFT:
        raise NotADraft
    # Two drafts of one list that are published at once wait for each other here.
    Plan.objects.select_for_update().get(pk=version.plan_id)
    return version


def _list_of(version: PlanVersion) -> QuerySet[PlanVersion]:
    return PlanVersion.objects.filter(
        plan=version.plan, currency=version.currency, interval=version.interval, state=VersionState.PUBLISHED
    )


def _copied(version: PlanVersion, plan: Plan) -> PlanVersion:
    Plan.objects.select_for_update().get(pk=plan.pk)  # numbers are given one after another
    last = plan.versions.aggregate(last=Max("number"))["last"] or 0
    values = {name: getattr(version, name) for name in _COPIED}
    draft = PlanVersion.objects.create(plan=plan, number=last + 1, **values)
    for component in version.components.prefetch_related("tiers"):
        prices = {name: getattr(component, name) for name in _COPIED_OF_PRICES}
        made = draft.components.create(**prices)
        for tier in component.tiers.all():
            made.tiers.create(up_to=tier.up_to, unit_price=tier.unit_price, flat_price=tier.flat_price)
    for limit in version.rate_limits.all():
        draft.rate_limits.create(**{name: getattr(limit, name) for name in _COPIED_OF_LIMITS})
    return draft


def _leave_to_staff(version: PlanVersion, refused: PortalError, at: datetime) -> None:
    log.error("scheduled_publishing_refused", version=str(version), reason=refused.detail)
    PlanVersion.objects.filter(pk=version.pk, state=VersionState.DRAFT).update(publish_at=None)
    record_audit(
        organization=None, by=None, action="plan.publishing_refused", target=str(version), at=at,
        details={"reason": refused.detail},
    )  # fmt: skip
