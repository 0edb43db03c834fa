"""The measured endpoint, guarded the usual way: a key's row from the database, a counter of the minute in Redis."""

import time

import redis
from django.conf import settings
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView
from rest_framework_api_key.permissions import HasAPIKey, KeyParser

from benchmarks.document import DOCUMENT

LIMIT = 10**9
client = redis.Redis.from_url(settings.REDIS_URL)


class CounterThrottle(BaseThrottle):
    """So many calls a minute and key; counted by calendar minute, which is not strict."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        prefix = (KeyParser().get(request) or "").partition(".")[0]
        name = f"peer:{prefix}:{int(time.time() // 60)}"
        count = int(client.incr(name))  # type: ignore[arg-type]
        if count == 1:
            client.expire(name, 120)
        return count <= LIMIT


class AnswerView(APIView):
    permission_classes = [HasAPIKey]
    throttle_classes = [CounterThrottle]

    def get(self, request: Request) -> Response:
        return Response(DOCUMENT)


urlpatterns = [path("answer", AnswerView.as_view())]
