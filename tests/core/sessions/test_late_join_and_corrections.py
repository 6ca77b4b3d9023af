"""A late join takes the no-show back; a correction keeps when the session ended."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from core import sessions
from core.db import transaction
from core.errors import AlreadyOpen
from core.models import InterviewSession, SessionEvent, SessionStatus
from tests.support import factories as make
from tests.support.factories import People

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
LATER = NOW + timedelta(minutes=7)


def given(status: SessionStatus, **columns: object) -> tuple[People, UUID]:
    with transaction() as db:
        people = make.people(db)
        return people, make.session(db, now=NOW, people=people, status=status, **columns)


def move(people: People, session_id: UUID, to: SessionStatus, role: str, *, now: datetime = LATER, **more: str) -> None:
    with transaction() as db:
        wanted = sessions.NewStatus.model_validate({"status": to, **more})
        sessions.move(db, session_id, wanted, by=people.viewer(role), now=now)


def row(session_id: UUID) -> InterviewSession:
    with transaction() as db:
        return db.get_one(InterviewSession, session_id)


def last_event(session_id: UUID) -> SessionEvent:
    with transaction() as db:
        found = db.query(SessionEvent).filter_by(session_id=session_id).order_by(SessionEvent.id.desc()).first()
        assert found is not None
        return found


@pytest.mark.parametrize("party", ["candidate", "interviewer"])
def test_a_late_join_clears_the_no_show(database: str, party: str) -> None:
    people, id_ = given("no_show", no_show_party=party)
    assert (row(id_).no_show_party, row(id_).ended_at) == (party, NOW - timedelta(minutes=1))
    move(people, id_, "in_progress", "candidate")
    joined = row(id_)
    assert (joined.status, joined.status_at) == ("in_progress", LATER)
    assert (joined.no_show_party, joined.ended_at) == (None, None)
    assert (joined.started_at, joined.last_activity_at) == (LATER, LATER)
    with transaction() as db:
        [pushed] = make.pushed(db, f"/topic/session/{id_}", "session.moved")
    assert (pushed["previous"], pushed["status"], pushed["no_show_party"]) == ("no_show", "in_progress", None)


def test_a_late_join_ends_when_it_ends_and_not_when_it_was_missed(database: str) -> None:
    people, id_ = given("no_show")
    move(people, id_, "in_progress", "candidate")
    end = LATER + timedelta(minutes=30)
    move(people, id_, "completed", "interviewer", now=end)
    assert (row(id_).ended_at, row(id_).no_show_party) == (end, None)
    assert last_event(id_).kind == "moved", "it was held: nothing was put right"


def test_a_late_join_into_a_session_that_was_replaced_names_the_new_one(database: str) -> None:
    people, missed = given("no_show")
    with transaction() as db:
        again = sessions.NewSession(candidate_id=people.candidate_id, interview_id=people.interview_id, retry_of=missed)
        new = sessions.create(db, again, by=people.viewer("recruiter"), now=NOW)
    with pytest.raises(AlreadyOpen, match=str(new)):
        move(people, missed, "in_progress", "candidate")
    assert (row(missed).status, row(missed).no_show_party) == ("no_show", "candidate")


@pytest.mark.parametrize("role", ["interviewer", "admin"])
@pytest.mark.parametrize("wrong", ["no_show", "abandoned"])
def test_a_correction_keeps_the_finish_time(database: str, wrong: SessionStatus, role: str) -> None:
    people, id_ = given(wrong)
    before = row(id_)
    move(people, id_, "completed", role, now=NOW + timedelta(days=8))
    after = row(id_)
    assert (after.status, after.status_at) == ("completed", NOW + timedelta(days=8))
    assert after.ended_at == before.ended_at == NOW - timedelta(minutes=1)
    assert (after.started_at, after.last_activity_at) == (before.started_at, before.last_activity_at)
    assert after.no_show_party is None, "it was held after all"
    event = last_event(id_)
    assert (event.kind, event.old_status, event.new_status, event.actor) == ("corrected", wrong, "completed", role)


def test_a_correction_of_an_imported_session_sets_the_finish_time(database: str) -> None:
    people, id_ = given("no_show", ended_at=None)
    move(people, id_, "completed", "admin")
    assert row(id_).ended_at == LATER


@pytest.mark.parametrize("role", ["recruiter", "interviewer"])
@pytest.mark.parametrize(("said", "kept"), [(None, "candidate"), ("candidate", "candidate"), ("interviewer",) * 2])
def test_a_no_show_names_the_absent_party(database: str, role: str, said: str | None, kept: str) -> None:
    people, id_ = given("scheduled", scheduled_start=NOW, scheduled_end=NOW + timedelta(hours=1))
    move(people, id_, "no_show", role, **({"no_show_party": said} if said else {}))
    assert (row(id_).no_show_party, row(id_).ended_at) == (kept, LATER)
    with transaction() as db:
        [pushed] = make.pushed(db, f"/topic/session/{id_}", "session.moved")
    assert (pushed["status"], pushed["no_show_party"]) == ("no_show", kept)


def test_resuming_keeps_when_the_session_began(database: str) -> None:
    """What is too long is measured from the beginning."""
    people, id_ = given("interrupted")
    began = row(id_).started_at
    assert began == NOW - timedelta(minutes=20)
    move(people, id_, "in_progress", "candidate")
    assert (row(id_).started_at, row(id_).last_activity_at) == (began, LATER)
