"""Who is notified of what when a session changes: the table of docs/domain.md, with times in everybody's own zone."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text, update

from core import sessions
from core.db import transaction
from core.models import Candidate, InterviewSession, SessionStatus, User
from core.sessions import NewSession, NewStatus, SessionPatch
from tests.support import factories as make
from tests.support.factories import People
from tests.support.processes import Database

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
START = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


@pytest.fixture
def people(shared_database: Database) -> People:
    """The candidate lives in Tokyo, the interviewer in Lisbon; recruiters read the platform's zone."""
    with transaction() as db:
        made = make.people(db)
        db.execute(update(Candidate).where(Candidate.id == made.candidate_id).values(timezone="Asia/Tokyo"))
        db.execute(update(User).where(User.id == made.interviewer_id).values(timezone="Europe/Lisbon"))
        return made


def notices(session_id: UUID) -> dict[str, tuple[str, str]]:
    """To whom (a role, or a user by id) which category and body were sent about the session, the latest of each."""
    with transaction() as db:
        rows = db.execute(
            text("SELECT user_id, role, category, body FROM notifications WHERE session_id = :s ORDER BY id"),
            {"s": session_id},
        )
        found = {str(row.user_id or row.role): (row.category, row.body) for row in rows}
        db.execute(text("DELETE FROM notification_receipts WHERE notification_id IN"
                        " (SELECT id FROM notifications WHERE session_id = :s)"), {"s": session_id})  # fmt: skip
        db.execute(text("DELETE FROM notifications WHERE session_id = :s"), {"s": session_id})
    return found


def create(people: People, **given: Any) -> UUID:
    with transaction() as db:
        new = NewSession(candidate_id=people.candidate_id, interview_id=people.interview_id, **given)
        return sessions.create(db, new, by=people.viewer("recruiter"), now=NOW)


def change(people: People, session_id: UUID, **given: Any) -> dict[str, tuple[str, str]]:
    with transaction() as db:
        sessions.change(db, session_id, SessionPatch(**given), by=people.viewer("recruiter"), now=NOW)
    return notices(session_id)


def names(people: People) -> tuple[str, str, str]:
    """The candidate's and the interviewer's ids as ``notices`` has them, and the candidate's name."""
    with transaction() as db:
        name = db.get_one(Candidate, people.candidate_id).name
    return str(people.ids["candidate"]), str(people.interviewer_id), name


def test_notices_have_times_in_the_recipients_zone(people: People) -> None:
    candidate, interviewer, name = names(people)
    id_ = create(people, interviewer_id=people.interviewer_id, scheduled_start=START)
    bodies = {who: body for who, (category, body) in notices(id_).items() if category == "scheduled"}
    assert set(bodies) == {candidate, interviewer}
    assert bodies[candidate].endswith(" on 24 November 2026, 18:30 Tokyo time (UTC+9).")
    assert bodies[interviewer].startswith(f"{name}, ")
    assert bodies[interviewer].endswith(", on 24 November 2026, 09:30 Lisbon time (UTC).")
    bodies = {who: body for who, (_, body) in change(people, id_, scheduled_start=START + timedelta(days=1)).items()}
    assert set(bodies) == {candidate, interviewer, "recruiter"}
    assert bodies[candidate].endswith("25 November 2026, 18:30 Tokyo time (UTC+9).")
    assert bodies["recruiter"].endswith("25 November 2026, 09:30 UTC.")


def test_replacing_the_interviewer_notifies_both(people: People) -> None:
    candidate, former, _ = names(people)
    with transaction() as db:
        other = make.people(db).interviewer_id
        db.execute(update(User).where(User.id == other).values(timezone="America/New_York"))
    id_ = create(people, interviewer_id=people.interviewer_id, scheduled_start=START)
    notices(id_)
    received = change(people, id_, interviewer_id=other)
    assert {who: category for who, (category, _) in received.items()} == {
        candidate: "rescheduled",
        str(other): "scheduled",
        former: "cancelled",
        "recruiter": "rescheduled",
    }
    assert received[str(other)][1].endswith("24 November 2026, 04:30 New York time (UTC−5).")
    assert received[former][1].endswith("is not yours any more.")
    # And nobody in their place: the session is the AI's alone.
    received = change(people, id_, interviewer_id=None)
    assert {who: category for who, (category, _) in received.items()} == {
        candidate: "rescheduled",
        str(other): "cancelled",
        "recruiter": "rescheduled",
    }


def test_an_unscheduled_change_notifies_only_the_interviewers(people: People) -> None:
    candidate, former, _ = names(people)
    with transaction() as db:
        other = make.people(db).interviewer_id
    id_ = create(people, interviewer_id=people.interviewer_id)
    assert {who: category for who, (category, _) in notices(id_).items()} == {candidate: "invited", former: "invited"}
    received = change(people, id_, interviewer_id=other)
    assert {who: category for who, (category, _) in received.items()} == {str(other): "invited", former: "cancelled"}
    # Scheduled with yet another one.
    received = change(people, id_, interviewer_id=people.interviewer_id, scheduled_start=START)
    assert {who: category for who, (category, _) in received.items()} == {
        candidate: "scheduled",
        former: "scheduled",
        str(other): "cancelled",
    }


@pytest.mark.parametrize(
    ("status", "by", "to", "who"),
    [
        ("scheduled", "recruiter", "cancelled", {"candidate", "interviewer", "recruiter"}),
        ("scheduled", "interviewer", "no_show", {"interviewer", "recruiter"}),
        ("in_progress", "candidate", "abandoned", {"interviewer", "recruiter"}),
        ("in_progress", "interviewer", "completed", {"candidate", "interviewer", "recruiter"}),
        ("scheduled", "candidate", "in_progress", set()),
        ("in_progress", "candidate", "interrupted", set()),
    ],
)
def test_who_is_notified_of_a_move(
    people: People, status: SessionStatus, by: str, to: SessionStatus, who: set[str]
) -> None:
    with transaction() as db:
        id_ = make.session(db, now=NOW, people=people, status=status)
        sessions.move(db, id_, NewStatus(status=to), by=people.viewer(by), now=NOW)
    received = notices(id_)
    expected = {role if role == "recruiter" else str(people.ids[role]) for role in who}
    assert {person: category for person, (category, _) in received.items()} == dict.fromkeys(expected, to)


def test_feedback_is_due_by_a_time_in_the_interviewers_zone(people: People) -> None:
    with transaction() as db:
        id_ = make.session(db, now=NOW, people=people, status="in_progress")
        db.execute(update(User).where(User.id == people.interviewer_id).values(timezone="Asia/Kathmandu"))
        sessions.move(db, id_, NewStatus(status="completed"), by=people.viewer("interviewer"), now=NOW)
    body = notices(id_)[str(people.interviewer_id)][1]
    assert body.endswith("your feedback is due by 25 November 2026, 13:45 Kathmandu time (UTC+5:45).")


def test_a_candidate_who_cannot_sign_in_gets_no_notification(people: People) -> None:
    with transaction() as db:
        db.execute(update(Candidate).where(Candidate.id == people.candidate_id).values(user_id=None))
    id_ = create(people, interviewer_id=people.interviewer_id, scheduled_start=START)
    assert set(notices(id_)) == {str(people.interviewer_id)}
    with transaction() as db:
        assert db.get_one(InterviewSession, id_).status == "scheduled"
