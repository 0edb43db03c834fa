"""Pages and reports over a customer with one and with ten million events: milliseconds of a request, one figure a line.

Run: `make bench ARGS="--part reports"`, with DATABASE_URL and REDIS_URL of servers that hold nothing of value. Events are made
by SQL, evenly over 29 days, with the totals that the drain would have kept; a request is answered through all of Django.
"""

import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from statistics import median
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ |= {
    "ADMIN_API_KEY": "bench-owner-key",
    "LOG_LEVEL": "ERROR",
    "STATICFILES_BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage",
}
django.setup()

from django.conf import settings  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402

from accounts.models import Role  # noqa: E402
from core.clock import now  # noqa: E402
from tests.billing.kit import Customer  # noqa: E402
from tests.factories import create_membership, create_meter, create_user  # noqa: E402

MILLION, DAYS, REPEATS = 1_000_000, 29, 5
EVENTS = """
INSERT INTO usage_event (id, occurred_at, received_at, organization_id, mode, meter_id, period_id, quantity, api_key_id,
    product_id, route_id, status, duration_us, bytes_in, bytes_out, reason, door, source, external_id, request_id, shard, epoch,
    seq, dimension, stored_at)
SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, at, at, %(organization)s, 'live', %(meter)s, %(period)s, CASE n %% 50 WHEN 0 THEN 0 ELSE 1 END,
    n %% 5, 1, n %% 10, CASE n %% 50 WHEN 0 THEN 502 ELSE 200 END, 20000, 100, 1000,
    CASE n %% 50 WHEN 0 THEN 'upstream_error' ELSE '' END, 'gateway', '', '', 'req_' || n, %(shard)s, 'bench', n, '', at
FROM generate_series(%(first)s, %(last)s) n
CROSS JOIN LATERAL (SELECT %(start)s::timestamptz + (n %% 41760) * INTERVAL '1 minute' + n * INTERVAL '1 microsecond' AS at) t
"""
TOTALS = """
INSERT INTO usage_total (organization_id, mode, meter_id, period_id, hour, api_key_id, route_id, status_class, dimension, sum,
    count, billed_count, min, max, last, last_at, last_id)
SELECT organization_id, mode, meter_id, period_id, date_trunc('hour', occurred_at, 'UTC'), api_key_id, route_id, status / 100,
    dimension, sum(quantity), count(*), count(*) FILTER (WHERE reason = ''), 0, 1, 1, max(occurred_at), '00000000-0000-7000-8000-000000000000'
FROM usage_event GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
"""
PERIOD = """
INSERT INTO usage_period_total (organization_id, mode, meter_id, period_id, dimension, sum, count, billed_count, max, last, last_at,
    last_id)
SELECT organization_id, mode, meter_id, period_id, dimension, sum(sum), sum(count), sum(billed_count), 1, 1, max(last_at),
    '00000000-0000-7000-8000-000000000000' FROM usage_total GROUP BY 1, 2, 3, 4, 5
"""
INDEXES = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid = 'usage_event'::regclass AND NOT indisprimary
"""


def main(millions: list[int]) -> None:
    start = now().replace(minute=0, second=0, microsecond=0) - timedelta(days=DAYS)
    customer = Customer.start(at=start)
    owner = create_user("bench@example.com")
    create_membership(organization=customer.organization, user=owner, role=Role.OWNER)
    values: dict[str, Any] = {
        "organization": customer.organization.pk, "meter": create_meter().pk, "period": customer.period().pk,
        "shard": customer.organization.shard, "start": start, "first": 1,
    }  # fmt: skip
    with connection.cursor() as cursor:
        for month in {start.date().replace(day=1), now().date().replace(day=1)}:
            cursor.execute("SELECT usage_event_make_partition(%s)", [month])
    pages, client = _requests(customer), Client(SERVER_NAME="localhost")
    client.force_login(owner)
    for size in millions:
        begun = time.perf_counter()
        _fill(values | {"last": size * MILLION})
        values["first"] = size * MILLION + 1
        print(f"fill_{size}m {time.perf_counter() - begun:.0f} s", flush=True)
        for name, address in pages.items():
            print(f"{name}_{size}m {_milliseconds(lambda a=address: _get(client, a)):.0f} ms", flush=True)  # type: ignore[misc]


def _requests(customer: Customer) -> dict[str, str]:
    period, organization = customer.period(), customer.organization.public_id
    hour = f"{period.starts_at + timedelta(days=3):%Y-%m-%dT%H}"
    line = "/invoices/now/lines/2"
    return {
        "usage_page": "/usage/",
        "usage_page_30_days": "/usage/?step=30&by=route",
        "calls_page": "/usage/calls/?reason=unbilled",
        "report": f"/api/usage/report?organization={organization}&group_by=day,route",
        "report_by_hour_and_key": f"/api/usage/report?organization={organization}&group_by=hour,key&limit=5000",
        "explain_line": f"{line}/",
        "explain_hours": f"{line}/hours/",
        "explain_calls": f"{line}/calls/?hour={hour}",
        "find_call": "/usage/find/?find=req_77777",
    }


def _fill(values: dict[str, Any]) -> None:
    """Rows without the secondary indexes, which are made afterwards: what is measured is reading."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SET maintenance_work_mem = '512MB'; SET work_mem = '128MB'; SET synchronous_commit = off"
        )
        cursor.execute(INDEXES)
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
        cursor.execute(EVENTS, values)
        for _, definition in indexes:
            cursor.execute(definition.replace(" ON ONLY ", " ON "))
        cursor.execute("TRUNCATE usage_total, usage_period_total")
        cursor.execute(TOTALS)
        cursor.execute(PERIOD)
        cursor.execute("RESET maintenance_work_mem; RESET work_mem; RESET synchronous_commit")
        cursor.execute("VACUUM ANALYZE usage_event, usage_total, usage_period_total")


def _get(client: Client, address: str) -> None:
    headers = {"X-Admin-Key": settings.ADMIN_API_KEY} if address.startswith("/api/") else {}
    answer = client.get(address, headers=headers)
    if answer.status_code != 200:
        sys.exit(f"{address}: {answer.status_code}")


def _milliseconds(work: Callable[[], None]) -> float:
    """The median of some requests, after one to warm."""
    work()
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        times.append((time.perf_counter() - begun) * 1000)
    return median(times)


if __name__ == "__main__":
    main([int(one) for one in sys.argv[1:]] or [1, 10])
