"""Addresses of the JSON API."""

from django.conf import settings
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from accounts.auth_api import RefreshView, SignInView, SignOutView
from billing.api import StatementListView, StatementView
from billing.report_api import ReportView
from billing.revenue_api import RevenueView
from billing.tenant_api import TenantListView, TenantUsageView, TenantView
from billing.tenant_keys_api import TenantKeyRotateView, TenantKeysView, TenantKeyView
from metering.aggregate_api import AggregateView
from metering.alert_api import AlertListView, AlertView
from metering.api import AccountView, TrackView
from metering.correct_api import CorrectView

urlpatterns: list[URLPattern | URLResolver] = [
    path("account/", AccountView.as_view(), name="api-account"),
    path("usage/track", TrackView.as_view(), name="api-track"),
    path("usage/correct", CorrectView.as_view(), name="api-correct"),
    path("usage/report", ReportView.as_view(), name="api-report"),
    path("usage/aggregate", AggregateView.as_view(), name="api-aggregate"),
    path("usage/alerts", AlertListView.as_view(), name="api-alerts"),
    path("usage/alerts/<str:alert>", AlertView.as_view(), name="api-alert"),
    path("billing/statements", StatementListView.as_view(), name="api-statements"),
    path("billing/statements/<str:statement>", StatementView.as_view(), name="api-statement"),
    path("admin/revenue", RevenueView.as_view(), name="api-revenue"),
    path("admin/tenants", TenantListView.as_view(), name="api-tenants"),
    path("admin/tenants/<str:tenant>", TenantView.as_view(), name="api-tenant"),
    path("admin/tenants/<str:tenant>/usage", TenantUsageView.as_view(), name="api-tenant-usage"),
    path("admin/tenants/<str:tenant>/keys", TenantKeysView.as_view(), name="api-tenant-keys"),
    path("admin/tenants/<str:tenant>/keys/<str:key>", TenantKeyView.as_view(), name="api-tenant-key"),
    path(
        "admin/tenants/<str:tenant>/keys/<str:key>/rotate",
        TenantKeyRotateView.as_view(),
        name="api-tenant-key-rotate",
    ),
    path("auth/login", SignInView.as_view(), name="api-sign-in"),
    path("auth/refresh", RefreshView.as_view(), name="api-refresh"),
    path("auth/logout", SignOutView.as_view(), name="api-sign-out"),
    path(
        "schema",
        SpectacularAPIView.as_view(authentication_classes=[], permission_classes=[]),
        name="api-schema",
    ),
    path(
        "docs",
        SpectacularSwaggerSplitView.as_view(
            url_name="api-schema",
            authentication_classes=[],
            permission_classes=[],
            template_name="api/docs.html",
        ),
        name="api-docs",
    ),
]
urlpatterns += [
    path(f"{page}/", RedirectView.as_view(pattern_name=f"api-{page}"), name=f"api-{page}-slash")
    for page in ("schema", "docs")
]
if settings.SAMPLE_API:
    urlpatterns.append(path("v1/places/", include("examples.django_places.urls")))
