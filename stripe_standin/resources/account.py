"""The account itself, its balance, and the lists that stay empty here."""

from stripe_standin.params import Params
from stripe_standin.render import listing
from stripe_standin.routing import route
from stripe_standin.store import Obj
from stripe_standin.world import World

ACCOUNT = "acct_standin00000000"


def _account() -> Obj:
    return {
        "id": ACCOUNT,
        "object": "account",
        "business_type": "company",
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "country": "US",
        "default_currency": "usd",
        "details_submitted": True,
        "email": "owner@example.com",
        "metadata": {},
        "payouts_enabled": True,
        "type": "standard",
        "settings": {
            "bacs_debit_payments": {"display_name": None, "service_user_number": None},
            "branding": {"icon": None, "logo": None, "primary_color": None, "secondary_color": None},
            "card_issuing": {"tos_acceptance": {"date": None, "ip": None}},
            "card_payments": {
                "decline_on": {"avs_failure": False, "cvc_failure": False},
                "statement_descriptor_prefix": None,
                "statement_descriptor_prefix_kana": None,
                "statement_descriptor_prefix_kanji": None,
            },
            "dashboard": {"display_name": "Farebox stand-in", "timezone": "Etc/UTC"},
            "invoices": {"default_account_tax_ids": None, "hosted_payment_method_save": "offer"},
            "payments": {
                "statement_descriptor": "FAREBOX",
                "statement_descriptor_kana": None,
                "statement_descriptor_kanji": None,
            },
            "sepa_debit_payments": {},
        },
    }


@route("GET", "/v1/account")
def own(world: World, params: Params) -> Obj:
    return _account()


@route("GET", "/v1/accounts/{id}")
def account(world: World, params: Params, identifier: str) -> Obj:
    return _account()


@route("GET", "/v1/balance")
def balance(world: World, params: Params) -> Obj:
    sums: dict[str, int] = {}
    for booked in world.store.where("balance_transaction"):
        sums[booked["currency"]] = sums.get(booked["currency"], 0) + booked["net"]
    available = [
        {"amount": amount, "currency": currency, "source_types": {"card": amount}}
        for currency, amount in sums.items()
    ]
    return {"object": "balance", "available": available, "livemode": False, "pending": []}


def _empty(path: str) -> None:
    @route("GET", path)
    def nothing(world: World, params: Params) -> Obj:
        params.plain()
        return listing(path, [])


# Lists of what the stand-in has none of; synchronisers walk them all the same.
for _path in (
    "/v1/accounts",
    "/v1/application_fees",
    "/v1/file_links",
    "/v1/files",
    "/v1/payouts",
    "/v1/reviews",
    "/v1/shipping_rates",
    "/v1/tax_codes",
    "/v1/transfers",
):
    _empty(_path)
