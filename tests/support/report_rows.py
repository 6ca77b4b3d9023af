"""Rows for the reports' tests: sessions of which every moment is given, each of a candidate of its own."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from core.clock import uuid7
from core.models import Answer, Candidate, Feedback, Interview, InterviewSession, Question, User
from core.reports.data import Period

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
_number = itertools.count(1)


def at(day: int, hour: float = 12, month: int = 3) -> datetime:
    """A moment of 2026, in UTC; of March where nothing else is said."""
    return datetime(2026, month, 1, tzinfo=UTC) + timedelta(days=day - 1, hours=hour)


def march(zone: str = "UTC") -> Period:
    """The first four weeks of March 2026, from Monday the 2nd, by UTC's midnight."""
    return Period(at(2, 0), at(30, 0), zone)


@dataclass
class World:
    """An interview with its questions and interviewers, and all the sessions made in a test."""

    db: Session
    title: str = "Backend"
    position: str = "Engineer"
    settings: dict[str, Any] = field(default_factory=dict)
    sessions: list[InterviewSession] = field(default_factory=list)

    def __post_init__(self) -> None:
        number = next(_number)
        self.interview = Interview(title=self.title, position=self.position, **self.settings)
        self.interviewers = [
            User(email=f"{name}{number}@example.com", name=name, role="interviewer") for name in ("Ida", "Ilja")
        ]
        self.db.add_all([self.interview, *self.interviewers])
        self.db.flush()
        self.questions: list[Question] = []

    def question(self, **columns: Any) -> Question:
        """The next question of the interview."""
        place = len(self.questions) + 1
        row = Question(
            interview_id=self.interview.id, **({"ordinal": place, "text": f"{place}?", "skill": "SQL"} | columns)
        )
        self.db.add(row)
        self.db.flush()
        self.questions.append(row)
        return row

    def candidate(self, **columns: Any) -> Candidate:
        """A new candidate."""
        number = next(_number)
        row = Candidate(**({"email": f"c{number}@example.com", "name": f"Candidate {number}"} | columns))
        self.db.add(row)
        self.db.flush()
        return row

    def session(self, status: str, *, candidate: Candidate | None = None, **columns: Any) -> InterviewSession:
        """A session; of who is given, or of a new candidate. Times are as given, and no others."""
        made = columns.setdefault("created_at", at(1))
        if columns.get("scheduled_start"):
            columns.setdefault("scheduled_end", columns["scheduled_start"] + timedelta(hours=1))
        id_ = uuid7(made)
        row = InterviewSession(
            id=id_,
            candidate_id=(candidate or self.candidate()).id,
            interview_id=self.interview.id,
            status=status,
            status_at=made,
            ics_uid=str(id_),
            sweep_at=None,
            **columns,
        )
        self.db.add(row)
        self.db.flush()
        self.sessions.append(row)
        return row

    def held(self, day: int, *, score: float | None = None, hour: float = 10, **columns: Any) -> InterviewSession:
        """A session planned for and completed in an hour of a day of March."""
        start = at(day, hour)
        times = {"scheduled_start": start, "started_at": start, "ended_at": start + timedelta(hours=1)}
        return self.session("completed", score=score, **(times | columns))

    def feedback(self, session: InterviewSession, hours: float, recommendation: str = "yes", **columns: Any) -> None:
        """The interviewer's feedback, so many hours after the session's end."""
        assert session.ended_at and session.interviewer_id
        self.db.add(
            Feedback(
                session_id=session.id,
                interviewer_id=session.interviewer_id,
                recommendation=recommendation,
                submitted_at=session.ended_at + timedelta(hours=hours),
                **columns,
            )
        )
        self.db.flush()

    def answers(
        self, session: InterviewSession, scores: Sequence[float | None], source: str = "ai", **columns: Any
    ) -> None:
        """Answers to the interview's first questions, with these scores."""
        for question, score in zip(self.questions, scores, strict=False):
            row = {"session_id": session.id, "question_id": question.id, "source": source, "score": score}
            self.db.add(Answer(**(row | {"answered_at": session.started_at or session.created_at} | columns)))
        self.db.flush()

    def ids(self) -> list[UUID]:
        """The sessions' ids."""
        return [session.id for session in self.sessions]
