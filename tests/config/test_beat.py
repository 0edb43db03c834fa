import pytest

from config.celery import app, beat_table


@pytest.mark.django_db  # Celery runs the system checks, and one of dj-stripe's asks the database
def test_every_job_of_the_beat_table_is_a_registered_task() -> None:
    app.loader.import_default_modules()
    missing = {entry["task"] for entry in beat_table().values()} - set(app.tasks)
    assert missing == set()


def test_ticks_of_the_ledger_expire_and_have_a_queue_of_their_own() -> None:
    for name in ("drain", "push-states"):
        assert beat_table()[name]["options"] == {"queue": "ledger", "expires": 2}
