"""Staff sign in where everybody does: the admin's own login form has no rate limit and no confirmation."""

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse


class FareboxAdminSite(admin.AdminSite):
    site_header = site_title = "Farebox"
    index_title = "Administration"

    def login(self, request: HttpRequest, extra_context: object = None) -> HttpResponse:
        if self.has_permission(request):
            return redirect("admin:index")
        if request.user.is_authenticated:
            return redirect("dashboard:usage")
        target = request.GET.get("next", reverse("admin:index"))
        return redirect_to_login(target, login_url=reverse(settings.LOGIN_URL))
