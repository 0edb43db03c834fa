"""The Celery application and the beat table: every recurring job of the installation, on one page."""

import os
from typing import Any

from celery import Celery
from celery.schedules import crontab

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
app = Celery("farebox")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# Ticks of the ledger expire: after a stall the next tick does all the work, old ones would only queue up.
_LEDGER_TICK = {"queue": "ledger", "expires": 2}

app.conf.beat_schedule = {
    "drain": {"task": "metering.drain", "schedule": 1.0, "options": _LEDGER_TICK},
    "push-states": {
        "task": "metering.push_states",
        "schedule": 1.0,
        "options": _LEDGER_TICK,
    },
    "sweep": {
        "task": "metering.sweep",
        "schedule": 15.0,
        "options": {"queue": "ledger", "expires": 15},
    },
    "drain-refusals": {
        "task": "metering.drain_refusals",
        "schedule": 5.0,
        "options": {"queue": "ledger", "expires": 5},
    },
    "evaluate-alerts": {
        "task": "metering.evaluate_alerts",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "deliver-notices": {
        "task": "metering.deliver_notices",
        "schedule": 15.0,
        "options": {"expires": 15},
    },
    "make-partitions": {
        "task": "metering.make_partitions",
        "schedule": crontab(hour="0", minute="20"),
    },
    "roll-periods": {
        "task": "plans.roll_periods",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "finalise-statements": {
        "task": "billing.finalise_due",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "collect": {
        "task": "billing.collect",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "adjust-ended-customers": {
        "task": "billing.adjust_ended",
        "schedule": crontab(hour="3", minute="10"),
    },
    "expire-credits": {
        "task": "billing.expire_credits",
        "schedule": crontab(minute="5"),
    },
    "stripe-usage": {
        "task": "billing.stripe_usage",
        "schedule": crontab(minute="2"),
        "options": {"expires": 1800},
    },
    "stripe-follow": {
        "task": "billing.stripe_follow",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "stripe-usage-ending": {
        "task": "billing.stripe_usage_ending",
        "schedule": 300.0,
        "options": {"expires": 300},
    },
    "publish-due-versions": {
        "task": "plans.publish_due_versions",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "stripe-lay-out": {
        "task": "billing.stripe_lay_out",
        "schedule": 300.0,
        "options": {"expires": 300},
    },
    "stripe-check-catalogue": {
        "task": "billing.stripe_check_catalogue",
        "schedule": crontab(hour="3", minute="30"),
    },
    "stripe-reconcile": {
        "task": "billing.stripe_reconcile",
        "schedule": crontab(hour="3", minute="45"),
    },
    "forget-answers": {
        "task": "core.forget_answers",
        "schedule": crontab(minute="25"),
    },
    "forget-sessions": {
        "task": "accounts.forget_sessions",
        "schedule": crontab(minute="35"),
    },
    "reconcile": {
        "task": "metering.reconcile",
        "schedule": crontab(hour="2", minute="40"),
    },
}


def beat_table() -> dict[str, Any]:
    """The schedule as Celery sees it; a test checks that each name is a registered task."""
    return dict(app.conf.beat_schedule)
