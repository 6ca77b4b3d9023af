"""Interviews (the templates) with their questions, and sessions with their events, answers and feedback."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, get_args
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from core.models.base import Base, BigId, Created, EmptyObject, one_of
from core.models.people import NOT_DELETED, Candidate

SessionStatus = Literal[
    "invited",
    "scheduled",
    "in_progress",
    "interrupted",
    "completed",
    "abandoned",
    "no_show",
    "expired",
    "cancelled",
]
STATUSES: tuple[SessionStatus, ...] = get_args(SessionStatus)
OPEN: tuple[SessionStatus, ...] = ("invited", "scheduled", "in_progress", "interrupted")
BUSY: tuple[SessionStatus, ...] = ("scheduled", "in_progress", "interrupted")


def _status_in(statuses: tuple[str, ...]) -> str:
    return "status IN ({})".format(", ".join(f"'{status}'" for status in statuses))


class Interview(Base):
    """The template of sessions: questions, duration, and the time limits of the status rules, in minutes."""

    __tablename__ = "interviews"

    id: Mapped[BigId]
    title: Mapped[str]
    position: Mapped[str]
    duration_minutes: Mapped[int] = mapped_column(server_default="60")
    reminder_offsets: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default="{1440,60}")
    no_show_minutes: Mapped[int] = mapped_column(server_default="15")
    idle_minutes: Mapped[int] = mapped_column(server_default="10")
    resume_minutes: Mapped[int] = mapped_column(server_default="30")
    overrun_minutes: Mapped[int] = mapped_column(server_default="30")
    completion_ratio: Mapped[Decimal] = mapped_column(Numeric(4, 3), server_default="0.8")
    pass_score: Mapped[Decimal] = mapped_column(Numeric(5, 2), server_default="60")
    feedback_deadline_hours: Mapped[int] = mapped_column(server_default="48")
    created_at: Mapped[Created]
    deleted_at: Mapped[datetime | None]

    questions: Mapped[list["Question"]] = relationship(
        order_by="Question.ordinal", cascade="all, delete-orphan", lazy="raise"
    )

    __table_args__ = (
        CheckConstraint("duration_minutes > 0", name="duration"),
        CheckConstraint("completion_ratio BETWEEN 0 AND 1", name="completion_ratio"),
        CheckConstraint("pass_score BETWEEN 0 AND 100", name="pass_score"),
        CheckConstraint("15 <= ALL (reminder_offsets)", name="reminder_offsets"),
    )


class Question(Base):
    """One question of an interview; ``ordinal`` is its position, from 1."""

    __tablename__ = "questions"

    id: Mapped[BigId]
    interview_id: Mapped[int] = mapped_column(ForeignKey("interviews.id"))
    ordinal: Mapped[int]
    text: Mapped[str]
    skill: Mapped[str]
    required: Mapped[bool] = mapped_column(server_default="true")
    weight: Mapped[Decimal] = mapped_column(Numeric(6, 3), server_default="1")
    max_score: Mapped[Decimal] = mapped_column(Numeric(6, 2), server_default="5")

    __table_args__ = (
        UniqueConstraint("interview_id", "ordinal", deferrable=True, initially="IMMEDIATE"),
        CheckConstraint("weight > 0 AND max_score > 0", name="weight"),
    )


class InterviewSession(Base):
    """One candidate taking one interview; ``interviewer_id`` is null when only the AI asks."""

    __tablename__ = "sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidates.id"))
    interview_id: Mapped[int] = mapped_column(ForeignKey("interviews.id"))
    interviewer_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    recruiter_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    """Who created it: the Reply-To of its mails."""
    status: Mapped[str]
    status_at: Mapped[datetime]
    """When the session entered its present status."""
    scheduled_start: Mapped[datetime | None]
    scheduled_end: Mapped[datetime | None]
    schedule_version: Mapped[int] = mapped_column(server_default="1")
    invitation_expires_at: Mapped[datetime | None]
    ics_uid: Mapped[str]
    ics_sequence: Mapped[int] = mapped_column(server_default="0")
    opened_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    last_activity_at: Mapped[datetime | None]
    activity_pushed_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    no_show_party: Mapped[str | None]
    score: Mapped[Decimal | None] = mapped_column(Numeric(5, 2))
    """0–100: the weighted share of the maximum points, over the answers that have a score."""
    decision: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    legal_hold: Mapped[bool] = mapped_column(server_default="false")
    retry_of: Mapped[UUID | None] = mapped_column(ForeignKey("sessions.id"))
    late_version: Mapped[int | None]
    """The schedule version for which the "late" event was published."""
    feedback_overdue_at: Mapped[datetime | None]
    sweep_at: Mapped[datetime | None] = mapped_column(server_default=text("to_timestamp(0)"))
    """The status sweep need not check the session before; a lower bound, so activity does not move it."""
    created_at: Mapped[Created]
    deleted_at: Mapped[datetime | None]

    interview: Mapped[Interview] = relationship(lazy="raise")
    candidate: Mapped[Candidate] = relationship(lazy="raise")

    __table_args__ = (
        one_of("status", STATUSES),
        one_of("no_show_party", ("candidate", "interviewer")),
        one_of("decision", ("advance", "reject", "hold")),
        CheckConstraint(
            "(scheduled_start IS NULL) = (scheduled_end IS NULL) AND scheduled_end > scheduled_start", name="schedule"
        ),
        CheckConstraint("status <> 'scheduled' OR scheduled_start IS NOT NULL", name="scheduled_start"),
        CheckConstraint("status <> 'invited' OR invitation_expires_at IS NOT NULL", name="invitation"),
        Index(
            "sessions_one_open",
            "candidate_id",
            "interview_id",
            unique=True,
            postgresql_where=text(f"{_status_in(OPEN)} AND deleted_at IS NULL"),
        ),
        ExcludeConstraint(
            ("interviewer_id", "="),
            (text("tstzrange(scheduled_start, scheduled_end)"), "&&"),
            name="sessions_double_booked",
            using="gist",
            where=text(
                f"{_status_in(BUSY)} AND interviewer_id IS NOT NULL AND deleted_at IS NULL"
                " AND scheduled_start IS NOT NULL"
            ),
        ),
        Index(
            "sessions_sweep",
            "sweep_at",
            "id",
            postgresql_where=text("sweep_at IS NOT NULL AND deleted_at IS NULL"),
        ),
        Index(
            "sessions_retention",
            "status_at",
            postgresql_where=text("status IN ('abandoned', 'expired') AND deleted_at IS NULL AND NOT legal_hold"),
        ),
        Index("sessions_by_candidate", "candidate_id", "id"),
        Index(
            "sessions_by_interviewer",
            "interviewer_id",
            "id",
            postgresql_where=text("interviewer_id IS NOT NULL"),
        ),
        Index("sessions_by_status", "status", "id", postgresql_where=NOT_DELETED),
        Index("sessions_by_start", "scheduled_start", postgresql_where=text("scheduled_start IS NOT NULL")),
        Index("sessions_by_retry", "retry_of", postgresql_where=text("retry_of IS NOT NULL")),
    )


class SessionEvent(Base):
    """One entry of a session's append-only history: what happened, by whom and why."""

    __tablename__ = "session_events"

    id: Mapped[BigId]
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id"))
    kind: Mapped[str]
    old_status: Mapped[str | None]
    new_status: Mapped[str | None]
    actor: Mapped[str]
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    reason: Mapped[str | None]
    data: Mapped[EmptyObject]
    at: Mapped[datetime]
    dedupe_key: Mapped[str | None]

    __table_args__ = (
        one_of("actor", ("candidate", "interviewer", "recruiter", "admin", "system")),
        UniqueConstraint("session_id", "dedupe_key"),
        Index("session_events_history", "session_id", "id"),
    )


class Answer(Base):
    """The answer to one question and its score; a person's score is a second row, and does not replace the AI's."""

    __tablename__ = "answers"

    id: Mapped[BigId]
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id"))
    question_id: Mapped[int] = mapped_column(ForeignKey("questions.id"))
    source: Mapped[str]
    text: Mapped[str | None]
    score: Mapped[Decimal | None] = mapped_column(Numeric(6, 2))
    seconds: Mapped[int | None]
    scored_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    answered_at: Mapped[datetime]

    __table_args__ = (
        one_of("source", ("ai", "human")),
        CheckConstraint("score >= 0", name="score"),
        UniqueConstraint("session_id", "question_id", "source"),
    )


class Feedback(Base):
    """The interviewer's recommendation."""

    __tablename__ = "feedback"

    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id"), primary_key=True)
    interviewer_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    recommendation: Mapped[str]
    comment: Mapped[str | None]
    data: Mapped[dict[str, Any] | None]
    submitted_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

    __table_args__ = (one_of("recommendation", ("strong_no", "no", "yes", "strong_yes")),)
