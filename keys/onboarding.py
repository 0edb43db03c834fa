"""From nothing to a key: the acts behind sign-up. They live here because keys are the highest floor they touch."""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from accounts.mail import queue_mail
from accounts.models import Organization, User
from accounts.queries import staff_addresses
from accounts.services import create_organization, create_person
from core.errors import PortalError
from keys.models import ApiKey, Mode
from keys.services import IssuedKey, issue_key
from plans.models import PlanVersion
from plans.queries import find_offer
from plans.services import VersionNotOnSale, start_subscription

FIRST_NAMES = {Mode.TEST: "first test key", Mode.LIVE: "first live key"}


class FirstKeyIssued(PortalError):
    code, status, title = "first_key_issued", 409, "This organization has such a key already"


@dataclass(frozen=True, slots=True)
class Opened:
    """A new customer, with the clear text of its first test key."""

    user: User
    organization: Organization
    issued: IssuedKey


@transaction.atomic
def sign_up(*, email: str, password: str, organization_name: str, plan: str, at: datetime) -> Opened:
    """A person, an organization on this plan, and a test key that works at once; the welcome and a notice go out.

    Raises VersionNotOnSale. A known address is no error: see accounts/backends.py.
    """
    user = create_person(email=email, password=password)
    opened = open_organization(owner=user, name=organization_name, plan=plan, at=at)
    version = _version_on_sale(plan)
    context = {
        "organization": opened.organization,
        "plan_name": version.plan.name,
        "trial_days": version.trial_days,
    }
    queue_mail("welcome", to=[user.email], context=context)
    return opened


@transaction.atomic
def open_organization(*, owner: User, name: str, plan: str, at: datetime) -> Opened:
    """An organization on this plan (paid ones in their trial) with a test key; staff are told. Raises VersionNotOnSale."""
    version = _version_on_sale(plan)
    organization = create_organization(name=name, owner=owner, at=at)
    start_subscription(organization=organization, version=version, by=owner, at=at)
    issued = issue_key(
        organization=organization, name=FIRST_NAMES[Mode.TEST], mode=Mode.TEST, by=owner, at=at
    )
    customer = reverse("admin:accounts_organization_change", args=[organization.pk])
    context = {
        "organization": organization,
        "user": owner,
        "plan_name": version.plan.name,
        "customer_url": settings.PORTAL_URL + customer,
    }
    queue_mail("signup_notice", to=staff_addresses(), context=context)
    return Opened(owner, organization, issued)


@transaction.atomic
def issue_first_key(*, organization: Organization, mode: Mode, by: User, at: datetime) -> IssuedKey:
    """The first key of a mode, by one click. Raises FirstKeyIssued, and what `issue_key` raises."""
    organization = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    if ApiKey.objects.for_organization(organization).usable(at).filter(mode=mode).exists():
        raise FirstKeyIssued
    return issue_key(organization=organization, name=FIRST_NAMES[mode], mode=mode, by=by, at=at)


def _version_on_sale(plan: str) -> PlanVersion:
    version = find_offer(plan)
    if version is None:
        raise VersionNotOnSale(field="plan")
    return version
