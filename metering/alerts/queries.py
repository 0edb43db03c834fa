"""Alerts as pages and the API show them: where each stands now, and what has been."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Prefetch

from accounts.models import Membership, Organization
from metering.alerts.evaluate import Measure
from metering.alerts.measures import measure, read_facts
from metering.alerts.notices import TOLD_BY_ROLE
from metering.alerts.words import action_of, figure, name_of
from metering.models import (
    Alert,
    AlertDelivery,
    AlertFiring,
    AlertKind,
    AlertPreference,
    NoticeKind,
)
from plans.models import Meter
from plans.queries import find_period

_RESTS = {
    AlertKind.SPEND: "your plan is in another currency",
    AlertKind.CAP: "no cap is set",
    AlertKind.QUOTA: "your plan has no quota",
    AlertKind.INCLUDED: "your plan includes nothing of this meter",
    AlertKind.METER: "your plan has no meter",
}


@dataclass(frozen=True, slots=True)
class AlertStanding:
    """One alert in the present period. `share`: per cent of its threshold, whole, at most 100; `rests`: why there is
    nothing to look at; `gets_mail`: whether the reader does."""

    alert: Alert
    name: str
    acts: str
    measure: Measure | None
    share: int
    stands_at: str
    rests: str
    firing: AlertFiring | None
    gets_mail: bool

    @property
    def is_imposed(self) -> bool:
        held = self.firing.restriction if self.firing else None
        return held is not None and held.lifted_at is None

    @property
    def state(self) -> str:
        """progress's colour: '' below 80 % of the threshold, warn from there on, bad once it is reached."""
        return "bad" if self.share >= 100 else "warn" if self.share >= 80 else ""


def alert_standings(
    organization: Organization, *, at: datetime, reader: Membership | None = None
) -> list[AlertStanding]:
    """All alerts that are not removed, by kind and threshold."""
    alerts = list(
        Alert.objects.for_organization(organization)
        .filter(removed_at=None)
        .select_related("meter", "organization")
        .order_by("kind", "threshold", "pk")
    )
    period = find_period(organization, at=at)
    facts = read_facts(organization, period, at=at) if period and alerts else None
    rows = AlertFiring.objects.for_organization(organization).filter(period=period, recovered_at=None)
    opened = {firing.alert_id: firing for firing in rows.select_related("restriction")}
    chosen = dict(AlertPreference.objects.filter(membership=reader).values_list("alert_id", "by_mail"))
    told_by_role = reader is not None and reader.role in TOLD_BY_ROLE
    found = []
    for alert in alerts:
        now = measure(alert, facts) if facts else None
        meter = alert.meter or (facts.main_meter if facts else None)
        found.append(
            AlertStanding(
                alert=alert,
                name=name_of(alert),
                acts=action_of(alert),
                measure=now,
                share=_share(now),
                stands_at=_stands_at(alert, now, meter, facts.currency) if now and facts else "",
                rests="" if now else _RESTS[AlertKind(alert.kind)],
                firing=opened.get(alert.pk),
                gets_mail=chosen.get(alert.pk, told_by_role),
            )
        )
    return found


def alert_history(organization: Organization, *, limit: int) -> list[AlertFiring]:
    """What fired when at which value, the newest first, with everybody who was told."""
    deliveries = Prefetch("deliveries", AlertDelivery.objects.order_by("pk"))
    rows = AlertFiring.objects.for_organization(organization).select_related(
        "alert__meter", "restriction", "period"
    )
    return list(rows.prefetch_related(deliveries)[:limit])


def test_history(organization: Organization, *, limit: int) -> list[AlertDelivery]:
    """The latest tests and how they went."""
    rows = AlertDelivery.objects.for_organization(organization).filter(kind=NoticeKind.TEST)
    return list(rows[:limit])


def _share(now: Measure | None) -> int:
    if now is None:
        return 0
    return 100 if now.is_reached else max(0, int(now.value * 100 / now.limit))


def _stands_at(alert: Alert, now: Measure, meter: Meter | None, currency: str) -> str:
    value = figure(alert, now.value, meter=None, currency=currency)
    return f"{value} of {figure(alert, now.limit, meter=meter, currency=currency)}"
