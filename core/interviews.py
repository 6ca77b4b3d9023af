"""Interviews: the templates of sessions, each with its questions."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

from psycopg import errors as pg
from pydantic import Field
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from core.db import array
from core.errors import Conflict, Invalid, NotFound
from core.fields import Id, Input, Line, Minutes, Prose, changed_fields
from core.models import Interview, InterviewSession, Question
from core.viewers import STAFF, Viewer, require

Offset = Annotated[int, Field(ge=15, le=30 * 1440)]
Ratio = Annotated[Decimal, Field(ge=0, le=1, max_digits=4, decimal_places=3)]
Percent = Annotated[Decimal, Field(ge=0, le=100, max_digits=5, decimal_places=2)]
Hours = Annotated[int, Field(ge=1, le=24 * 90)]


class QuestionIn(Input):
    """One question; with ``id`` an existing one."""

    id: Id | None = None
    text: Prose
    skill: Line
    required: bool = True
    weight: Annotated[Decimal, Field(gt=0, le=999, max_digits=6, decimal_places=3)] = Decimal(1)
    max_score: Annotated[Decimal, Field(gt=0, le=9999, max_digits=6, decimal_places=2)] = Decimal(5)


Offsets = Annotated[tuple[Offset, ...], Field(max_length=10)]
Questions = Annotated[tuple[QuestionIn, ...], Field(max_length=200)]


class NewInterview(Input):
    """An interview to create; the ``…_minutes`` are the time limits of the status rules."""

    title: Line
    position: Line
    duration_minutes: Minutes = 60
    reminder_offsets: Offsets = (1440, 60)
    no_show_minutes: Minutes = 15
    idle_minutes: Minutes = 10
    resume_minutes: Minutes = 30
    overrun_minutes: Minutes = 30
    completion_ratio: Ratio = Decimal("0.8")
    pass_score: Percent = Decimal(60)
    feedback_deadline_hours: Hours = 48
    questions: Questions = ()


class InterviewPatch(Input):
    """The fields of an interview that may be changed; ``questions`` is the whole new list, in order."""

    title: Line | None = None
    position: Line | None = None
    duration_minutes: Minutes | None = None
    reminder_offsets: Offsets | None = None
    no_show_minutes: Minutes | None = None
    idle_minutes: Minutes | None = None
    resume_minutes: Minutes | None = None
    overrun_minutes: Minutes | None = None
    completion_ratio: Ratio | None = None
    pass_score: Percent | None = None
    feedback_deadline_hours: Hours | None = None
    questions: Questions | None = None


def create(db: Session, given: NewInterview, *, by: Viewer) -> Interview:
    """Create an interview with its questions. Raises Forbidden and Invalid."""
    require(by, *STAFF)
    for place, question in enumerate(given.questions):
        if question.id is not None:
            raise Invalid(f"questions.{place}.id", "a new interview's questions have no id yet")
    interview = Interview(**_columns(given.model_dump(exclude={"questions"})))
    db.add(interview)
    db.flush()
    _write_questions(db, interview.id, given.questions)
    return get(db, interview.id, by=by)


def change(db: Session, interview_id: int, given: InterviewPatch, *, by: Viewer) -> Interview:
    """Change an interview; the new minutes apply to its unfinished sessions from the next sweep on.

    The scheduled end of a session stays. Raises Forbidden, NotFound, Invalid, and Conflict when a question to be
    removed has answers.
    """
    require(by, *STAFF)
    query = select(Interview).where(Interview.id == interview_id, Interview.deleted_at.is_(None))
    if db.scalar(query.with_for_update()) is None:
        raise NotFound("interview", interview_id)
    named = changed_fields(given, set())
    questions: tuple[QuestionIn, ...] | None = named.pop("questions", None)
    if named:
        db.execute(update(Interview).where(Interview.id == interview_id).values(**_columns(named)))
        swept = (InterviewSession.interview_id == interview_id, InterviewSession.sweep_at.is_not(None))
        # by id, as everywhere: two transactions that lock the same sessions must not wait for each other
        locked = select(InterviewSession.id).where(*swept).order_by(InterviewSession.id).with_for_update()
        ids = db.scalars(locked).all()
        wake_sweep = update(InterviewSession).where(text("sessions.id = ANY(CAST(:ids AS uuid[]))"))
        db.execute(wake_sweep.values(sweep_at=text("to_timestamp(0)")), {"ids": array(ids)})
    if questions is not None:
        _replace_questions(db, interview_id, questions)
    return get(db, interview_id, by=by)


def get(db: Session, interview_id: int, *, by: Viewer) -> Interview:
    """One interview with its questions. Raises Forbidden and NotFound."""
    require(by, *STAFF)
    query = select(Interview).where(Interview.id == interview_id, Interview.deleted_at.is_(None))
    options = {"populate_existing": True}
    found = db.scalar(query.options(selectinload(Interview.questions)), execution_options=options)
    if found is None:
        raise NotFound("interview", interview_id)
    return found


def page(db: Session, *, by: Viewer, after: int, limit: int) -> Sequence[Interview]:
    """Interviews with their questions by id, after the given one."""
    require(by, *STAFF)
    query = select(Interview).where(Interview.deleted_at.is_(None), Interview.id > after)
    return db.scalars(query.options(selectinload(Interview.questions)).order_by(Interview.id).limit(limit)).all()


def _columns(named: dict[str, Any]) -> dict[str, Any]:
    offsets = named.get("reminder_offsets")
    return named if offsets is None else named | {"reminder_offsets": sorted(set(offsets), reverse=True)}


def _write_questions(db: Session, interview_id: int, questions: Sequence[QuestionIn]) -> None:
    for place, question in enumerate(questions, start=1):
        db.add(Question(interview_id=interview_id, ordinal=place, **question.model_dump(exclude={"id"})))
    db.flush()


def _replace_questions(db: Session, interview_id: int, questions: Sequence[QuestionIn]) -> None:
    kept = {q.id: q for q in db.scalars(select(Question).where(Question.interview_id == interview_id))}
    named = [question.id for question in questions if question.id is not None]
    for place, question in enumerate(questions):
        if question.id is not None and (question.id not in kept or named.count(question.id) > 1):
            raise Invalid(
                f"questions.{place}.id", f"{question.id} is not a question of this interview, or is named twice"
            )
    try:
        with db.begin_nested():
            _order_questions(db, kept, named)
            for place, question in enumerate(questions, start=1):
                values = question.model_dump(exclude={"id"})
                if question.id is None:
                    db.add(Question(interview_id=interview_id, ordinal=place, **values))
                else:
                    for name, value in (values | {"ordinal": place}).items():
                        setattr(kept[question.id], name, value)
            db.flush()
    except IntegrityError as error:
        if isinstance(error.orig, pg.ForeignKeyViolation):
            raise Conflict("A question that has answers cannot be left out.", interview_id=interview_id) from error
        raise


def _order_questions(db: Session, kept: dict[int, Question], named: Sequence[int]) -> None:
    """Delete the questions not named; move the others past all ordinals in use, which are unique at every moment."""
    for id_, question in kept.items():
        if id_ not in named:
            db.delete(question)
    beyond = max((q.ordinal for q in kept.values()), default=0) + len(kept) + 200
    for place, id_ in enumerate(named):
        kept[id_].ordinal = beyond + place
    db.flush()
