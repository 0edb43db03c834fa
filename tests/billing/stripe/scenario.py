"""One customer's whole life, the same steps in every world: trial, a month of 119.00 USD, a failed renewal, 402, payment, upgrade,
the end.

A world is who does what a customer would do, and whose time passes: a browser at the stand-in (test_scenario_browser.py),
or Stripe's own API alone (`ApiWorld`, at a real sandbox, or at the stand-in without any of its controls).
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from accounts.models import Organization
from billing.collection import end_grace
from billing.models import StripeCustomer, StripeFinding, StripeInvoice, StripeMeter, StripeUsage
from billing.stripe.catalogue_apply import apply_catalogue
from billing.stripe.changes import cancel_paid_plan, change_paid_plan, upgrade_price
from billing.stripe.checkout import checkout_items, start_checkout
from billing.stripe.client import stripe_client
from billing.stripe.sink import StripeSink
from billing.stripe.sync import sync_subscription
from core.clock import now, to_micros
from plans.default_catalogue import install_default_catalogue
from plans.models import PlanVersion, SubscriptionStatus
from plans.queries import newest_version
from plans.services import roll_periods
from plans.standing import find_standing, mode_terms
from tests.billing.stripe.payer import Payer
from tests.billing.stripe.test_invoices_equal import assert_equal, end_month, statement_totals, use
from tests.billing.stripe.test_subscriptions import _use_card as use_card
from tests.factories import create_organization

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TRIAL = 14 * DAY
# A clock's life begins so long ago that its usage, told at the end of its first paid month, is neither of the future nor older than
# 35 days: by the clock's time and by everybody else's.
BEGINS_AGO = 60 * DAY


class World(Protocol):
    """What a customer does himself. `payer` has Stripe's time, lets it pass, and hears what Stripe tells."""

    payer: Payer

    def subscribe(self) -> None:
        """Take Starter, with a card that is good; its trial begins."""

    def pay(self, invoice: StripeInvoice) -> None:
        """Pay what is due with a good card, which stays the subscription's."""

    def upgrade(self) -> int:
        """Change to Professional; the amount that was shown before, in cents."""

    def cancel(self) -> None:
        """At the end of what is paid for."""


def live(world: World) -> None:
    """The whole life. Ends with nothing different between Stripe and us."""
    payer = world.payer
    world.subscribe()
    payer.hear()
    assert (payer.row.status, refusal(payer)) == ("trialing", "")

    payer.pass_time(payer.row.current_period_end - payer.at + 2 * HOUR)
    payer.hear()
    assert (payer.row.status, payer.invoices[-1].total_minor) == ("active", 4_900)
    use(payer, 120_000)
    assert end_month(payer).total_minor == 11_900  # 70,000 x 0.001 of this month, and the fee of the next
    assert statement_totals(payer) == [11_900]
    assert_equal(payer)

    _fail_and_pay(world)
    _upgrade(world)
    _cancel(world)
    assert not StripeFinding.objects.exists()


def refusal(payer: Payer) -> str:
    """What the door says to a live key at this moment: '' is 200, anything else 402."""
    roll_periods(at=payer.at)
    terms = mode_terms(find_standing(payer.organization, at=payer.at), mode="live", test_plan="free")
    moment = to_micros(payer.at)
    return next(span.refusal for span in terms.spans if span.start_us <= moment < span.end_us)


def _fail_and_pay(world: World) -> None:
    """The renewal fails, the days of grace pass, the door closes; paid, it opens."""
    payer = world.payer
    use_card(payer, "pm_card_chargeCustomerFail")
    assert end_month(payer).state == "open"
    assert (payer.subscription.status, refusal(payer)) == (SubscriptionStatus.PAST_DUE, "")
    payer.pass_time(8 * DAY)
    payer.hear()
    assert refusal(payer) == "payment_required"
    end_grace(at=payer.at)
    assert payer.subscription.status == SubscriptionStatus.SUSPENDED

    unpaid = payer.invoices[-1]
    world.pay(unpaid)
    payer.hear()
    unpaid.refresh_from_db()
    assert (unpaid.state, unpaid.total_minor) == ("paid", 4_900)
    assert (payer.subscription.status, refusal(payer)) == (SubscriptionStatus.ACTIVE, "")


def _upgrade(world: World) -> None:
    payer = world.payer
    shown = world.upgrade()
    assert 0 < shown < 19_900
    payer.hear()
    assert (payer.invoices[-1].total_minor, payer.invoices[-1].state) == (shown, "paid")
    assert payer.row.version.plan.slug == "professional"


def _cancel(world: World) -> None:
    payer = world.payer
    world.cancel()
    payer.hear()
    ends = payer.row.cancels_at
    assert ends is not None
    assert payer.subscription.cancels_at == ends
    payer.pass_time(ends - payer.at + HOUR)
    payer.hear()
    assert payer.subscription.status == SubscriptionStatus.CANCELLED
    assert refusal(payer) in ("subscription_cancelled", "no_subscription")


# Stripe's API alone -------------------------------------------------------------------------------------------------


