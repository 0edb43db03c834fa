"""The demo's customers: who they are, what they pay for, and how their traffic looks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Company:
    """One demo customer. `since_days` before today; `calls_a_day` on a weekday; `weekend` in per cent of that;
    `growth` in per cent over the 90 days; `failing` in per mille of calls that the upstream failed. `began` is the plan that
    it was on for the first `began_days` after its trial."""

    name: str
    plan: str
    since_days: int
    calls_a_day: int
    weekend: int = 40
    growth: int = 0
    failing: int = 4
    keys: tuple[str, ...] = ("production",)
    pays: bool = True
    cancelled: bool = False
    began: str = ""
    began_days: int = 0


COMPANIES = (
    Company("Northwind Maps", "starter", 96, 1_550, 55, 25, 8, ("production", "staging-eu", "batch-jobs")),
    Company("Contoso Parcel", "professional", 95, 13_000, 30, 15, 3, ("production", "routing")),
    Company("Fabrikam Fleet", "professional", 93, 17_500, 80, 30, 2, ("production", "telematics")),
    Company("Tailspin Travel", "enterprise", 95, 120_000, 110, 20, 2, ("web", "apps", "partners")),
    Company("Adventure Works", "starter", 92, 2_300, 60, 10, 5),
    Company(
        "Litware Weather",
        "enterprise",
        91,
        155_000,
        100,
        5,
        1,
        ("forecast", "alerts"),
        began="professional",
        began_days=40,
    ),
    Company("Proseware Delivery", "professional", 80, 9_500, 45, 60, 6, began="starter", began_days=21),
    Company("Wingtip Toys", "starter", 88, 900, 150, -20, 3, began="professional", began_days=12),
    Company("Alpine Ski House", "starter", 74, 700, 190, 80, 4, ("production", "lifts")),
    Company("Blue Yonder Air", "professional", 66, 15_500, 95, 10, 2),
    Company("Coho Vineyard", "free", 89, 18, 20, 0, 10),
    Company("Graphic Design Institute", "free", 61, 26, 5, 10, 0),
    Company("Humongous Insurance", "enterprise", 58, 90_000, 15, 10, 1, ("claims", "quotes")),
    Company("Lucerne Publishing", "starter", 45, 1_200, 25, 0, 3),
    Company("Margie's Travel", "free", 40, 31, 70, 0, 5),
    Company("Trey Research", "starter", 9, 640, 20, 0, 2, ("experiments",), pays=False),
    Company("School of Fine Art", "free", 30, 12, 10, 0, 0),
    Company("Southridge Video", "professional", 11, 7_000, 70, 0, 9, ("production",), pays=False),
    Company("VanArsdel Homes", "starter", 85, 1_000, 35, -40, 4, cancelled=True),
    Company("Wide World Importers", "starter", 22, 1_900, 15, 0, 3, pays=False),
    Company("Woodgrove Bank", "enterprise", 17, 60_000, 10, 0, 1, ("branches",), pays=False),
)
