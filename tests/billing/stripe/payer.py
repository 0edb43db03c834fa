"""A customer who pays by card at the stand-in, in the stand-in's time: what a browser does is done by its forms."""

import urllib.parse
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import requests

from accounts.models import Organization
from billing.models import StripeInvoice, StripeSubscription
from billing.stripe.catalogue_apply import apply_catalogue
from billing.stripe.checkout import finish_checkout, paying, start_checkout
from billing.stripe.client import stripe_client
from billing.stripe.details import tell_customer
from billing.stripe.invoices import sync_invoice
from billing.stripe.sync import sync_subscription
from plans.default_catalogue import install_default_catalogue
from plans.models import Subscription
from plans.queries import newest_version
from tests.billing.stripe.conftest import Standin
from tests.factories import create_organization

GOOD, DECLINED, FAILS_LATER = "4242424242424242", "4000000000000002", "4000000000000341"


@dataclass
class Payer:
    """`at` is the stand-in's clock, which our acts are told."""

    standin: Standin
    organization: Organization

    @classmethod
    def start(cls, standin: Standin, name: str = "Acme Maps", plan: str = "") -> "Payer":
        at = cls._now(standin)
        install_default_catalogue(at=at)
        apply_catalogue(at=at)
        return cls.join(standin, name, plan)

    @classmethod
    def join(cls, standin: Standin, name: str, plan: str = "") -> "Payer":
        """One more customer where the catalogue is at Stripe already."""
        return cls(standin, create_organization(name, plan=plan, at=cls._now(standin)))

    @staticmethod
    def _now(standin: Standin) -> datetime:
        return datetime.fromtimestamp(standin.control("health")["now"], UTC)

    @property
    def at(self) -> datetime:
        return self._now(self.standin)

    @property
    def subscription(self) -> Subscription:
        return Subscription.objects.for_organization(self.organization).latest("started_at")

    @property
    def row(self) -> StripeSubscription:
        found = paying(self.organization)
        assert found is not None
        return found

    @property
    def customer_id(self) -> str:
        return self.organization.stripe_customer.stripe_id

    def checkout(self, plan: str = "starter") -> str:
        return start_checkout(
            organization=self.organization, version=newest_version(plan), return_url="http://portal.test/paid/",
            cancel_url="http://portal.test/plan/", by=None, at=self.at,
        )  # fmt: skip

    def leave(self) -> None:
        """The subscription ends at Stripe at once: nothing of this customer falls due any more."""
        stripe_client().v1.subscriptions.cancel(self.row.stripe_id)

    def fill_in(self, url: str, card: str = GOOD) -> str:
        """Type the card on Stripe's page; where the page leads then."""
        form = {
            "email": "alice@acme.example",
            "cardNumber": card,
            "cardExpiry": "12/34",
            "cardCvc": "123",
            "billingName": "Alice",
        }
        answer = requests.post(url, data=form, allow_redirects=False, timeout=30)
        return answer.headers.get("Location", "")

    def subscribe(self, plan: str = "starter", card: str = GOOD) -> StripeSubscription:
        back = self.fill_in(self.checkout(plan), card)
        session_id = urllib.parse.parse_qs(urllib.parse.urlparse(back).query)["session_id"][0]
        assert finish_checkout(organization=self.organization, session_id=session_id, at=self.at)
        return self.row

    def pass_time(self, span: timedelta) -> None:
        self.standin.control("clock/advance", "POST", {"seconds": int(span.total_seconds())})

    def hear(self) -> None:
        """All that the webhooks would tell."""
        customer = self.organization.stripe_customer.stripe_id
        for found in (
            stripe_client().v1.subscriptions.list({"customer": customer, "status": "all"}).auto_paging_iter()
        ):
            sync_subscription(found.id, at=self.at)
        for invoice in stripe_client().v1.invoices.list({"customer": customer}).auto_paging_iter():
            sync_invoice(invoice.id, at=self.at)
        tell_customer(self.organization, at=self.at)
        self.organization.refresh_from_db()

    @property
    def invoices(self) -> list[StripeInvoice]:
        return list(StripeInvoice.objects.for_organization(self.organization).order_by("created_at", "pk"))
