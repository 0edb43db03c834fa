"""The three catalogues that the product must be able to sell, as terms; with the cost baselines of the third."""

from dataclasses import dataclass
from decimal import Decimal

from plans.pricing import PriceModel, PriceStep, Terms, UsagePrice

ZERO = Decimal(0)
CALLS = ("api_calls", "")


def _calls(included: int, overage: str | None) -> UsagePrice:
    each = Decimal(overage) if overage else None
    return UsagePrice("api_calls", "call", Decimal(included), each, text="API calls")


# DESIGN.md, section 5.
DESIGN = {
    "free": Terms("Free", "USD", 0, (_calls(1_000, None),)),
    "starter": Terms("Starter", "USD", 49_00, (_calls(50_000, "0.001"),)),
    "professional": Terms("Professional", "USD", 199_00, (_calls(500_000, "0.0005"),)),
    "enterprise": Terms("Enterprise", "USD", 999_00, (_calls(5_000_000, "0.0002"),)),
}


def _compute(instance: str, offer: str, each: str) -> UsagePrice:
    match = (("instance_type", instance), ("offer", offer))
    return UsagePrice(
        "compute", "hour", ZERO, Decimal(each), PriceModel.PER_UNIT,
        match=match, text=f"Compute, {instance}, {offer}",
    )  # fmt: skip


# Storage is reported daily and billed monthly: a time-weighted meter (GB-months of the usage month). Ingress is another
# value of the direction, priced at nothing.
CLOUD = Terms(
    "Cloud",
    "USD",
    0,
    (
        UsagePrice(
            "api_calls",
            "call",
            ZERO,
            None,
            PriceModel.GRADUATED,
            (
                PriceStep(Decimal(10_000), ZERO),
                PriceStep(Decimal(100_000), Decimal("0.001")),
                PriceStep(None, Decimal("0.0008")),
            ),
            text="API calls",
        ),
        UsagePrice("storage", "GB-month", ZERO, Decimal("0.10"), PriceModel.PER_UNIT, text="Storage"),
        UsagePrice(
            "bandwidth", "GB", ZERO, Decimal("0.05"), PriceModel.PER_UNIT,
            match=(("direction", "egress"),), text="Bandwidth, out",
        ),
        UsagePrice(
            "bandwidth", "GB", ZERO, ZERO, PriceModel.PER_UNIT,
            match=(("direction", "ingress"),), text="Bandwidth, in",
        ),
        _compute("small", "on-demand", "0.05"),
        _compute("small", "spot", "0.015"),
        _compute("large", "on-demand", "0.20"),
        _compute("large", "spot", "0.06"),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limited:
    """A plan of the third catalogue: its terms, and the calls of a burst (in one second)."""

    terms: Terms
    burst: int


BURSTS = {
    "free": Limited(Terms("Free", "USD", 0, (_calls(1_000, None),)), 5),
    "pro": Limited(Terms("Pro", "USD", 29_00, (_calls(50_000, None),)), 20),
    "enterprise": Limited(Terms("Enterprise", "USD", 199_00, (_calls(500_000, None),)), 100),
}
# What a call costs the owner, US dollars: a millisecond of compute, a kB out, a third-party call.
COST_BASELINES = {"ms": Decimal("0.000002"), "kB": Decimal("0.000001"), "third_party": Decimal("0.005")}
