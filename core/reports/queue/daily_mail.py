"""Sends the daily reports to their subscribers: at most one mail and one notification a day to each.

Subscribers by mail get both, unless they turned the notification off; subscribers in the app get the notification only.

Sent for the newest day only, and only until MAX_AGE: days that are backfilled can be found in the list of reports, and
cause no mails.
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

MAX_AGE = timedelta(hours=48)
"""How long after its end a day's reports are still sent."""

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
    """Lock all reports of the claimed report's day until the commit; False when it is not a daily report.

    So that of two that are completed at the same time, the second sees the first.
    """
    day = day_of(claimed.dedupe_key)
    if day is None:
        return False
    db.execute(_LOCK, _keys(day))
    return True


def _keys(day: Day) -> dict[str, str]:
    return {"keys": array([daily_key(day, kind) for kind in TYPES])}


def notify_subscribers(db: Session, claimed: ClaimedReport, *, now: datetime) -> None:
    """Mail the day's reports to their subscribers, and notify them, once all reports of the day are ready or failed."""
    day = day_of(claimed.dedupe_key)
    if day is None:
        return
    rows = db.execute(_DAY, _keys(day)).all()
    done: list[UUID] = [row.id for row in rows if row.status == "ready"]
    unfinished = any(row.status in ("queued", "running") for row in rows)
    if unfinished or not done or now - rows[0].ended > MAX_AGE:
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
