"""Staff list of kept answers: that there is one, never what it holds."""

from django.contrib import admin

from core.models import KeptAnswer
from core.readonly_admin import ReadOnlyAdmin


@admin.register(KeptAnswer)
class KeptAnswerAdmin(ReadOnlyAdmin):
    list_display = ("caller", "key", "at", "kept_until")
    search_fields = ("caller", "key")
    exclude = ("body", "fingerprint")
