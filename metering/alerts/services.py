"""Acts on alerts: set up, change, remove, test, and what evaluation does. One organization is evaluated by one worker at a
time: all acts here take the lock on its settings first."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction

from accounts.models import Membership, Organization, Role, User
from accounts.permissions import find_role
from accounts.services import record_audit
from core.errors import Forbidden, NotFound, PortalError
from metering.alerts.evaluate import Change, Measure, Watched, changes
from metering.alerts.measures import Facts, measure, read_facts
from metering.alerts.notices import tell
from metering.alerts.webhook import host_of, url_fault
from metering.alerts.words import SHARES, action_of, fired_text, name_of, recovered_text, test_text
from metering.models import (
    Alert,
    AlertAction,
    AlertDelivery,
    AlertFiring,
    AlertKind,
    AlertPreference,
    AlertSettings,
    NoticeKind,
)
from metering.models.alerts import MOST_CALLS_PER_MINUTE
from plans.models import Meter, Period, Restriction, RestrictionKind
from plans.queries import find_period
from plans.versions import raise_version

EDITORS = (Role.OWNER, Role.ADMIN, Role.BILLING)
MOST_ALERTS = 50
DEFAULT_THROTTLE = 10  # calls a minute
LARGEST_PERCENT = Decimal(10_000)
LARGEST = Decimal(10) ** 15
# Late usage is taken in for so long after a period's end.
LOOKS_BACK = timedelta(days=2)


class AlertInvalid(PortalError):
    code, status, title = "alert_invalid", 400, "This alert makes no sense"


class TooManyAlerts(PortalError):
    code, status, title = "too_many_alerts", 409, "There are as many alerts as there can be"


class WebhookInvalid(PortalError):
    code, status, title = "webhook_invalid", 400, "This is not an address for a webhook"


@dataclass(frozen=True, slots=True)
class AlertTerms:
    """What an alert is to be. `threshold` in units of the meter, major currency units or per cent; `meter` None: the main
    meter; `currency` of an amount."""

    kind: AlertKind
    threshold: Decimal
    action: AlertAction = AlertAction.NOTIFY
    meter: Meter | None = None
    currency: str = ""
    calls_per_minute: int | None = None
    by_mail: bool = True
    by_webhook: bool = False
    enabled: bool = True


DEFAULTS = (
    AlertTerms(AlertKind.INCLUDED, Decimal(80)),
    AlertTerms(AlertKind.INCLUDED, Decimal(100), by_webhook=True),
    AlertTerms(AlertKind.INCLUDED, Decimal(120), AlertAction.THROTTLE, calls_per_minute=DEFAULT_THROTTLE),
)


def can_edit_alerts(user: User | None, organization: Organization) -> bool:
    """Owners, admins and billing members; None is the system."""
    return user is None or find_role(user, organization) in EDITORS


def check_can_edit_alerts(user: User | None, organization: Organization) -> None:
    """Raises Forbidden unless `can_edit_alerts`."""
    if not can_edit_alerts(user, organization):
        raise Forbidden("Owners, admins and billing members change alerts.")


@transaction.atomic
def ensure_defaults(organization: Organization, *, at: datetime) -> AlertSettings:
    """The organization's settings, locked; at the first time the default alerts are made. Removed ones do not come back."""
    held, is_new = AlertSettings.objects.get_or_create(
        organization=organization, defaults={"defaults_at": at}
    )
    held = AlertSettings.objects.select_for_update().get(pk=held.pk)
    if is_new:
        for terms in DEFAULTS:
            _create(organization, terms, by=None, at=at, is_default=True)
    return held


@transaction.atomic
def create_alert(*, organization: Organization, terms: AlertTerms, by: User | None, at: datetime) -> Alert:
    """Raises Forbidden, AlertInvalid, TooManyAlerts. Where its threshold is passed already, it fires at once."""
    check_can_edit_alerts(by, organization)
    ensure_defaults(organization, at=at)
    _check(terms)
    if Alert.objects.for_organization(organization).filter(removed_at=None).count() >= MOST_ALERTS:
        raise TooManyAlerts(f"An organization has at most {MOST_ALERTS} alerts.")
    alert = _create(organization, terms, by=by, at=at, is_default=False)
    _audit(alert, "alert.created", by, at)
    evaluate_organization(organization, at=at)
    return alert


@transaction.atomic
def change_alert(*, alert: Alert, terms: AlertTerms, by: User | None, at: datetime) -> Alert:
    """Raises Forbidden, NotFound, AlertInvalid. A raised threshold takes back what the lower one did; a changed action or
    rate holds at once."""
    check_can_edit_alerts(by, alert.organization)
    ensure_defaults(alert.organization, at=at)
    _check(terms)
    alert = _locked(alert)
    acted = (alert.action, alert.calls_per_minute)
    _write(alert, terms)
    alert.save()
    if (alert.action, alert.calls_per_minute) != acted:
        _impose_anew(alert, at=at)
    _audit(alert, "alert.changed", by, at)
    if not alert.enabled:
        _close_open(alert, at=at)
    evaluate_organization(alert.organization, at=at)
    return alert


