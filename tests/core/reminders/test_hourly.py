"""What missed its window while no run looked: reported by the first one that does."""

from datetime import timedelta

from sqlalchemy import text

from core import reminders
from core.clock import utcnow
from core.db import transaction
from tests.support.reminders import people, soon


def test_what_missed_its_window_since_the_last_completed_run_is_reported(database: str) -> None:
    """As after some hours without a worker, when a dispatcher has skipped it already."""
    soon(people(reminder_offsets=[60]))
    now = utcnow()
    ago = {"due": now - timedelta(hours=4), "by": now - timedelta(hours=3.5)}
    with transaction() as db:
        db.execute(text("UPDATE reminders SET due_at = :due, send_by = :by"), ago)
    reminders.send_due(now=now)
    assert reminders.plan_and_send(now=now).counts["missed"] == 0, (
        "before the last hour, and nothing says that a run was lost"
    )
    done = "INSERT INTO job_counts (job, what, count, last_at) VALUES ('send-reminders', 'completed', 1, :at)"
    with transaction() as db:
        db.execute(text(done), {"at": now - timedelta(hours=5)})
    assert reminders.plan_and_send(now=now).counts["missed"] == 2
    with transaction() as db:
        db.execute(text("UPDATE job_counts SET last_at = :at"), {"at": now - timedelta(hours=3)})
    assert reminders.plan_and_send(now=now).counts["missed"] == 0
