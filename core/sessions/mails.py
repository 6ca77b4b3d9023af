"""The mails that a changed session queues (docs/domain.md, "Who is notified"), in the transaction of the change.

The session is locked first, its mails last, so that no two transactions that change it wait for each other.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from core import emails
from core.emails import QueuedMail
from core.models import Email, SessionStatus
from core.notifications.system import notify_mail_trouble
from core.sessions.snapshot import SessionSnapshot


def mail_created(db: Session, session_id: UUID, *, now: datetime) -> None:
    """Queue the invitations to a session that was just created."""
    _queue_and_check(db, emails.queue_interview_invitation(db, session_id, now=now), now)


def mail_moves(db: Session, moves: Iterable[tuple[UUID, SessionStatus, str | None]], *, now: datetime) -> None:
    """Queue the mails of moves, each given as session id, new status and the reason given."""
    completed = []
    for session_id, status, reason in moves:
        if status == "completed":
            completed.append(session_id)
        elif status == "scheduled":
            emails.withdraw(db, session_id, why="the session has a time now")
            _queue_and_check(db, emails.queue_interview_invitation(db, session_id, now=now), now)
        elif status == "cancelled":
            emails.withdraw(db, session_id, why="the session was cancelled")
            _queue_and_check(db, emails.queue_interview_cancellation(db, session_id, now=now, reason=reason), now)
    if completed:
        _queue_and_check(db, emails.queue_interview_complete(db, completed, now=now), now)


def mail_rescheduled(db: Session, before: SessionSnapshot, *, now: datetime, reason: str | None) -> None:
    """Queue the mails of a new time or interviewer; unsent mails of the older schedule are cancelled."""
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
    _queue_and_check(db, queued, now)


def mail_removal(db: Session, before: SessionSnapshot, interviewer_id: int | None, *, now: datetime) -> None:
    """Queue the removal notice to an interviewer who is replaced or removed when the session is scheduled."""
    if before.interviewer_id not in (None, interviewer_id):
        _queue_and_check(db, emails.queue_removal_notice(db, before.id, before.interviewer_id, now=now), now)


def _queue_and_check(db: Session, mails: Iterable[QueuedMail], now: datetime) -> None:
    """Notify admins of mails that could not be rendered, and so were stored as dead."""
    for mail in mails:
        if mail.new and mail.status == "dead":
            notify_mail_trouble(db, db.get_one(Email, mail.id), now=now)
