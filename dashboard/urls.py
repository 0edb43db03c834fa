"""Pages of the portal."""

from django.urls import path

from dashboard.urls_accounts import urlpatterns as account_patterns
from dashboard.views import caps, corrections, keys, plan, public, quick_start, staff, usage

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
    path("staff/", staff.overview, name="staff-overview"),
    path("staff/correct/", corrections.correct, name="staff-correct"),
    *account_patterns,
]
