"""The admin site: Django's own, behind allauth's login and its limits."""

from django.contrib.admin.apps import AdminConfig


class FareboxAdminConfig(AdminConfig):
    default_site = "config.admin_site.FareboxAdminSite"
