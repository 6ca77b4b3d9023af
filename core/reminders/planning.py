"""Plans and voids reminders in the transaction that changes the schedule.

Callers hold the sessions' locks. All lock in the same order: sessions, then their reminders, then their mails.
"""

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import outbox
from core.db import array, insert_many
from core.emails.content import times
from core.models import Reminder
from core.reminders.windows import QuietHours, window

TOO_LATE = "too late"
"""The reason of a skipped reminder that was already past when it was planned."""

# A candidate who cannot sign in has no quiet hours.
_SCHEDULES = text("""
    SELECT s.id, s.schedule_version, s.scheduled_start, i.reminder_offsets, party,
           u.quiet_from, u.quiet_until, u.timezone
    FROM sessions s
    JOIN interviews i ON i.id = s.interview_id
    JOIN candidates c ON c.id = s.candidate_id
    CROSS JOIN (VALUES ('candidate'), ('interviewer')) AS parties(party)
    LEFT JOIN users u ON u.id = CASE party WHEN 'candidate' THEN c.user_id ELSE s.interviewer_id END
    WHERE s.id = ANY(CAST(:ids AS uuid[])) AND s.status = 'scheduled' AND s.deleted_at IS NULL
        AND (party = 'candidate' OR s.interviewer_id IS NOT NULL)
    ORDER BY s.id, party
""")


def plan(db: Session, session_ids: Sequence[UUID], *, now: datetime) -> int:
    """Plan the reminders of these locked sessions, where they are scheduled; returns how many were new.

    One that is already past is stored as ``skipped: too late``.
    """
    if not session_ids:
        return 0
    db.flush()
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for session_id, version, start, offsets, party, *quiet in db.execute(_SCHEDULES, {"ids": array(session_ids)}):
        for offset in sorted(set(offsets), reverse=True):
            due_at, send_by = window(start, timedelta(minutes=offset), quiet_hours(*quiet))
            late = due_at < now
            row = (session_id, version, party, offset, due_at, send_by, "skipped" if late else "planned")
            for name, value in zip(_COLUMNS, (*row, TOO_LATE if late else None), strict=True):
                columns[name].append(value)
    key = "(session_id, schedule_version, recipient, offset_minutes)"
    inserted = insert_many(db, Reminder, columns, conflict_target=key, returning=("status",))
    if any(status == "planned" for (status,) in inserted):
        outbox.wake(db)
    return len(inserted)


_COLUMNS = (
    "session_id",
    "schedule_version",
    "recipient",
    "offset_minutes",
    "due_at",
    "send_by",
    "status",
    "reason",
)

_VOID = text("""
    UPDATE reminders SET status = 'void', reason = :why
    WHERE session_id = ANY(CAST(:ids AS uuid[])) AND status = 'planned'
""")


def void(db: Session, session_ids: Sequence[UUID], *, why: str) -> None:
    """Void the planned reminders of these locked sessions, a thousand in one statement."""
    if session_ids:
        db.execute(_VOID, {"ids": array(session_ids), "why": why})


def replan(db: Session, session_id: UUID, *, now: datetime) -> None:
    """Void the planned reminders of a rescheduled session's older time, and plan those of the new one."""
    void(db, [session_id], why="the session was rescheduled")
    plan(db, [session_id], now=now)


def quiet_hours(begin: time | None, end: time | None, zone: str | None) -> QuietHours | None:
    """The quiet hours in a user's row; None: they have none."""
    return QuietHours(begin, end, times.zone(zone)) if begin and end and zone else None
