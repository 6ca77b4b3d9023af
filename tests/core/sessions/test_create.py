"""Making a session: what it may be a new attempt of, and until when an invitation stands."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from core import sessions
from core.db import transaction
from core.errors import IllegalMove, Invalid
from core.models import OPEN, STATUSES, InterviewSession, SessionStatus
from core.sessions import NewSession, NewStatus, update_statuses
from core.sessions.create import INVITATION_DAYS
from tests.support import factories as make
from tests.support.factories import People

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
ENDED = tuple(status for status in STATUSES if status not in OPEN)


def given(status: SessionStatus, **columns: Any) -> tuple[People, UUID]:
    with transaction() as db:
        people = make.people(db)
        return people, make.session(db, now=NOW, people=people, status=status, **columns)


def create(people: People, **more: Any) -> UUID:
    with transaction() as db:
        new = NewSession(candidate_id=people.candidate_id, interview_id=people.interview_id, **more)
        return sessions.create(db, new, by=people.viewer("recruiter"), now=NOW)


def row(session_id: UUID) -> InterviewSession:
    with transaction() as db:
        return db.get_one(InterviewSession, session_id)


def how_many() -> int:
    with transaction() as db:
        return db.query(InterviewSession).count()


@pytest.mark.parametrize("status", OPEN)
def test_an_open_session_has_no_new_attempt(database: str, status: SessionStatus) -> None:
    """It is refused for what it is; that there cannot be two open ones is another rule, with another field to blame."""
    people, old = given(status)
    with pytest.raises(Invalid, match=f"{old} is still {status}") as error:
        create(people, retry_of=old)
    assert error.value.field == "retry_of"
    assert how_many() == 1


@pytest.mark.parametrize("status", OPEN)
def test_a_deleted_open_session_has_no_new_attempt(database: str, status: SessionStatus) -> None:
    """It does not count as the candidate's one open session, so nothing else stands in the way."""
    people, old = given(status, deleted_at=NOW, sweep_at=None)
    with pytest.raises(Invalid, match=f"{old} is still {status}"):
        create(people, retry_of=old)
    assert how_many() == 1


@pytest.mark.parametrize("status", ENDED)
def test_a_finished_session_may_have_a_new_attempt(database: str, status: SessionStatus) -> None:
    people, old = given(status)
    new = create(people, retry_of=old)
    assert (row(new).retry_of, row(new).status) == (old, "invited")
    assert (row(old).status, row(old).retry_of) == (status, None), "the old one stays as it is"


def test_a_new_attempt_is_of_the_same_candidate_and_the_same_interview(database: str) -> None:
    people, old = given("completed")
    with transaction() as db:
        other = make.people(db)
    for candidate, interview in (
        (other.candidate_id, people.interview_id),
        (people.candidate_id, other.interview_id),
    ):
        new = NewSession(candidate_id=candidate, interview_id=interview, retry_of=old)
        with pytest.raises(Invalid, match="no session of this candidate and interview") as error, transaction() as db:
            sessions.create(db, new, by=people.viewer("recruiter"), now=NOW)
        assert error.value.field == "retry_of"
    assert how_many() == 1


def test_an_invitation_stands_for_two_weeks_unless_it_says_otherwise(database: str) -> None:
    with transaction() as db:
        default, said, timed = (make.people(db) for _ in range(3))
    assert row(create(default)).invitation_expires_at == NOW + timedelta(days=INVITATION_DAYS)
    until = NOW + timedelta(hours=1)
    assert row(create(said, invitation_expires_at=until)).invitation_expires_at == until
    assert row(create(timed, scheduled_start=until)).invitation_expires_at is None


def test_a_new_session_is_swept_when_its_first_rule_falls_due(database: str) -> None:
    with transaction() as db:
        one, other = make.people(db), make.people(db)
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    invited, scheduled = create(one, invitation_expires_at=NOW + hour), create(other, scheduled_start=NOW + hour)
    assert (row(invited).sweep_at, row(scheduled).sweep_at) == (NOW + hour, NOW + hour + 5 * minute)
    assert update_statuses(now=NOW + hour).counts == {"expire": 1}
    assert update_statuses(now=NOW + hour + 5 * minute).counts == {"late": 1}
    assert update_statuses(now=NOW + hour + 15 * minute).counts == {"no_show": 1}
    assert (row(invited).status, row(scheduled).status) == ("expired", "no_show")


@pytest.mark.parametrize("role", ["candidate", "recruiter", "admin"])
@pytest.mark.parametrize("after", [timedelta(0), timedelta(days=3)], ids=["at once", "days later"])
def test_an_invitation_that_expired_can_be_cancelled(database: str, role: str, after: timedelta) -> None:
    """Until the sweep has seen it: then it is expired, and stays so."""
    people, id_ = given("invited", scheduled_start=None, scheduled_end=None)
    expires = row(id_).invitation_expires_at
    assert expires
    with transaction() as db:
        sessions.move(db, id_, NewStatus(status="cancelled"), by=people.viewer(role), now=expires + after)
    assert (row(id_).status, row(id_).ended_at) == ("cancelled", expires + after)
    assert update_statuses(now=expires + after + timedelta(minutes=10)).found == 0
    assert row(id_).status == "cancelled"


@pytest.mark.parametrize(("to", "role"), [("in_progress", "candidate"), ("scheduled", "candidate")])
def test_an_invitation_that_expired_can_be_nothing_else(database: str, to: SessionStatus, role: str) -> None:
    people, id_ = given("invited", scheduled_start=None, scheduled_end=None)
    expires = row(id_).invitation_expires_at
    assert expires
    start = expires + timedelta(days=1) if to == "scheduled" else None
    wanted = NewStatus(status=to, scheduled_start=start)
    with pytest.raises(IllegalMove, match="expired"), transaction() as db:
        sessions.move(db, id_, wanted, by=people.viewer(role), now=expires)
    with transaction() as db:
        sessions.move(db, id_, wanted, by=people.viewer(role), now=expires - timedelta(microseconds=1))
    assert row(id_).status == to
