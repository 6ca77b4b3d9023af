"""Sessions over HTTP."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field, field_validator, model_validator
from sqlalchemy.orm import Session

from api.deps import Create, Db, LastId, Out, Page, Pages, Viewer
from core import sessions
from core.clock import utcnow
from core.errors import Invalid
from core.fields import Id, Input, Moment
from core.models import InterviewSession, SessionStatus
from core.viewers import Viewer as Viewing

router = APIRouter(prefix="/api/sessions", tags=["sessions"])


class SessionOut(Out):
    """A session; scores, decisions and holds are for staff and the interviewer, and null for the candidate."""

    id: UUID
    status: SessionStatus
    status_at: datetime
    candidate_id: int
    interview_id: int
    interviewer_id: int | None
    recruiter_id: int | None
    scheduled_start: datetime | None
    scheduled_end: datetime | None
    schedule_version: int
    invitation_expires_at: datetime | None
    opened_at: datetime | None
    started_at: datetime | None
    last_activity_at: datetime | None
    ended_at: datetime | None
    no_show_party: str | None
    score: float | None
    decision: str | None
    decided_at: datetime | None
    legal_hold: bool | None
    retry_of: UUID | None
    created_at: datetime


_CONFIDENTIAL = dict.fromkeys(("score", "decision", "decided_at", "legal_hold"))


def _out(row: InterviewSession, viewer: Viewing) -> SessionOut:
    shown = SessionOut.model_validate(row)
    return shown.model_copy(update=_CONFIDENTIAL) if viewer.role == "candidate" else shown


def _shown(db: Session, session_id: UUID, viewer: Viewing) -> SessionOut:
    return _out(sessions.get(db, session_id, by=viewer), viewer)


class SessionEventOut(Out):
    """One entry of a session's history."""

    id: int
    kind: str
    old_status: SessionStatus | None
    new_status: SessionStatus | None
    actor: str
    actor_id: int | None
    reason: str | None
    data: dict[str, Any]
    at: datetime


class Answers(Input):
    """Answers to store together; a single one may come without the list."""

    answers: Annotated[tuple[sessions.NewAnswer, ...], Field(max_length=200)]

    @model_validator(mode="before")
    @classmethod
    def _wrap_single(cls, given: Any) -> Any:
        return {"answers": [given]} if isinstance(given, dict) and "question_id" in given else given

    @field_validator("answers")
    @classmethod
    def _not_empty(cls, given: tuple[sessions.NewAnswer, ...]) -> tuple[sessions.NewAnswer, ...]:
        # Not min_length: one invalid answer would be reported as an empty list, too.
        if not given:
            raise ValueError("must hold at least one answer")
        return given


class StoredOut(BaseModel):
    """The session whose answers or feedback were stored."""

    id: UUID


@router.post("", status_code=201, response_model=SessionOut)
def create_session(given: sessions.NewSession, create: Create) -> Response:
    """Invite a candidate, or schedule the session when a start is given."""

    def make() -> SessionOut:
        session_id = sessions.create(create.db, given, by=create.viewer, now=utcnow())
        return _shown(create.db, session_id, create.viewer)

    return create(make)


def _filter(
    status: Annotated[list[SessionStatus] | None, Query()] = None,
    candidate_id: Id | None = None,
    interviewer_id: Id | None = None,
    interview_id: Id | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
) -> sessions.SessionFilter:
    if start and end and end <= start:
        raise Invalid("end", "must be after start")
    return sessions.SessionFilter(
        status=tuple(status or ()),
        candidate_id=candidate_id,
        interviewer_id=interviewer_id,
        interview_id=interview_id,
        start=start,
        end=end,
    )


Filter = Annotated[sessions.SessionFilter, Depends(_filter)]


@router.get("")
def list_sessions(db: Db, viewer: Viewer, where: Filter, pages: Pages, last_id: LastId) -> Page[SessionOut]:
    """The sessions the viewer may see, newest first."""
    rows = sessions.page(db, where, by=viewer, after=pages.after_uuid(), limit=pages.limit + 1)
    return pages.page(SessionOut, [_out(row, viewer) for row in rows], last_id)


@router.get("/{session_id}")
def read_session(session_id: UUID, db: Db, viewer: Viewer, last_id: LastId) -> SessionOut:
    """One session. The candidate's first GET sets ``opened_at``."""
    shown = _shown(db, session_id, viewer)
    if shown.opened_at is None and sessions.mark_opened(db, session_id, by=viewer, now=utcnow()):
        return _shown(db, session_id, viewer)
    return shown


@router.patch("/{session_id}")
def change_session(session_id: UUID, given: sessions.SessionPatch, db: Db, viewer: Viewer) -> SessionOut:
    """Reschedule a session, or change what is neither its status nor its time."""
    sessions.change(db, session_id, given, by=viewer, now=utcnow())
    return _shown(db, session_id, viewer)


@router.post("/{session_id}/status")
def move_session(session_id: UUID, given: sessions.NewStatus, db: Db, viewer: Viewer) -> SessionOut:
    """Move a session to another status."""
    sessions.move(db, session_id, given, by=viewer, now=utcnow())
    return _shown(db, session_id, viewer)


@router.post("/{session_id}/activity", status_code=204)
def note_activity(session_id: UUID, db: Db, viewer: Viewer) -> None:
    """Record that the candidate is active."""
    sessions.note_activity(db, session_id, by=viewer, now=utcnow())


@router.post("/{session_id}/answers", status_code=201, response_model=StoredOut)
def answer(session_id: UUID, given: Answers, create: Create) -> Response:
    """Store answers and scores."""

    def make() -> StoredOut:
        sessions.answer(create.db, session_id, given.answers, by=create.viewer, now=utcnow())
        return StoredOut(id=session_id)

    return create(make)


@router.post("/{session_id}/feedback", status_code=201, response_model=StoredOut)
def give_feedback(session_id: UUID, given: sessions.NewFeedback, create: Create) -> Response:
    """Store the interviewer's recommendation."""

    def make() -> StoredOut:
        sessions.give_feedback(create.db, session_id, given, by=create.viewer, now=utcnow())
        return StoredOut(id=session_id)

    return create(make)


@router.get("/{session_id}/events")
def read_history(session_id: UUID, db: Db, viewer: Viewer, pages: Pages, last_id: LastId) -> Page[SessionEventOut]:
    """A session's history, oldest first."""
    rows = sessions.history(db, session_id, by=viewer, after=pages.after_id(), limit=pages.limit + 1)
    return pages.page(SessionEventOut, rows, last_id)
