"""Pages of the portal."""

from django.urls import path

from dashboard.urls_accounts import urlpatterns as account_patterns
from dashboard.views import (
    caps,
    corrections,
    invoices,
    keys,
    plan,
    public,
    quick_start,
    staff,
    staff_billing,
    usage,
)

app_name = "dashboard"
urlpatterns = [
    path("", public.landing, name="landing"),
    path("pricing/", public.pricing, name="pricing"),
    path("docs/errors/", public.error_docs, name="error-docs"),
    path("usage/", usage.usage, name="usage"),
    path("usage/calls/", usage.call_list, name="call-list"),
    path("keys/", keys.key_list, name="key-list"),
    path("keys/new/", keys.key_create, name="key-create"),
    path("keys/<str:public_id>/rotate/", keys.key_rotate, name="key-rotate"),
    path("keys/<str:public_id>/revoke/", keys.key_revoke, name="key-revoke"),
    path("quick-start/", quick_start.quick_start, name="quick-start"),
    path("alerts/", caps.alerts, name="alerts"),
    path("alerts/cap/", caps.cap_set, name="cap-set"),
    path("alerts/cap/remove/", caps.cap_remove, name="cap-remove"),
    path("plan/", plan.plan, name="plan"),
    path("plan/cancel/", plan.plan_cancel, name="plan-cancel"),
    path("plan/keep/", plan.plan_keep, name="plan-keep"),
    path("plan/to/<slug:slug>/", plan.plan_change, name="plan-change"),
    path("invoices/", invoices.invoice_list, name="invoice-list"),
    path("invoices/next/", invoices.invoice_upcoming, name="invoice-upcoming"),
    path("invoices/credit/", invoices.credit, name="credit"),
    path("invoices/account/", invoices.billing_account, name="billing-account"),
    path("invoices/<str:public_id>/", invoices.invoice, name="invoice"),
    path("invoices/<str:public_id>/pdf/", invoices.invoice_pdf, name="invoice-pdf"),
    path("invoices/<str:public_id>/csv/", invoices.invoice_csv, name="invoice-csv"),
    path("invoices/<str:public_id>/use-credit/", invoices.invoice_use_credit, name="invoice-use-credit"),
    path("staff/", staff.overview, name="staff-overview"),
    path("staff/invoices/", staff_billing.unpaid_list, name="staff-unpaid"),
    path("staff/invoices/<str:public_id>/", staff_billing.customer, name="staff-customer-billing"),
    path("staff/invoices/<str:public_id>/credit/", staff_billing.credit_grant, name="staff-credit-grant"),
    path("staff/documents/<str:public_id>/", staff_billing.document, name="staff-document"),
    path("staff/documents/<str:public_id>/pdf/", staff_billing.document_pdf, name="staff-document-pdf"),
    path("staff/documents/<str:public_id>/csv/", staff_billing.document_csv, name="staff-document-csv"),
    path(
        "staff/documents/<str:public_id>/act/<slug:act>/",
        staff_billing.document_act,
        name="staff-document-act",
    ),
    path("staff/correct/", corrections.correct, name="staff-correct"),
    *account_patterns,
]
