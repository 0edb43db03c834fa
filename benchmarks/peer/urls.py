"""One endpoint, guarded twice: by Farebox, and by djangorestframework-api-key with a counter in Redis.

The package checks the key (one query) and the counter limits by the minute (one round trip of two commands). It counts, but
keeps no event, no quota and no sliding window: less work than Farebox does for the same call.
"""

import time
from typing import Any

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView
from rest_framework_api_key.permissions import HasAPIKey

from core.redis import usage_redis
from metering.drf import MeteredMixin, MeteredRoute

ANSWER = {"results": [{"name": "Lisbon", "country": "PT", "population": 517_802}]}
CALLS_A_MINUTE = 10_000_000


class CounterThrottle(BaseThrottle):
    """A fixed window: as many calls a minute as the key may."""

    def allow_request(self, request: Request, view: Any) -> bool:
        prefix = request.headers["Authorization"].removeprefix("Api-Key ").partition(".")[0]
        name = f"peer:{prefix}:{int(time.time() // 60)}"
        pipeline = usage_redis().pipeline(transaction=False)
        pipeline.incr(name)
        pipeline.expire(name, 120)
        count, _ = pipeline.execute()
        return int(count) <= CALLS_A_MINUTE


class PeerView(APIView):
    authentication_classes = ()
    permission_classes = (HasAPIKey,)
    throttle_classes = (CounterThrottle,)

    def get(self, request: Request) -> Response:
        return Response(ANSWER)


class OurView(MeteredMixin):
    metered = MeteredRoute("bench", "/answer")

    def get(self, request: Request) -> Response:
        return Response(ANSWER)


urlpatterns = [path("peer", PeerView.as_view()), path("ours", OurView.as_view())]