@transaction.atomic
def remove_alert(*, alert: Alert, by: User | None, at: datetime) -> None:
    """Its restriction is lifted, its history stays. Raises Forbidden and NotFound."""
    check_can_edit_alerts(by, alert.organization)
    ensure_defaults(alert.organization, at=at)
    alert = _locked(alert)
    _close_open(alert, at=at)
    alert.removed_at, alert.enabled = at, False
    alert.save(update_fields=["removed_at", "enabled"])
    _audit(alert, "alert.removed", by, at)


@transaction.atomic
def lift_restriction(*, firing: AlertFiring, by: User | None, at: datetime) -> None:
    """By hand, for the rest of the period: the alert does not impose it again unless it goes below and crosses once more."""
    check_can_edit_alerts(by, firing.organization)
    ensure_defaults(firing.organization, at=at)
    if _lift(firing, at=at):
        _audit(firing.alert, "alert.restriction_lifted", by, at)


@transaction.atomic
def set_webhook(*, organization: Organization, url: str, by: User | None, at: datetime) -> None:
    """The one address that alerts post to; '' takes it away. Raises Forbidden and WebhookInvalid."""
    check_can_edit_alerts(by, organization)
    url = url.strip()
    if url and (fault := url_fault(url)):
        raise WebhookInvalid(fault)
    held = ensure_defaults(organization, at=at)
    held.webhook_url = url
    held.save(update_fields=["webhook_url"])
    record_audit(
        organization=organization, by=by, action="alert.webhook_set" if url else "alert.webhook_removed",
        target=host_of(url), at=at,
    )  # fmt: skip


def choose_mail(*, alert: Alert, membership: Membership, by_mail: bool) -> None:
    """A member's own choice for one alert. Raises NotFound for a member of another organization."""
    if alert.organization_id != membership.organization_id or alert.removed_at is not None:
        raise NotFound
    AlertPreference.objects.update_or_create(
        alert=alert, membership=membership, defaults={"by_mail": by_mail}
    )


@transaction.atomic
def send_test(*, alert: Alert, by: User | None, at: datetime) -> list[AlertDelivery]:
    """A marked test on all its channels, as the real notice would go. Webhooks wait for `delivery.deliver`."""
    check_can_edit_alerts(by, alert.organization)
    if alert.removed_at is not None:
        raise NotFound
    return tell(alert, kind=NoticeKind.TEST, text=test_text(alert), at=at)


def evaluate_organization(organization: Organization, *, at: datetime) -> int:
    """Evaluate the present period and one that has ended just now; how many alerts changed."""
    periods = Period.objects.for_organization(organization).filter(
        starts_at__lte=at, ends_at__gt=at - LOOKS_BACK
    )
    return sum(evaluate_period(organization, period, at=at) for period in periods.order_by("starts_at"))


@transaction.atomic
def evaluate_period(organization: Organization, period: Period, *, at: datetime) -> int:
    """Fire and recover what is due in this period; how many alerts changed. Two at once: the second finds it done."""
    ensure_defaults(organization, at=at)
    alerts = list(
        Alert.objects.for_organization(organization)
        .filter(enabled=True, removed_at=None)
        .select_related("meter", "organization")
    )
    if not alerts:
        return 0
    period = Period.objects.select_related("version__plan", "organization").get(pk=period.pk)
    facts = read_facts(organization, period, at=at)
    opened = {
        firing.alert_id: firing
        for firing in AlertFiring.objects.for_organization(organization)
        .filter(period=period, recovered_at=None)
        .select_related("restriction", "organization")
    }
    watched = [Watched(alert.pk, measure(alert, facts), alert.pk in opened) for alert in alerts]
    named = {alert.pk: alert for alert in alerts}
    found = changes(watched)
    for change in found:
        alert = named[change.alert_id]
        if change.fires and change.measure is not None:
            _fire(alert, change.measure, facts, at=at)
        else:
            _recover(opened[alert.pk], alert, change, facts, at=at)
    return len(found)


def _fire(alert: Alert, reached: Measure, facts: Facts, *, at: datetime) -> None:
    period, told = facts.period, alert.meter or facts.main_meter
    crossing = (
        1
        + AlertFiring.objects.for_organization(alert.organization).filter(alert=alert, period=period).count()
    )
    restriction = _impose(alert, period, at=at)
    text = fired_text(alert, reached, meter=told, period=period, imposed=restriction is not None)
    firing = AlertFiring.objects.create(
        alert=alert, organization=alert.organization, period=period, crossing=crossing, value=reached.value,
        threshold_value=reached.limit, text=text[:300], fired_at=at, restriction=restriction,
    )  # fmt: skip
    tell(alert, kind=NoticeKind.FIRED, text=text, at=at, firing=firing)


