"""Giving a session a time or an interviewer: what is refused, when the sweep looks at it, what history says of it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from core import sessions
from core.db import transaction
from core.errors import Invalid
from core.models import InterviewSession, SessionEvent, SessionStatus
from core.sessions import SessionPatch, update_statuses
from tests.support import factories as make
from tests.support.factories import People

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
START = NOW + timedelta(hours=2)
INVITED = {"status": "invited", "scheduled_start": None, "scheduled_end": None}
SCHEDULED = {"status": "scheduled", "scheduled_start": START, "scheduled_end": START + timedelta(hours=1)}
minute = timedelta(minutes=1)


def given(**columns: Any) -> tuple[People, UUID]:
    with transaction() as db:
        people = make.people(db)
        return people, make.session(db, now=NOW, people=people, **columns)


def change(people: People, session_id: UUID, *, now: datetime = NOW, **fields: Any) -> None:
    with transaction() as db:
        sessions.change(db, session_id, SessionPatch(**fields), by=people.viewer("recruiter"), now=now)


def row(session_id: UUID) -> InterviewSession:
    with transaction() as db:
        return db.get_one(InterviewSession, session_id)


def events(session_id: UUID) -> list[SessionEvent]:
    with transaction() as db:
        return db.query(SessionEvent).filter_by(session_id=session_id).order_by(SessionEvent.id).all()


@pytest.mark.parametrize("columns", [INVITED, SCHEDULED], ids=["invited", "scheduled"])
@pytest.mark.parametrize("start", [NOW, NOW - minute, NOW - timedelta(days=1)])
def test_no_session_is_given_a_time_that_has_passed(database: str, columns: dict[str, Any], start: datetime) -> None:
    people, id_ = given(**columns)
    with pytest.raises(Invalid, match="already past") as error:
        change(people, id_, scheduled_start=start)
    assert error.value.field == "scheduled_start"
    assert (row(id_).status, row(id_).scheduled_start) == (columns["status"], columns["scheduled_start"])


@pytest.mark.parametrize("columns", [INVITED, SCHEDULED], ids=["invited", "scheduled"])
@pytest.mark.parametrize("role", ["admin", "recruiter", "candidate"])
def test_only_an_interviewer_interviews(database: str, columns: dict[str, Any], role: str) -> None:
    people, id_ = given(**columns)
    for fields in ({}, {"scheduled_start": START + minute}):
        with pytest.raises(Invalid, match=f"is {role}, not an interviewer") as error:
            change(people, id_, interviewer_id=people.ids[role], **fields)
        assert error.value.field == "interviewer_id"
    assert (row(id_).interviewer_id, row(id_).schedule_version) == (people.interviewer_id, 1)


def test_somebody_else_can_take_over_what_should_have_begun(database: str) -> None:
    """The time stays, so that it has passed is no reason to refuse."""
    people, id_ = given(**SCHEDULED)
    with transaction() as db:
        other = make.people(db)
    change(people, id_, interviewer_id=other.interviewer_id, now=START + 3 * minute)
    assert (row(id_).interviewer_id, row(id_).scheduled_start) == (other.interviewer_id, START)


@pytest.mark.parametrize(
    ("after", "rule", "becomes"), [(5 * minute, "late", "scheduled"), (15 * minute, "no_show", "no_show")]
)
@pytest.mark.parametrize("start", [NOW + 10 * minute, START + timedelta(hours=5)], ids=["earlier", "later"])
def test_the_sweep_goes_by_the_new_time(
    database: str, start: datetime, after: timedelta, rule: str, becomes: SessionStatus
) -> None:
    people, id_ = given(**SCHEDULED)
    change(people, id_, scheduled_start=start)
    assert row(id_).scheduled_end == start + timedelta(hours=1)
    assert update_statuses(now=start + 5 * minute - timedelta(microseconds=1)).counts == {}
    assert update_statuses(now=start + after).counts == {rule: 1}
    assert row(id_).status == becomes


def test_an_invitation_expires_at_its_new_time(database: str) -> None:
    sooner, later = (given(**INVITED, invitation_expires_at=NOW + timedelta(days=1)) for _ in range(2))
    change(*sooner, invitation_expires_at=NOW + 10 * minute)
    change(*later, invitation_expires_at=NOW + timedelta(days=2))
    assert update_statuses(now=NOW + 10 * minute).counts == {"expire": 1}
    assert (row(sooner[1]).status, row(later[1]).status) == ("expired", "invited")
    assert update_statuses(now=NOW + timedelta(days=1)).counts == {}
    assert update_statuses(now=NOW + timedelta(days=2)).counts == {"expire": 1}


def test_a_decision_that_is_taken_back_was_made_at_no_time(database: str) -> None:
    people, id_ = given(status="completed")
    change(people, id_, decision="advance")
    assert (row(id_).decision, row(id_).decided_at) == ("advance", NOW)
    change(people, id_, decision=None, now=NOW + minute)
    assert (row(id_).decision, row(id_).decided_at) == (None, None)


def test_history_has_each_step_with_who_took_it_and_why(database: str) -> None:
    with transaction() as db:
        people, other = make.people(db), make.people(db)
        new = sessions.NewSession(candidate_id=people.candidate_id, interview_id=people.interview_id)
        id_ = sessions.create(db, new, by=people.viewer("recruiter"), now=NOW)
    change(people, id_, scheduled_start=START, reason="by phone")
    change(people, id_, scheduled_start=START + minute, interviewer_id=other.interviewer_id, reason="ill")
    found = [(one.kind, one.new_status, one.reason, one.actor, one.actor_id) for one in events(id_)]
    by = ("recruiter", people.ids["recruiter"])
    assert found == [
        ("created", "invited", None, *by),
        ("moved", "scheduled", "by phone", *by),
        ("rescheduled", None, "ill", *by),
    ]
    assert events(id_)[-1].data == {
        "scheduled_start": (START + minute).isoformat(),
        "previous_start": START.isoformat(),
        "interviewer_id": other.interviewer_id,
        "previous_interviewer_id": None,
        "schedule_version": 2,
    }
