"""Every address of the portal, the API and the admin."""

from django.contrib import admin
from django.urls import include, path

from billing.stripe.webhooks import stripe_webhook
from dashboard.views.signup import signup

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/signup/", signup, name="account_signup"),  # before allauth's own: with our limits and plan
    path("accounts/", include("allauth.urls")),
    path("api/", include("config.api_urls")),
    path("webhooks/stripe", stripe_webhook, name="stripe-webhook"),
    path("", include("dashboard.urls")),
]
handler404 = "dashboard.views.errors.not_found"
handler403 = "dashboard.views.errors.forbidden"
handler500 = "dashboard.views.errors.server_error"