class ClockPayer(Payer):
    """A customer on a test clock of Stripe's; nothing but Stripe's API is asked."""

    PATIENCE_SECONDS = 600

    def __init__(self, organization: Organization, clock: str) -> None:
        self.organization, self.clock = organization, clock

    @classmethod
    def on_new_clock(cls, name: str) -> "ClockPayer":
        """Catalogue, clock and customer. Stripe ties a customer to a clock only when it makes it, so it is made here and not by
        `ensure_customer`."""
        at, client = now().replace(microsecond=0) - BEGINS_AGO, stripe_client()
        install_default_catalogue(at=at)
        apply_catalogue(at=at)
        clocks = client.v1.test_helpers.test_clocks
        clock = clocks.create({"frozen_time": int(at.timestamp()), "name": f"Farebox {name}"})
        organization = create_organization(name, plan="", at=at)
        made = client.v1.customers.create(
            {
                "name": name,
                "email": "dana@fabrikam.example",
                "metadata": {"farebox_organization": organization.public_id},
                "test_clock": clock.id,
            }
        )
        StripeCustomer.objects.create(organization=organization, stripe_id=made.id)
        return cls(organization, clock.id)

    @property
    def at(self) -> datetime:
        found = stripe_client().v1.test_helpers.test_clocks.retrieve(self.clock)
        return datetime.fromtimestamp(found.frozen_time, UTC)

    def pass_time(self, span: timedelta) -> None:
        """Returns when Stripe has done all that falls due. What it was told of usage is counted before."""
        self._wait_until_counted()
        clocks = stripe_client().v1.test_helpers.test_clocks
        to = int(self.at.timestamp() + span.total_seconds())
        clocks.advance(self.clock, {"frozen_time": to})
        self._wait(lambda: clocks.retrieve(self.clock).status == "ready", "the test clock is ready")

    def _wait_until_counted(self) -> None:
        """Stripe counts usage some time after it has taken it."""
        for meter in StripeMeter.objects.all():
            for period in self.organization.periods.order_by("starts_at"):
                rows = StripeUsage.objects.filter(period=period, meter=meter)
                told = sum(rows.values_list("value", flat=True))
                if not told:
                    continue
                asked: Any = {
                    "meter": meter.stripe_id, "customer": self.organization.stripe_customer.stripe_id,
                    "start": period.starts_at.replace(second=0), "end": period.ends_at.replace(second=0),
                }  # fmt: skip
                self._wait(
                    lambda asked=asked, told=told: StripeSink().summary(**asked) == told, "usage counts"
                )

    def _wait(self, done: Any, what: str) -> None:
        deadline = time.monotonic() + self.PATIENCE_SECONDS
        pause = 0.05
        while not done():
            assert time.monotonic() < deadline, f"gave up waiting until {what}"
            time.sleep(pause)
            pause = min(pause * 2, 5)

    def remove(self) -> None:
        """With its clock Stripe removes the customer and all that is his."""
        stripe_client().v1.test_helpers.test_clocks.delete(self.clock)


class ApiWorld:
    """Where a customer would be on Stripe's pages (Checkout, the hosted invoice), the API does what the page ends in; where
    webhooks would come, `hear` fetches what they tell of."""

    def __init__(self, name: str = "Fabrikam Routing") -> None:
        self.payer: ClockPayer = ClockPayer.on_new_clock(name)

    def subscribe(self) -> None:
        """In place of Checkout's page: the card is attached, and the same subscription is made."""
        payer, version = self.payer, newest_version("starter")
        _open_and_close_checkout(version)
        customer, client = payer.organization.stripe_customer.stripe_id, stripe_client()
        card = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer})
        asked: Any = {
            "customer": customer,
            "items": checkout_items(version),
            "billing_mode": {"type": "flexible"},
            "trial_end": int((payer.at + TRIAL).timestamp()),
            "default_payment_method": card.id,
            "metadata": {
                "farebox_organization": payer.organization.public_id,
                "farebox_version": str(version.pk),
            },
        }
        made = client.v1.subscriptions.create(asked)
        assert sync_subscription(made.id, at=payer.at) is not None

    def pay(self, invoice: StripeInvoice) -> None:
        use_card(self.payer, "pm_card_visa")
        row = stripe_client().v1.subscriptions.retrieve(self.payer.row.stripe_id)
        stripe_client().v1.invoices.pay(
            invoice.stripe_id, {"payment_method": str(row.default_payment_method)}
        )

    def upgrade(self) -> int:
        payer, version = self.payer, newest_version("professional")
        shown = upgrade_price(payer.row, version, at=payer.at).due_minor
        change_paid_plan(organization=payer.organization, version=version, by=None, at=payer.at)
        return shown

    def cancel(self) -> None:
        cancel_paid_plan(organization=self.payer.organization, by=None, at=self.payer.at)


def _open_and_close_checkout(version: PlanVersion) -> None:
    """Somebody else, in the time of everybody, asks for Checkout: Stripe takes our customer and our session as they are."""
    visitor = create_organization("Visitor", plan="", at=now())
    address = start_checkout(
        organization=visitor, version=version, return_url="https://portal.test/paid/",
        cancel_url="https://portal.test/plan/", by=None, at=now(),
    )  # fmt: skip
    assert address.startswith("http")
    client, customer = stripe_client(), visitor.stripe_customer.stripe_id
    (session,) = client.v1.checkout.sessions.list({"customer": customer, "status": "open"})
    client.v1.checkout.sessions.expire(session.id)
    client.v1.customers.delete(customer)
    visitor.stripe_customer.delete()
