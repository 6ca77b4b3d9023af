"""Queries of sessions that the viewer may see: one, a page, and a session's history."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, select, true
from sqlalchemy.orm import Session

from core.errors import Forbidden, NotFound
from core.fields import Id, Input, Moment
from core.models import Candidate, InterviewSession, SessionEvent, SessionStatus
from core.sessions.snapshot import read_snapshot
from core.viewers import STAFF, Viewer

_s = InterviewSession
_SHOWN_TO_CANDIDATES = ("created", "moved", "corrected", "rescheduled", "late")


class SessionFilter(Input):
    """Which sessions to list; the scheduled start lies in ``[start, end)``."""

    status: tuple[SessionStatus, ...] = ()
    candidate_id: Id | None = None
    interviewer_id: Id | None = None
    interview_id: Id | None = None
    start: Moment | None = None
    end: Moment | None = None


def get(db: Session, session_id: UUID, *, by: Viewer) -> InterviewSession:
    """One session. Raises NotFound, also when the viewer may not see it."""
    query = select(_s).where(_s.id == session_id, _s.deleted_at.is_(None), _visible(by))
    found = db.scalar(query.execution_options(populate_existing=True))
    if found is None:
        raise NotFound("session", session_id)
    return found


def may_follow(db: Session, session_id: UUID, *, by: Viewer) -> None:
    """Raise Forbidden unless the viewer may subscribe to the session; NotFound, to staff, when there is none."""
    try:
        read_snapshot(db, session_id).actor(by)
    except NotFound:
        if by.role in STAFF:
            raise
        raise Forbidden(f"Session {session_id} is not yours to follow.") from None


def page(
    db: Session, where: SessionFilter, *, by: Viewer, after: UUID | None, limit: int
) -> Sequence[InterviewSession]:
    """Sessions the viewer may see, newest first, after the given one."""
    query = select(_s).where(_s.deleted_at.is_(None), _visible(by)).order_by(_s.id.desc()).limit(limit)
    if after is not None:
        query = query.where(_s.id < after)
    if where.status:
        query = query.where(_s.status.in_(where.status))
    for column, wanted in (
        (_s.candidate_id, where.candidate_id),
        (_s.interviewer_id, where.interviewer_id),
        (_s.interview_id, where.interview_id),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    if where.start is not None:
        query = query.where(_s.scheduled_start >= where.start)
    if where.end is not None:
        query = query.where(_s.scheduled_start < where.end)
    return db.scalars(query).all()


def history(db: Session, session_id: UUID, *, by: Viewer, after: int, limit: int) -> Sequence[SessionEvent]:
    """The history of a session, oldest first, after the given entry. Raises NotFound.

    Candidates see moves and schedules, but no decisions and feedback.
    """
    get(db, session_id, by=by)
    query = select(SessionEvent).where(SessionEvent.session_id == session_id, SessionEvent.id > after)
    if by.role == "candidate":
        query = query.where(SessionEvent.kind.in_(_SHOWN_TO_CANDIDATES))
    return db.scalars(query.order_by(SessionEvent.id).limit(limit)).all()


def _visible(by: Viewer) -> ColumnElement[bool]:
    if by.role in STAFF:
        return true()
    if by.role == "interviewer":
        return _s.interviewer_id == by.id
    return _s.candidate_id.in_(select(Candidate.id).where(Candidate.user_id == by.id))
