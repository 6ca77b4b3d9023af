"""Moves planned reminders when the quiet hours or the zone of their recipient change."""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from core import outbox
from core.db import array
from core.reminders.planning import TOO_LATE, quiet_hours
from core.reminders.windows import MIN_MOVABLE_OFFSET, window

T = TypeVar("T")

_MOVABLE_MINUTES = int(MIN_MOVABLE_OFFSET.total_seconds()) // 60
_REMINDED_SESSIONS = f"""
    SELECT s.id FROM sessions s
    WHERE s.id IN ({{}}) AND s.status = 'scheduled' AND s.deleted_at IS NULL AND EXISTS (
        SELECT FROM reminders r
        WHERE r.session_id = s.id AND r.status = 'planned' AND r.offset_minutes >= {_MOVABLE_MINUTES}
    )
    ORDER BY s.id
"""  # noqa: S608 - made of the constants of this module
_USER = _REMINDED_SESSIONS.format("""
    SELECT id FROM sessions WHERE interviewer_id = :id
    UNION ALL
    SELECT sessions.id FROM candidates c JOIN sessions ON sessions.candidate_id = c.id WHERE c.user_id = :id
""")
_CANDIDATE = _REMINDED_SESSIONS.format("SELECT id FROM sessions WHERE candidate_id = :id")
_LOCK = " FOR UPDATE OF s"
_THEIR_CANDIDATE = text("SELECT FROM candidates WHERE user_id = :id FOR UPDATE")


def lock_user(db: Session, user_id: int, lock: Callable[[], T]) -> tuple[T, Collection[UUID]]:
    """Lock the sessions with planned reminders to this user, then the user by ``lock``; returns its result and the ids.

    Sessions are locked before people everywhere. Once the user is locked, no one can plan with their older hours.
    """

    def locked() -> T:
        db.execute(_THEIR_CANDIDATE, {"id": user_id})
        return lock()

    return _lock(db, _USER, user_id, locked)


def lock_candidate(db: Session, candidate_id: int, lock: Callable[[], T]) -> tuple[T, Collection[UUID]]:
    """The same for a candidate, whose ``user_id`` (and with it the quiet hours) may be set or removed."""
    return _lock(db, _CANDIDATE, candidate_id, lock)


def _lock(db: Session, query: str, id_: int, lock: Callable[[], T]) -> tuple[T, Collection[UUID]]:
    while True:
        with db.begin_nested() as attempt:
            sessions = set(db.scalars(text(query + _LOCK), {"id": id_}))
            locked = lock()
            if sessions.issuperset(db.scalars(text(query), {"id": id_})):
                return locked, sessions
            attempt.rollback()  # a session was booked meanwhile; locking it after the person could deadlock


# A candidate who cannot sign in has no quiet hours.
_MOVABLE_REMINDERS: TextClause = text(f"""
    SELECT r.id, r.due_at, r.offset_minutes, s.scheduled_start, u.quiet_from, u.quiet_until, u.timezone
    FROM reminders r
    JOIN sessions s ON s.id = r.session_id
    JOIN candidates c ON c.id = s.candidate_id
    LEFT JOIN users u ON u.id = CASE r.recipient WHEN 'candidate' THEN c.user_id ELSE s.interviewer_id END
    WHERE s.id = ANY(CAST(:ids AS uuid[])) AND r.status = 'planned' AND r.offset_minutes >= {_MOVABLE_MINUTES}
    ORDER BY r.id FOR UPDATE OF r
""")  # noqa: S608 - our own number
_MOVE = text("""
    UPDATE reminders SET
        due_at = changes.due_at, send_by = changes.send_by, status = changes.status, reason = changes.reason
    FROM unnest(CAST(:id AS bigint[]), CAST(:due_at AS timestamptz[]), CAST(:send_by AS timestamptz[]),
                CAST(:status AS text[]), CAST(:reason AS text[])) AS changes(id, due_at, send_by, status, reason)
    WHERE reminders.id = changes.id
""")


def replan_for_quiet_hours(db: Session, session_ids: Collection[UUID], *, now: datetime) -> int:
    """Move the planned reminders of these locked sessions by the new quiet hours; returns how many moved.

    As in ``plan``, one that is then already past becomes ``skipped: too late``.
    """
    if not session_ids:
        return 0
    db.flush()
    columns: dict[str, list[Any]] = {name: [] for name in ("id", "due_at", "send_by", "status", "reason")}
    for id_, previous, offset, start, *quiet in db.execute(_MOVABLE_REMINDERS, {"ids": array(list(session_ids))}):
        due_at, send_by = window(start, timedelta(minutes=offset), quiet_hours(*quiet))
        if due_at != previous:
            late = due_at < now
            row = id_, due_at, send_by, "skipped" if late else "planned", TOO_LATE if late else None
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value)
    if columns["id"]:
        db.execute(_MOVE, {name: array(values) for name, values in columns.items()})
        outbox.wake(db)
    return len(columns["id"])
