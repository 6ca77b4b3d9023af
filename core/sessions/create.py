"""Creates a session: the candidate is invited, or the session is scheduled at once."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import outbox, reminders
from core.clock import uuid7
from core.errors import Invalid
from core.events import SessionCreated
from core.fields import Id, Input, Moment
from core.models import OPEN, Candidate, Interview, InterviewSession
from core.notifications import notify
from core.sessions.conflicts import translate_conflicts
from core.sessions.deadlines import next_check
from core.sessions.mails import mail_created
from core.sessions.notices import session_notices
from core.sessions.schedule import check_future, check_interviewer, record, set_columns
from core.sessions.snapshot import lock
from core.viewers import STAFF, Viewer, require

INVITATION_DAYS = 14


class NewSession(Input):
    """A session to create: with a start it is scheduled, without one the candidate is invited."""

    candidate_id: Id
    interview_id: Id
    interviewer_id: Id | None = None
    scheduled_start: Moment | None = None
    invitation_expires_at: Moment | None = None
    retry_of: UUID | None = None


def create(db: Session, given: NewSession, *, by: Viewer, now: datetime) -> UUID:
    """Invite the candidate, or schedule the session when a start is given.

    Raises Forbidden, Invalid (unknown ids, a time in the past), AlreadyOpen and DoubleBooked.
    """
    require(by, *STAFF)
    interview = db.scalar(select(Interview).where(Interview.id == given.interview_id, Interview.deleted_at.is_(None)))
    if interview is None:
        raise Invalid("interview_id", f"there is no interview {given.interview_id}")
    if not db.scalar(select(Candidate.id).where(Candidate.id == given.candidate_id, Candidate.deleted_at.is_(None))):
        raise Invalid("candidate_id", f"there is no candidate {given.candidate_id}")
    check_interviewer(db, given.interviewer_id)
    check_future("scheduled_start", given.scheduled_start, now)
    check_future("invitation_expires_at", given.invitation_expires_at, now)
    _check_retry(db, given)

    start, session_id = given.scheduled_start, uuid7(now)
    end = start + timedelta(minutes=interview.duration_minutes) if start else None
    expires = given.invitation_expires_at or (None if start else now + timedelta(days=INVITATION_DAYS))
    with translate_conflicts(
        db, session_id, given.candidate_id, given.interview_id, busy=(given.interviewer_id, start, end)
    ):
        db.add(
            InterviewSession(
                id=session_id,
                candidate_id=given.candidate_id,
                interview_id=given.interview_id,
                interviewer_id=given.interviewer_id,
                recruiter_id=by.id,
                status="scheduled" if start else "invited",
                status_at=now,
                scheduled_start=start,
                scheduled_end=end,
                invitation_expires_at=expires,
                ics_uid=f"{session_id}@greenroom",
                retry_of=given.retry_of,
                created_at=now,
            )
        )
        db.flush()
    created = lock(db, session_id)
    set_columns(db, created, sweep_at=next_check(created))
    record(db, created, "created", by, now, reason=None, data={})
    outbox.publish(
        db,
        SessionCreated(
            session_id=session_id,
            status=created.status,
            candidate_id=created.candidate_id,
            interview_id=created.interview_id,
            interviewer_id=created.interviewer_id,
            scheduled_start=start,
            scheduled_end=end,
            schedule_version=created.schedule_version,
            invitation_expires_at=expires,
            retry_of=given.retry_of,
        ),
    )
    reminders.plan(db, [session_id], now=now)
    mail_created(db, session_id, now=now)
    notify(db, list(session_notices(created, created.status, now=now)), now=now)
    return session_id


def _check_retry(db: Session, given: NewSession) -> None:
    if given.retry_of is None:
        return
    old = db.scalar(select(InterviewSession).where(InterviewSession.id == given.retry_of))
    if old is None or (old.candidate_id, old.interview_id) != (given.candidate_id, given.interview_id):
        raise Invalid("retry_of", f"{given.retry_of} is no session of this candidate and interview")
    if old.status in OPEN:
        raise Invalid("retry_of", f"session {old.id} is still {old.status}")
