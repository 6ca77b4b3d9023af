"""Who is mailed when a session changes (DOMAIN, "Who is told what"): after its row, in the same transaction.

The session is locked first, its mails last, so that no two who change it wait for each other.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from core import emails
from core.emails import Queued
from core.models import Email, SessionStatus
from core.notifications.system import notify_mail_trouble
from core.sessions.snapshot import SessionSnapshot


def mail_created(db: Session, session_id: UUID, *, now: datetime) -> None:
    """The invitation to a session that was just made."""
    _queued(db, emails.queue_interview_invitation(db, session_id, now=now), now)


def mail_moves(db: Session, moves: Iterable[tuple[UUID, SessionStatus, str | None]], *, now: datetime) -> None:
    """The mails of moves: each the session, its new status and the reason that was given."""
    completed = []
    for session_id, status, reason in moves:
        if status == "completed":
            completed.append(session_id)
        elif status == "scheduled":
            emails.withdraw(db, session_id, why="the session has a time now")
            _queued(db, emails.queue_interview_invitation(db, session_id, now=now), now)
        elif status == "cancelled":
            emails.withdraw(db, session_id, why="the session was cancelled")
            _queued(db, emails.queue_interview_cancellation(db, session_id, now=now, reason=reason), now)
    if completed:
        _queued(db, emails.queue_interview_complete(db, completed, now=now), now)


def mail_rescheduled(db: Session, before: SessionSnapshot, *, now: datetime, reason: str | None) -> None:
    """The mails of a new time or interviewer; what was not sent of the older schedule is taken back."""
    missed = emails.withdraw(db, before.id, why="the session was rescheduled")
    queued = emails.queue_interview_reschedule(
        db,
        before.id,
        now=now,
        previous_start=before.scheduled_start,
        previous_interviewer_id=before.interviewer_id,
        missed=missed,
        reason=reason,
    )
    _queued(db, queued, now)


def mail_replaced(db: Session, before: SessionSnapshot, interviewer_id: int | None, *, now: datetime) -> None:
    """The farewell to an interviewer whom somebody else, or nobody, replaces as the session is scheduled."""
    if before.interviewer_id not in (None, interviewer_id):
        _queued(db, emails.queue_removal_notice(db, before.id, before.interviewer_id, now=now), now)


def _queued(db: Session, mails: Iterable[Queued], now: datetime) -> None:
    """Admins hear of those that could not even be written."""
    for mail in mails:
        if mail.new and mail.status == "dead":
            notify_mail_trouble(db, db.get_one(Email, mail.id), now=now)
