"""Activity, answers and feedback of one session."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import outbox
from core.errors import Conflict, Forbidden, Invalid
from core.events import SessionUpdated
from core.fields import Id, Input, Prose
from core.models import Answer, Feedback, InterviewSession, Question, SessionEvent
from core.sessions.apply_moves import completion_scores
from core.sessions.moves import ENDED
from core.sessions.snapshot import SessionSnapshot, lock
from core.viewers import Viewer

PUSH_EVERY = timedelta(minutes=1)


class NewAnswer(Input):
    """The answer to one question: the text is the candidate's; ``source`` says whether the AI or a person scores it."""

    question_id: Id
    text: Prose | None = None
    score: Annotated[Decimal, Field(ge=0, max_digits=6, decimal_places=2)] | None = None
    seconds: Annotated[int, Field(ge=0, le=86_400)] | None = None
    source: Literal["ai", "human"] | None = None


class NewFeedback(Input):
    """The interviewer's recommendation."""

    recommendation: Literal["strong_no", "no", "yes", "strong_yes"]
    comment: Prose | None = None


def note_activity(db: Session, session_id: UUID, *, by: Viewer, now: datetime) -> None:
    """Store that a session in progress is active now, and push it at most once a minute.

    ``sweep_at`` is not updated: it is a lower bound, and this is the most frequent write of all.
    Raises NotFound, Forbidden and Conflict.
    """
    s = lock(db, session_id)
    _require_actor(s.actor(by), "candidate", "activity is reported by")
    if s.status != "in_progress":
        raise Conflict(f"Session {s.id} is {s.status}; activity is stored only while it is in progress.", old=s.status)
    _store_activity(db, s, now)


def answer(db: Session, session_id: UUID, answers: Sequence[NewAnswer], *, by: Viewer, now: datetime) -> None:
    """Store answers and scores; they replace earlier ones to the same question from the same source.

    A candidate answers while the session is in progress and gives no scores; the interviewer may score then, while
    it is interrupted and after it ended. Raises NotFound, Forbidden, Conflict and Invalid (naming the question).
    """
    s = lock(db, session_id)
    actor = s.actor(by)
    if actor not in ("candidate", "interviewer"):
        raise Forbidden(f"Answers come from the session's candidate or interviewer; you are {actor}.")
    if s.status != "in_progress" and (actor == "candidate" or s.status not in ("interrupted", *ENDED)):
        raise Conflict(f"Session {s.id} is {s.status}; answers are taken while it is in progress.", old=s.status)
    _check(db, s, answers, actor)
    for given in answers:
        source = given.source or ("ai" if actor == "candidate" else "human")
        row = insert(Answer).values(
            session_id=s.id,
            question_id=given.question_id,
            source=source,
            text=given.text,
            score=given.score,
            seconds=given.seconds,
            scored_by=by.id if source == "human" and given.score is not None else None,
            answered_at=now,
        )
        kept: dict[str, ColumnElement[Any]] = {name: row.excluded[name] for name in ("scored_by", "answered_at")}
        # A later score must not erase an earlier text, nor the other way round.
        kept |= {
            name: func.coalesce(row.excluded[name], getattr(Answer, name)) for name in ("text", "score", "seconds")
        }
        db.execute(
            row.on_conflict_do_update(index_elements=[Answer.session_id, Answer.question_id, Answer.source], set_=kept)
        )
    if actor == "candidate":
        _store_activity(db, s, now)
    if s.status == "completed":
        score = completion_scores(db, [s.id]).get(s.id)
        db.execute(update(InterviewSession).where(InterviewSession.id == s.id).values(score=score))
    outbox.publish(db, SessionUpdated(session_id=s.id, changed=("answers",)))


def give_feedback(db: Session, session_id: UUID, given: NewFeedback, *, by: Viewer, now: datetime) -> None:
    """Store the interviewer's recommendation for a session that has ended; it replaces an earlier one.

    Raises NotFound, Forbidden and Conflict.
    """
    s = lock(db, session_id)
    _require_actor(s.actor(by), "interviewer", "feedback comes from")
    if s.status not in ENDED:
        raise Conflict(f"Session {s.id} is {s.status}; feedback is given once it has ended.", old=s.status)
    row = insert(Feedback).values(
        session_id=s.id,
        interviewer_id=by.id,
        recommendation=given.recommendation,
        comment=given.comment,
        submitted_at=now,
    )
    # The time of the first submission stays: whether feedback is in time is measured by it.
    changed = {name: row.excluded[name] for name in ("recommendation", "comment")}
    db.execute(row.on_conflict_do_update(index_elements=[Feedback.session_id, Feedback.interviewer_id], set_=changed))
    data = {"recommendation": given.recommendation}
    db.add(SessionEvent(session_id=s.id, kind="feedback", actor="interviewer", actor_id=by.id, data=data, at=now))
    outbox.publish(db, SessionUpdated(session_id=s.id, changed=("feedback",)))


def mark_opened(db: Session, session_id: UUID, *, by: Viewer, now: datetime) -> bool:
    """Store when the candidate first opened their session; True the first time."""
    if by.role != "candidate":
        return False
    opened = db.execute(
        update(InterviewSession)
        .where(InterviewSession.id == session_id, InterviewSession.opened_at.is_(None))
        .values(opened_at=now)
    )
    if opened.rowcount:  # type: ignore[attr-defined]
        outbox.publish(db, SessionUpdated(session_id=session_id, changed=("opened_at",)))
    return bool(opened.rowcount)  # type: ignore[attr-defined]


def _require_actor(actor: str, allowed: str, what: str) -> None:
    if actor != allowed:
        raise Forbidden(f"The {what} the session's {allowed}; you are {actor}.")


def _store_activity(db: Session, s: SessionSnapshot, now: datetime) -> None:
    values: dict[str, datetime] = {"last_activity_at": now}
    if s.activity_pushed_at is None or now - s.activity_pushed_at >= PUSH_EVERY:
        values["activity_pushed_at"] = now
        outbox.publish(db, SessionUpdated(session_id=s.id, changed=("last_activity_at",), last_activity_at=now))
    db.execute(update(InterviewSession).where(InterviewSession.id == s.id).values(**values))


def _check(db: Session, s: SessionSnapshot, answers: Sequence[NewAnswer], actor: str) -> None:
    known = {q.id: q for q in db.scalars(select(Question).where(Question.interview_id == s.interview_id))}
    for place, given in enumerate(answers):
        question = known.get(given.question_id)
        if question is None:
            raise Invalid(f"answers.{place}.question_id", f"{given.question_id} is no question of this interview")
        if given.score is not None and given.score > question.max_score:
            raise Invalid(f"answers.{place}.score", f"is more than the question's {question.max_score}")
        if actor == "candidate" and (given.score is not None or given.source == "human"):
            raise Forbidden("A candidate answers; scores come from the interviewer or the AI.")