def _recover(firing: AlertFiring, alert: Alert, change: Change, facts: Facts, *, at: datetime) -> None:
    was_imposed = _lift(firing, at=at)
    text = recovered_text(
        alert, change.measure, meter=alert.meter or facts.main_meter, period=facts.period, was_imposed=was_imposed
    )  # fmt: skip
    firing.recovered_at, firing.recovered_value = at, change.measure.value if change.measure else None
    firing.save(update_fields=["recovered_at", "recovered_value"])
    tell(alert, kind=NoticeKind.RECOVERED, text=text, at=at, firing=firing)


def _impose(alert: Alert, period: Period, *, at: datetime) -> Restriction | None:
    """The hard action, in a period that still runs; what comes late for an ended one only tells."""
    if alert.action == AlertAction.NOTIFY or period.ends_at <= at:
        return None
    is_throttle = alert.action == AlertAction.THROTTLE
    made = Restriction.objects.create(
        organization=alert.organization, period=period,
        kind=RestrictionKind.THROTTLE if is_throttle else RestrictionKind.BLOCK,
        calls_per_minute=alert.calls_per_minute if is_throttle else None, cause=name_of(alert)[:120], at=at,
    )  # fmt: skip
    raise_version(alert.organization)
    return made


def _impose_anew(alert: Alert, *, at: datetime) -> None:
    """A changed action takes the place of what is imposed now."""
    for firing in _open_firings(alert):
        _lift(firing, at=at)
        firing.restriction = _impose(alert, firing.period, at=at)
        firing.save(update_fields=["restriction"])


def _lift(firing: AlertFiring, *, at: datetime) -> bool:
    if firing.restriction_id is None:
        return False
    held = Restriction.objects.for_organization(firing.organization)
    if not held.filter(pk=firing.restriction_id, lifted_at=None).update(lifted_at=at):
        return False
    raise_version(firing.organization)
    return True


def _close_open(alert: Alert, *, at: datetime) -> None:
    """Who switches an alert off or removes it knows: no notice."""
    for firing in _open_firings(alert):
        _lift(firing, at=at)
        firing.recovered_at = at
        firing.save(update_fields=["recovered_at"])


def _open_firings(alert: Alert) -> list[AlertFiring]:
    rows = AlertFiring.objects.for_organization(alert.organization).filter(alert=alert, recovered_at=None)
    return list(rows.select_related("organization", "period"))


def _locked(alert: Alert) -> Alert:
    rows = Alert.objects.for_organization(alert.organization).select_for_update(of=("self",))
    return rows.select_related("organization", "meter").get_or_404(pk=alert.pk, removed_at=None)


def _create(
    organization: Organization, terms: AlertTerms, *, by: User | None, at: datetime, is_default: bool
) -> Alert:
    alert = Alert(organization=organization, created_by=by, created_at=at, is_default=is_default)
    _write(alert, terms)
    if not alert.currency and terms.kind == AlertKind.SPEND:
        period = find_period(organization, at=at)
        alert.currency = period.version.currency if period else ""
    alert.save()
    return alert


def _write(alert: Alert, terms: AlertTerms) -> None:
    alert.kind, alert.threshold, alert.action = terms.kind, terms.threshold, terms.action
    alert.meter = None if terms.kind in (AlertKind.SPEND, AlertKind.CAP) else terms.meter
    alert.currency = terms.currency or alert.currency if terms.kind == AlertKind.SPEND else ""
    alert.calls_per_minute = terms.calls_per_minute if terms.action == AlertAction.THROTTLE else None
    alert.by_mail, alert.by_webhook, alert.enabled = terms.by_mail, terms.by_webhook, terms.enabled


def _check(terms: AlertTerms) -> None:
    most = LARGEST_PERCENT if terms.kind in SHARES else LARGEST
    if not Decimal("0.000000001") <= terms.threshold <= most:
        raise AlertInvalid(f"A threshold is above 0 and at most {most:,f}.")
    if terms.kind == AlertKind.SPEND and not terms.currency:
        raise AlertInvalid("An amount needs a plan, for its currency.")
    rate = terms.calls_per_minute
    if terms.action == AlertAction.THROTTLE and not (rate and 1 <= rate <= MOST_CALLS_PER_MINUTE):
        raise AlertInvalid(f"A throttle leaves 1 to {MOST_CALLS_PER_MINUTE:,} calls a minute.")


def _audit(alert: Alert, action: str, by: User | None, at: datetime) -> None:
    record_audit(
        organization=alert.organization, by=by, action=action, target=alert.public_id, at=at,
        details={"alert": name_of(alert), "action": action_of(alert), "enabled": alert.enabled},
    )  # fmt: skip
