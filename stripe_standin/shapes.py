"""The fields that Stripe's objects always have in this API version, so that builders name only what they know.

Fields that Stripe leaves out of an answer unless they are asked for (`expand`) are not here.
"""

import json
from typing import Any

from stripe_standin.store import Obj

_NULL = {
    "product": "default_price description package_dimensions shippable statement_descriptor tax_code unit_label url",
    "price": "lookup_key nickname recurring tax_behavior tiers_mode transform_quantity unit_amount unit_amount_decimal",
    "customer": "address currency delinquent description discount email invoice_prefix name phone preferred_locales shipping tax_exempt test_clock",
    "payment_method": "customer",
    "setup_intent": "application automatic_payment_methods cancellation_reason client_secret customer description excluded_payment_method_types flow_directions last_setup_error latest_attempt mandate metadata next_action on_behalf_of payment_method payment_method_configuration_details payment_method_options single_use_mandate",
    "payment_intent": "application application_fee_amount automatic_payment_methods canceled_at cancellation_reason client_secret customer description excluded_payment_method_types last_payment_error latest_charge next_action on_behalf_of payment_method payment_method_configuration_details payment_method_options processing receipt_email review setup_future_usage shipping statement_descriptor statement_descriptor_suffix transfer_data transfer_group",
    "charge": "application application_fee application_fee_amount balance_transaction calculated_statement_descriptor customer description failure_code failure_message fraud_details on_behalf_of outcome payment_intent payment_method payment_method_details receipt_email receipt_number receipt_url review shipping source_transfer statement_descriptor statement_descriptor_suffix transfer_data transfer_group",
    "balance_transaction": "description exchange_rate source",
    "checkout.session": "adaptive_pricing after_expiration allow_promotion_codes amount_subtotal amount_total billing_address_collection cancel_url client_reference_id client_secret collected_information consent consent_collection currency currency_conversion customer customer_creation customer_details customer_email discounts integration_identifier invoice invoice_creation locale managed_payments metadata optional_items origin_context payment_intent payment_link payment_method_collection payment_method_configuration_details payment_method_options permissions recovered_from saved_payment_method_options setup_intent shipping_address_collection shipping_cost status submit_type subscription success_url total_details ui_mode url wallet_options",
    "subscription": "application application_fee_percent billing_cycle_anchor_config billing_thresholds cancel_at canceled_at cancellation_details days_until_due default_payment_method default_source default_tax_rates description ended_at latest_invoice next_pending_invoice_item_invoice on_behalf_of pause_collection payment_settings pending_invoice_item_interval pending_setup_intent pending_update schedule test_clock transfer_data trial_end trial_settings trial_start",
    "invoice": "account_country account_name account_tax_ids application automatically_finalizes_at billing_reason custom_fields customer_address customer_email customer_name customer_phone customer_shipping customer_tax_exempt customer_tax_ids default_payment_method default_source description due_date effective_at ending_balance footer from_invoice hosted_invoice_url invoice_pdf last_finalization_error latest_revision metadata next_payment_attempt number on_behalf_of parent receipt_number rendering shipping_cost shipping_details statement_descriptor status subtotal_excluding_tax test_clock total_discount_amounts total_excluding_tax total_taxes webhooks_delivered_at",
    "line_item": "description discount_amounts invoice parent pretax_credit_amounts pricing quantity quantity_decimal subscription taxes",
    "invoiceitem": "description discounts invoice metadata parent pricing tax_rates test_clock",
    "credit_note": "customer_balance_transaction effective_at memo metadata out_of_band_amount reason shipping_cost subtotal_excluding_tax total_excluding_tax total_taxes voided_at",
    "credit_note_line_item": "description metadata quantity taxes unit_amount unit_amount_decimal",
    "refund": "balance_transaction charge metadata payment_intent reason receipt_number source_transfer_reversal status transfer_reversal",
    "coupon": "amount_off currency duration_in_months max_redemptions metadata name percent_off redeem_by",
    "discount": "checkout_session customer end invoice invoice_item promotion_code subscription subscription_item",
    "tax_rate": "country description effective_percentage flat_amount jurisdiction jurisdiction_level metadata rate_type state tax_type",
    "tax_id": "country customer owner verification",
    "test_helpers.test_clock": "name",
    "billing.meter": "event_time_window",
    "webhook_endpoint": "api_version application description",
    "event": "api_version request",
    "billing_portal.session": "flow locale on_behalf_of return_url",
    "billing_portal.configuration": "application default_return_url metadata name",
    "invoice_payment": "amount_paid",
    "customer_balance_transaction": "checkout_session credit_note description invoice metadata",
    "promotion_code": "customer expires_at max_redemptions metadata",
}

