"""The measured endpoint, guarded by us: key, scope, rate limit, quota, and an event in the ledger's stream."""

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from benchmarks.document import DOCUMENT
from metering.drf import MeteredMixin, MeteredRoute


class AnswerView(MeteredMixin):
    metered = MeteredRoute("bench", "/*")

    def get(self, request: Request) -> Response:
        return Response(DOCUMENT)


urlpatterns = [path("answer", AnswerView.as_view())]
