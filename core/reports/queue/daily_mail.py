"""The daily reports brought to those who subscribe: one mail and one notification a day to each, whatever happens.

Who asked for them by mail gets both, unless the notification was turned off; who asked for them in the app, that alone.

Told of is the newest day only, and only while it is fresh: days that are filled in later are there for those who look,
and do not fill anybody's inbox.
"""

from datetime import date as Day  # noqa: N812 - as core.reports.queue.daily has it
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import emails
from core.db import array
from core.emails.draft import Recipient
from core.notifications import Notice, notify
from core.reports.queue.claims import ClaimedReport
from core.reports.queue.daily import TYPES, daily_key, day_of
from core.reports.registry import REPORTS

FRESH = timedelta(hours=48)
"""How long after its end a day is still told of."""

_DAY = text("""
    SELECT id, status, CAST(parameters->>'end' AS timestamptz) AS ended FROM reports
    WHERE dedupe_key = ANY(CAST(:keys AS text[])) ORDER BY dedupe_key DESC
""")
_LOCK = text("SELECT FROM reports WHERE dedupe_key = ANY(CAST(:keys AS text[])) ORDER BY dedupe_key FOR UPDATE")
_NEWER = text("SELECT EXISTS (SELECT FROM reports WHERE dedupe_key >= :after AND dedupe_key LIKE 'daily/%')")
_SUBSCRIBERS = text("""
    SELECT u.id, u.email, u.name, u.timezone, bool_or(p.channel = 'email') AS by_mail FROM users u
    JOIN notification_preferences p ON p.user_id = u.id
    WHERE p.category = 'daily_report' AND p.delivery = 'instant'
        AND u.deleted_at IS NULL AND u.role IN ('admin', 'recruiter')
    GROUP BY u.id ORDER BY u.id
""")


def lock_day(db: Session, claimed: ClaimedReport) -> bool:
    """Hold all reports of the day that this one is of until this transaction ends; False when it is of no day.

    So that of two that come to their ends at once, one sees the other's.
    """
    day = day_of(claimed.dedupe_key)
    if day is None:
        return False
    db.execute(_LOCK, _keys(day))
    return True


def _keys(day: Day) -> dict[str, str]:
    return {"keys": array([daily_key(day, kind) for kind in TYPES])}


def notify_subscribers(db: Session, claimed: ClaimedReport, *, now: datetime) -> None:
    """Mail the day's reports to who subscribes, and notify them, once the last of them has come to its end."""
    day = day_of(claimed.dedupe_key)
    if day is None:
        return
    rows = db.execute(_DAY, _keys(day)).all()
    done: list[UUID] = [row.id for row in rows if row.status == "ready"]
    unfinished = any(row.status in ("queued", "running") for row in rows)
    if unfinished or not done or now - rows[0].ended > FRESH:
        return
    if db.execute(_NEWER, {"after": f"daily/{(day + timedelta(days=1)).isoformat()}"}).scalar_one():
        return
    people = db.execute(_SUBSCRIBERS).all()
    to = [Recipient(row.email, row.name, row.timezone, user_id=row.id) for row in people if row.by_mail]
    emails.queue_daily_report(db, done, title=REPORTS[TYPES[0]].title, day=f"daily/{day.isoformat()}", to=to, now=now)
    notices = [
        Notice(
            category="daily_report",
            title="The daily report is ready",
            body=f"The dashboard of {day.isoformat()} can be downloaded.",
            dedupe_key=f"daily/{day.isoformat()}/{row.id}",
            user_id=row.id,
            data={"report_ids": [str(id_) for id_ in done], "date": day.isoformat()},
        )
        for row in people
    ]
    notify(db, notices, now=now)