_GIVEN: dict[str, Obj] = {
    "product": {"active": True, "images": [], "marketing_features": [], "metadata": {}},
    "price": {"active": True, "billing_scheme": "per_unit", "metadata": {}},
    "customer": {
        "balance": 0,
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "metadata": {},
        "next_invoice_sequence": 1,
        "preferred_locales": [],
        "tax_exempt": "none",
        "delinquent": False,
        "default_source": None,
    },
    "payment_method": {"metadata": {}, "allow_redisplay": "unspecified"},
    "setup_intent": {"metadata": {}, "payment_method_types": ["card"], "usage": "off_session"},
    "payment_intent": {
        "amount_capturable": 0,
        "amount_received": 0,
        "capture_method": "automatic",
        "confirmation_method": "automatic",
        "metadata": {},
        "payment_method_types": ["card"],
    },
    "charge": {
        "amount_captured": 0,
        "amount_refunded": 0,
        "captured": False,
        "disputed": False,
        "fraud_details": {},
        "metadata": {},
        "paid": False,
        "refunded": False,
    },
    "balance_transaction": {"balance_type": "payments", "fee_details": [], "status": "available"},
    "checkout.session": {
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "metadata": {},
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "phone_number_collection": {"enabled": False},
        "shipping_options": [],
        "status": "open",
        "ui_mode": "hosted_page",
    },
    "subscription": {
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_mode": {"type": "flexible", "flexible": {"proration_discounts": "included"}},
        "billing_schedules": [],
        "cancel_at_period_end": False,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "default_tax_rates": [],
        "discounts": [],
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "metadata": {},
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
    },
    "subscription_item": {"discounts": [], "metadata": {}, "tax_rates": []},
    "invoice": {
        **dict.fromkeys(
            [
                "amount_due",
                "amount_overpaid",
                "amount_paid",
                "amount_paid_off_stripe",
                "amount_remaining",
                "amount_shipping",
                "attempt_count",
                "post_payment_credit_notes_amount",
                "pre_payment_credit_notes_amount",
                "starting_balance",
                "subtotal",
                "subtotal_excluding_tax",
                "total",
                "total_excluding_tax",
            ],
            0,
        ),
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "collection_method": "charge_automatically",
        "customer_tax_exempt": "none",
        "customer_tax_ids": [],
        "default_tax_rates": [],
        "discounts": [],
        "issuer": {"type": "self"},
        "metadata": {},
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "status": "draft",
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "total_discount_amounts": [],
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
    },
    "line_item": {
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "metadata": {},
        "pretax_credit_amounts": [],
        "taxes": [],
    },
    "invoiceitem": {
        "discountable": True,
        "discounts": [],
        "metadata": {},
        "proration": False,
        "tax_rates": [],
    },
    "credit_note": {
        "amount_shipping": 0,
        "discount_amount": 0,
        "discount_amounts": [],
        "metadata": {},
        "pretax_credit_amounts": [],
        "refunds": [],
        "status": "issued",
        "total_taxes": [],
    },
    "credit_note_line_item": {
        "discount_amount": 0,
        "discount_amounts": [],
        "pretax_credit_amounts": [],
        "tax_rates": [],
        "taxes": [],
    },
    "refund": {"metadata": {}, "status": "succeeded"},
    "coupon": {"metadata": {}, "times_redeemed": 0, "valid": True},
    "tax_rate": {"active": True, "metadata": {}},
    "test_helpers.test_clock": {"status": "ready", "status_details": {}},
    "billing.meter": {"status": "active", "status_transitions": {"deactivated_at": None}},
    "webhook_endpoint": {"metadata": {}, "status": "enabled"},
    "billing_portal.configuration": {"active": True, "is_default": False, "metadata": {}},
    "invoice_payment": {"status_transitions": {"canceled_at": None, "paid_at": None}},
    "customer_balance_transaction": {"metadata": {}},
    "promotion_code": {"active": True, "metadata": {}, "times_redeemed": 0},
}

_WITHOUT_LIVEMODE = ("refund", "balance_transaction", "discount", "subscription_item")


def new(kind: str, **fields: Any) -> Obj:
    """An object of `kind` with every field that Stripe would answer with; `fields` win."""
    made: Obj = {"object": kind, **dict.fromkeys(_NULL.get(kind, "").split())}
    made |= json.loads(json.dumps(_GIVEN.get(kind, {})))  # nested values are never shared
    if kind not in _WITHOUT_LIVEMODE:
        made["livemode"] = False
    return made | fields
