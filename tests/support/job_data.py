"""A data set with known right answers for every job, and the jobs as the fault tests run them: in small batches."""

import multiprocessing
import os
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import text

from core import cleanup, notifications, reminders, reports, sessions
from core.clock import utcnow
from core.db import transaction
from core.models import Notification, Reminder, User
from dispatcher.mail import drain
from tests.support import factories
from tests.support.processes import forget_settings

JOBS: dict[str, Callable[..., Any]] = {
    "cleanup-sessions": lambda now: cleanup.clean_up(now=now, batch=3),
    "send-reminders": lambda now: (
        reminders.plan_missing(now=now, batch=3),
        reminders.send_due(now=now, batch=3),
    ),
    "process-pending-notifications": lambda now: (
        notifications.deliver_due(now=now, batch=3),
        reminders.send_due(now=now, batch=3),
        drain.send_due(now=now),
    ),
    "generate-daily-reports": lambda now: [
        reports.enqueue_daily(now=now, date=date(2026, 1, 1) + timedelta(days=n)) for n in range(20)
    ],
    "update-session-statuses": lambda now: sessions.update_statuses(now=now, batch=3),
}


def fill(size: int, now: datetime | None = None) -> datetime:
    """Work for every job, ``size`` of each kind; gives the time at which it is due: now, or the time given."""
    now = now or utcnow()
    with transaction() as db:
        for n in range(size):
            who = factories.people(db, reminder_offsets=[60], questions=2)
            start = now + timedelta(minutes=60) - timedelta(seconds=n % 5)
            planned = _session(db, who, now, start)
            if n % 2:  # the others are imported rows, planned by the job for the time before
                reminders.plan(db, [planned], now=now - timedelta(days=2))
            late = factories.people(db, reminder_offsets=[60])
            _session(db, late, now, now + timedelta(minutes=29, seconds=n % 5))
            reminders.plan(db, [_session(db, factories.people(db), now, start)], now=now - timedelta(days=2))
            _old(db, n, now)
            _due(db, n, now)
            db.add(
                Notification(
                    user_id=who.interviewer_id,
                    category="announcement",
                    title=f"Pending {n}",
                    body="",
                    not_before=now - timedelta(seconds=n),
                    dedupe_key=f"pending/{n}",
                )
            )
            factories.email(db, now=now, subject=f"Mail {n}")
        db.execute(text("UPDATE push_events SET created_at = created_at - interval '9 days'"))
        db.execute(Reminder.__table__.update().where(Reminder.status == "skipped").values(reason="too late"))
        assert db.query(User).count() > size
    return now


def _session(db: Any, who: factories.People, now: datetime, start: datetime) -> UUID:
    end = start + timedelta(minutes=60)
    return factories.session(db, now=now - timedelta(days=2), people=who, scheduled_start=start, scheduled_end=end)


def _old(db: Any, n: int, now: datetime) -> None:
    """Sessions to be cleaned up, with what is kept beside them."""
    then = now - timedelta(days=31 + n)
    for status in ("abandoned", "expired", "completed"):
        factories.session(db, now=then, status=status, status_at=then, sweep_at=None)
    mail = factories.email(db, now=now, status="sent", created_at=now - timedelta(days=91))
    query = """
        INSERT INTO email_attachments (email_id, ordinal, filename, content_type, content)
        VALUES (:id, 1, 'a', 'a/b', 'a')"""
    db.execute(text(query), {"id": mail})
    push = """
        INSERT INTO push_events (destination, type, payload) VALUES ('/topic/sessions', 'session.late', '{}')"""
    db.execute(text(push))


def _due(db: Any, n: int, now: datetime) -> None:
    """Sessions that time moves."""
    expired = {"status": "invited", "scheduled_start": None, "scheduled_end": None}
    factories.session(db, now=now - timedelta(days=2), **expired, invitation_expires_at=now - timedelta(minutes=n))
    silent = {"last_activity_at": now - timedelta(minutes=11), "scheduled_start": now - timedelta(minutes=20)}
    factories.session(db, now=now - timedelta(minutes=5), status="in_progress", **silent)


CONTENTS = {
    "sessions": "SELECT id, status, schedule_version, deleted_at IS NOT NULL FROM sessions ORDER BY id",
    "session_events": "SELECT session_id, kind, new_status, actor FROM session_events ORDER BY 1, 2, 3",
    "reminders": """
        SELECT session_id, schedule_version, recipient, offset_minutes, status, reason, sent_at IS NOT NULL
        FROM reminders ORDER BY 1, 2, 3, 4""",
    "notifications": "SELECT regexp_replace(dedupe_key, '/20[^/]*$', ''), status FROM notifications ORDER BY 1",
    "receipts": """
        SELECT r.user_id, regexp_replace(dedupe_key, '/20[^/]*$', '')
        FROM notification_receipts r JOIN notifications ON id = notification_id ORDER BY 1, 2""",
    "emails": """
        SELECT kind, session_id, to_address, subject, status, text_body IS NULL,
               (SELECT count(*) FROM email_attachments a WHERE a.email_id = e.id)
        FROM emails e ORDER BY 1, 2, 3, 4""",
    "reports": "SELECT dedupe_key, status FROM reports ORDER BY 1",
    "announced": """
        SELECT destination, type, count(*) FROM push_events
        WHERE type NOT IN ('notification.unread', 'session.cleaned') GROUP BY 1, 2 ORDER BY 1, 2""",
    "unread": """
        SELECT DISTINCT ON (destination) destination, payload->>'unread' FROM push_events
        WHERE type = 'notification.unread' ORDER BY destination, id DESC""",
}
"""What the jobs leave, without generated ids and the clock's times; counts are pushed as often as there are batches."""


def contents(url: str) -> dict[str, list[Any]]:
    """All that matters of the database at ``url``."""
    with psycopg.connect(url) as db:
        return {name: db.execute(query).fetchall() for name, query in CONTENTS.items()}


def final_rows(found: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """As it is but for mails whose process was killed between the final dot and the answer.

    They are uncertain, and admins are notified of them; nobody can do better, and everything else has to be as without
    a kill.
    """
    mails = [(*row[:4], "sent" if row[4] == "uncertain" else row[4], *row[5:]) for row in found["emails"]]
    notified = [row for row in found["notifications"] if not row[0].startswith("mail/")]
    announced = [row for row in found["announced"] if row[0] != "/topic/notifications"]
    return found | {"emails": mails, "notifications": notified, "announced": announced}


_forks = multiprocessing.get_context("forkserver")
# its processes are past their imports, so that a kill at any moment meets the work
_forks.set_forkserver_preload(["__main__", __name__])


def started(job: str, now: datetime, **variables: str) -> multiprocessing.process.BaseProcess:
    """The job at work in a process of its own, on this process's database and mail server, with these variables."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("GREENROOM_")} | variables
    process = _forks.Process(target=_run, args=(job, now, environment))
    process.start()
    return process


def _run(job: str, now: datetime, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    time.tzset()
    forget_settings()
    JOBS[job](now)
