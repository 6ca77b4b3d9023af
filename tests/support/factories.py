"""Rows for tests: people who belong together, and sessions in any state."""

import itertools
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import outbox
from core.clock import uuid7
from core.models import Candidate, Email, Interview, InterviewSession, Question, Role, SessionStatus, User
from core.sessions.deadlines import next_check
from core.sessions.snapshot import lock
from core.viewers import Viewer

_number = itertools.count(1)


@dataclass(frozen=True)
class People:
    """Four users, a candidate who is one of them, and an interview."""

    ids: dict[str, int]
    candidate_id: int
    interview_id: int
    question_ids: tuple[int, ...]

    @property
    def interviewer_id(self) -> int:
        """The interviewer's user id."""
        return self.ids["interviewer"]

    def viewer(self, role: str) -> Viewer:
        """The user of this role, as somebody who asks."""
        return Viewer(self.ids[role], role, f"The {role}", f"{role}@example.com", 1)  # type: ignore[arg-type]


def people(db: Session, *, questions: int = 0, **interview: Any) -> People:
    """New people with an interview of their own; further arguments are the interview's."""
    number = next(_number)
    roles: tuple[Role, ...] = ("admin", "recruiter", "interviewer", "candidate")
    users = {role: User(email=f"{role}{number}@example.com", name=f"{role} {number}", role=role) for role in roles}
    db.add_all(users.values())
    db.flush()
    candidate = Candidate(
        email=f"candidate{number}@example.com", name=f"Cäcilie {number}", user_id=users["candidate"].id
    )
    template = Interview(title=f"Interview {number}", position="Engineer", **interview)
    db.add_all((candidate, template))
    db.flush()
    template_questions = [
        Question(interview_id=template.id, ordinal=n + 1, text=f"{n}?", skill="SQL") for n in range(questions)
    ]
    db.add_all(template_questions)
    db.flush()
    return People(
        {role: user.id for role, user in users.items()},
        candidate.id,
        template.id,
        tuple(q.id for q in template_questions),
    )


def session(
    db: Session, *, now: datetime, people: People | None = None, status: SessionStatus = "scheduled", **more: Any
) -> UUID:
    """A session in a state it could have come to by ``now``; further arguments are columns of its row."""
    people = people or globals()["people"](db)
    session_id = uuid7(now)
    started = status in ("in_progress", "interrupted", "completed", "abandoned")
    start = now - timedelta(minutes=20) if started or status == "no_show" else now + timedelta(hours=2)
    ended = status in ("completed", "abandoned", "no_show", "expired", "cancelled")
    columns = {
        "id": session_id,
        "candidate_id": people.candidate_id,
        "interview_id": people.interview_id,
        "interviewer_id": people.interviewer_id,
        "recruiter_id": people.ids["recruiter"],
        "status": status,
        "status_at": now - timedelta(minutes=1),
        "scheduled_start": start,
        "scheduled_end": start + timedelta(minutes=60),
        "invitation_expires_at": now + timedelta(days=1),
        "ics_uid": f"{session_id}@greenroom",
        "started_at": start if started else None,
        "last_activity_at": now - timedelta(minutes=1) if started else None,
        "ended_at": now - timedelta(minutes=1) if ended else None,
        "no_show_party": "candidate" if status == "no_show" else None,
    }
    row = InterviewSession(**(columns | more))
    db.add(row)
    db.flush()
    if "sweep_at" not in more:
        row.sweep_at = next_check(lock(db, session_id))
        db.flush()
    return session_id


def email(db: Session, *, now: datetime, **more: Any) -> UUID:
    """A mail that waits to be sent; further arguments are columns of its row."""
    id_ = uuid7(now)
    columns = {
        "id": id_,
        "kind": "generic",
        "to_address": f"to{next(_number)}@example.com",
        "to_name": "Cäcilie",
        "message_id": f"<{id_}@greenroom.test>",
        "subject": "Good news",
        "text_body": "Hello.\n",
        "html_body": "<p>Hello.</p>",
        "due_at": now,
    }
    db.add(Email(**(columns | more)))
    db.flush()
    outbox.wake(db)
    return id_


def pushed(db: Session, destination: str, type_: str | None = None) -> list[dict[str, Any]]:
    """The data of what was pushed to a destination, in order."""
    found = db.execute(
        text("SELECT payload::text, type FROM push_events WHERE destination = :d ORDER BY id"), {"d": destination}
    )
    return [json.loads(payload) for payload, kind in found if type_ in (None, kind)]
