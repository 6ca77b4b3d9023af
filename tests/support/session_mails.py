"""Sessions that people make and change, and the mails that come of it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, update

from core import sessions
from core.db import transaction
from core.models import Candidate, Email, NotificationPreference, User
from tests.support import factories as make
from tests.support.factories import People
from tests.support.http import Clients, json_body

NOW = datetime(2031, 3, 3, 9, tzinfo=UTC)
EMAILS = "/api/emails"
START = NOW + timedelta(days=2)


def mails(session_id: UUID) -> list[tuple[str, str]]:
    """Kind and status of all of a session's mails."""
    with transaction() as db:
        rows = db.execute(select(Email.kind, Email.status).where(Email.session_id == session_id))
        return sorted((kind, status) for kind, status in rows)


def of_kind(session_id: UUID, kind: str) -> list[Email]:
    with transaction() as db:
        query = select(Email).where(Email.session_id == session_id, Email.kind == kind, Email.status == "queued")
        return list(db.scalars(query.order_by(Email.to_address)))


def create(people: People, *, start: datetime | None = START, interviewer: bool = True) -> UUID:
    given = sessions.NewSession(
        candidate_id=people.candidate_id,
        interview_id=people.interview_id,
        interviewer_id=people.interviewer_id if interviewer else None,
        scheduled_start=start,
    )
    with transaction() as db:
        return sessions.create(db, given, by=people.viewer("recruiter"), now=NOW)


def change(people: People, session_id: UUID, **fields: object) -> None:
    with transaction() as db:
        patch = sessions.SessionPatch.model_validate(fields)
        sessions.change(db, session_id, patch, by=people.viewer("recruiter"), now=NOW)


def move(people: People, session_id: UUID, status: str, role: str = "recruiter", **more: object) -> None:
    with transaction() as db:
        wanted = sessions.NewStatus.model_validate({"status": status, **more})
        sessions.move(db, session_id, wanted, by=people.viewer(role), now=NOW)


def sent(session_id: UUID) -> None:
    """As the dispatcher leaves what it has sent."""
    with transaction() as db:
        db.execute(update(Email).where(Email.session_id == session_id).values(status="sent", data_started_at=NOW))


def another_interviewer() -> int:
    with transaction() as db:
        return make.people(db).interviewer_id


def addresses(people: People) -> dict[str, str]:
    with transaction() as db:
        found = {role: db.get_one(User, id_).email for role, id_ in people.ids.items()}
        return found | {"candidate": db.get_one(Candidate, people.candidate_id).email}


def prefer(user_id: int, category: str, delivery: str) -> None:
    with transaction() as db:
        db.add(NotificationPreference(user_id=user_id, category=category, channel="email", delivery=delivery))


def generic_mail(**more: Any) -> dict[str, Any]:
    """The body that asks for a generic mail."""
    return {"kind": "generic", "to": "ada@example.com", "subject": "Hello", "text": "Good day"} | more


def queued(clients: Clients, **more: Any) -> str:
    """The id of a generic mail that was asked for over HTTP."""
    return str(json_body(clients.recruiter.post(EMAILS, json=generic_mail(**more)), 202)["id"])
