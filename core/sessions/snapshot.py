"""SessionSnapshot: all that the rules need to know of a session, read by one query, for one session or a thousand."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Select, select, true
from sqlalchemy.orm import Session

from core.errors import NotFound
from core.models import Candidate, Feedback, Interview, InterviewSession, SessionStatus, User
from core.sessions.moves import Actor
from core.viewers import Viewer


class SessionSnapshot(NamedTuple):
    """A session with the time limits of its interview, its candidate and its interviewer; minutes are whole."""

    id: UUID
    status: SessionStatus
    status_at: datetime
    candidate_id: int
    candidate_user_id: int | None
    candidate_name: str
    interview_id: int
    title: str
    interviewer_id: int | None
    scheduled_start: datetime | None
    scheduled_end: datetime | None
    schedule_version: int
    invitation_expires_at: datetime | None
    started_at: datetime | None
    last_activity_at: datetime | None
    activity_pushed_at: datetime | None
    ended_at: datetime | None
    late_version: int | None
    feedback_overdue_at: datetime | None
    has_feedback: bool
    sweep_at: datetime | None
    duration_minutes: int
    no_show_minutes: int
    idle_minutes: int
    resume_minutes: int
    overrun_minutes: int
    feedback_deadline_hours: int
    candidate_zone: str = "UTC"
    interviewer_zone: str | None = None

    def actor(self, viewer: Viewer) -> Actor:
        """The viewer's role in this session. Raises NotFound when they may not see it."""
        if viewer.role in ("admin", "recruiter"):
            return viewer.role
        if viewer.role == "interviewer" and viewer.id == self.interviewer_id:
            return "interviewer"
        if viewer.role == "candidate" and viewer.id == self.candidate_user_id:
            return "candidate"
        raise NotFound("session", self.id)


_s, _i = InterviewSession, Interview
# With LIMIT, each is an index lookup for each session; without, the planner may read all candidates and all feedback
# for a thousand sessions.
_person = (
    select(Candidate.user_id, Candidate.name, Candidate.timezone)
    .where(Candidate.id == _s.candidate_id)
    .limit(1)
    .lateral("candidate")
)
_zone = select(User.timezone).where(User.id == _s.interviewer_id).limit(1).scalar_subquery()
_feedback = select(Feedback.session_id).where(Feedback.session_id == _s.id).limit(1).scalar_subquery()

SNAPSHOT_QUERY: Select[tuple[object, ...]] = (
    select(
        _s.id,
        _s.status,
        _s.status_at,
        _s.candidate_id,
        _person.c.user_id,
        _person.c.name,
        _s.interview_id,
        _i.title,
        _s.interviewer_id,
        _s.scheduled_start,
        _s.scheduled_end,
        _s.schedule_version,
        _s.invitation_expires_at,
        _s.started_at,
        _s.last_activity_at,
        _s.activity_pushed_at,
        _s.ended_at,
        _s.late_version,
        _s.feedback_overdue_at,
        _feedback.is_not(None),
        _s.sweep_at,
        _i.duration_minutes,
        _i.no_show_minutes,
        _i.idle_minutes,
        _i.resume_minutes,
        _i.overrun_minutes,
        _i.feedback_deadline_hours,
        _person.c.timezone,
        _zone,
    )
    .select_from(_s)
    .join(_person, true())
    .join(_i, _i.id == _s.interview_id)
    .where(_s.deleted_at.is_(None))
)


def to_snapshots(rows: Sequence[Sequence[object]]) -> list[SessionSnapshot]:
    """The rows of ``SNAPSHOT_QUERY`` as snapshots."""
    return list(map(SessionSnapshot._make, rows))


def lock(db: Session, session_id: UUID) -> SessionSnapshot:
    """One session, locked until the transaction ends. Raises NotFound."""
    row = db.execute(SNAPSHOT_QUERY.where(_s.id == session_id).with_for_update(of=_s)).one_or_none()
    if row is None:
        raise NotFound("session", session_id)
    return SessionSnapshot._make(row)


def read_snapshot(db: Session, session_id: UUID) -> SessionSnapshot:
    """One session, not locked. Raises NotFound."""
    row = db.execute(SNAPSHOT_QUERY.where(_s.id == session_id)).one_or_none()
    if row is None:
        raise NotFound("session", session_id)
    return SessionSnapshot._make(row)


def with_interviewer(db: Session, s: SessionSnapshot, interviewer_id: int | None) -> SessionSnapshot:
    """The session with this interviewer, or with none."""
    zone = db.scalar(select(User.timezone).where(User.id == interviewer_id))
    return s._replace(interviewer_id=interviewer_id, interviewer_zone=zone)
