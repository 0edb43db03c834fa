"""A cut divides the ledger: what is committed stands before it, what is stored later after it."""

from threading import Event as Signal
from threading import Thread

from django.db import connection, transaction
from django.db.models import Sum

from core.clock import now
from metering.drain import drain_shard
from metering.ledger import take_ledger_cut
from metering.models import PeriodTotal, UsageEvent
from tests.metering.ledger_kit import Ledger, now_us


def test_a_cut_under_traffic_is_the_totals_that_are_read_with_it(ledger: Ledger) -> None:
    stop, cuts = Signal(), []

    def store() -> None:
        while not stop.is_set():
            ledger.append(ledger.event(now_us()), counted=True)
            drain_shard(17, at=now(), batch=3)
        connection.close()

    drainers = [Thread(target=store) for _ in range(3)]
    for drainer in drainers:
        drainer.start()
    while len(cuts) < 25:
        with transaction.atomic():
            cut_at = take_ledger_cut([ledger.shard, 3, ledger.shard])
            totals = PeriodTotal.objects.aggregate(count=Sum("count"))["count"] or 0
            newest = UsageEvent.objects.order_by("-stored_at").first()
            assert newest is None or newest.stored_at <= cut_at
            assert not PeriodTotal.objects.filter(stored_at__gt=cut_at).exists()
        cuts.append((cut_at, totals))
    stop.set()
    for drainer in drainers:
        drainer.join()
    assert cuts[-1][1] > cuts[0][1]
    for cut_at, totals in cuts:
        assert UsageEvent.objects.filter(stored_at__lte=cut_at).count() == totals
