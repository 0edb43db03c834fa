"""`Idempotency-Key` at DRF views."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db import transaction
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from core.idempotency import carry_out_once, fingerprint

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER,
    description="Of your making, up to 200 characters. Sent again within a day, it gets the first answer, marked `Idempotent-Replayed: true`.",
)  # fmt: skip


def answer_once(request: Request, *, caller: str, act: Callable[[], Any], at: datetime) -> Response:
    """The act's answer, or the stored one where the request carries a key that was seen. Raises what carry_out_once does."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        with transaction.atomic():
            return Response(act())
    sent = fingerprint(request.method or "", request.get_full_path(), request.data)
    done = carry_out_once(caller=caller, key=key, request=sent, act=act, at=at)
    return Response(done.body, headers={"Idempotent-Replayed": "true"} if done.is_replay else None)
