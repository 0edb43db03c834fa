"""The mailbox of a development installation; elsewhere there is nothing here."""

from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from dashboard.mailbox import KEPT
from dashboard.models import StoredMail

View = Callable[..., HttpResponse]


def _only_in_development(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if not settings.MAILBOX:
            raise Http404
        return view(request, *args, **kwargs)

    return guarded


@require_safe
@_only_in_development
def mailbox(request: HttpRequest) -> HttpResponse:
    mails = StoredMail.objects.only("pk", "sent_at", "to", "subject")[:KEPT]
    return render(request, "dashboard/mailbox.html", {"mails": mails})


@require_safe
@_only_in_development
def mailbox_message(request: HttpRequest, number: int) -> HttpResponse:
    return render(
        request, "dashboard/mailbox_message.html", {"mail": get_object_or_404(StoredMail, pk=number)}
    )
