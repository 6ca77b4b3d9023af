"""The table of moves: in code, in the database, and by whom."""

import importlib
from datetime import UTC, datetime, timedelta
from typing import get_args
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError

from core import sessions
from core.db import transaction
from core.errors import AlreadyOpen, Conflict, DoubleBooked, Forbidden, IllegalMove, Invalid, NotFound
from core.models import STATUSES, InterviewSession, SessionEvent, SessionStatus
from core.sessions.move import check
from core.sessions.moves import MOVES, Actor
from core.sessions.snapshot import lock
from tests.support import factories as make
from tests.support.processes import Database

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
ACTORS = [actor for actor in get_args(Actor) if actor != "system"]

DOMAIN = """
invited → scheduled | candidate, recruiter, admin
invited → in_progress | candidate
invited → expired | system
scheduled → in_progress | candidate, interviewer
scheduled → no_show | system, interviewer, recruiter
invited, scheduled → cancelled | candidate, recruiter, admin
in_progress → interrupted | system, candidate
interrupted → in_progress | candidate
in_progress → completed | candidate, interviewer, system
interrupted → completed | interviewer, system
in_progress, interrupted → abandoned | candidate, system
in_progress, interrupted → cancelled | admin
no_show → in_progress | candidate
no_show, abandoned → completed | interviewer, admin
"""


def test_the_table_of_moves_is_the_documented_one() -> None:
    written = {}
    for line in DOMAIN.strip().splitlines():
        move, who = line.split(" | ")
        sources, target = move.split(" → ")
        for source in sources.split(", "):
            written[source, target] = frozenset(who.split(", "))
    assert written == MOVES


def test_the_database_guards_the_same_table(database: str) -> None:
    migration = importlib.import_module("core.migrations.versions.20261123_initial")
    assert {tuple(pair.split(">")) for pair in migration.LEGAL_MOVES} == set(MOVES)
    with transaction() as db:
        session_id = make.session(db, now=NOW, status="completed")
    with pytest.raises(IntegrityError, match="cannot go from completed to invited"), transaction() as db:
        db.execute(text("UPDATE sessions SET status = 'invited' WHERE id = :id"), {"id": session_id})


@pytest.mark.parametrize("old", STATUSES)
@pytest.mark.parametrize("actor", ACTORS)
def test_every_pair_and_actor(shared_database: Database, old: SessionStatus, actor: Actor) -> None:
    """Each of the nine states to each other, as each kind of person: allowed, 403 or 409, and nothing in between."""
    with transaction() as db:
        people = make.people(db)
        session_id = make.session(db, now=NOW, people=people, status=old)
    viewer = people.viewer(actor)
    for new in STATUSES:
        wanted = sessions.NewStatus(status=new)
        allowed = MOVES.get((old, new))
        try:
            with transaction() as db:
                sessions.move(db, session_id, wanted, by=viewer, now=NOW)
                outcome = db.get_one(InterviewSession, session_id, populate_existing=True).status
                raise _Undo
        except _Undo:
            assert allowed is not None
            assert actor in allowed
            assert outcome == new
        except IllegalMove as error:
            assert allowed is None
            assert old in str(error)
            assert new in str(error)
        except Forbidden:
            assert allowed is not None
            assert actor not in allowed


class _Undo(Exception):
    pass


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from(STATUSES), st.sampled_from(ACTORS)), min_size=1, max_size=12))
def test_random_moves_keep_row_history_and_pushes_consistent(
    database: str, steps: list[tuple[SessionStatus, Actor]]
) -> None:
    """Whatever is tried in whatever order: the row's status is what the history and the pushes say."""
    with transaction() as db:
        people = make.people(db)
        session_id = make.session(db, now=NOW, people=people, status="invited")
    now, walked = NOW, ["invited"]
    for new, actor in steps:
        now += timedelta(minutes=1)
        start = now + timedelta(hours=1) if new == "scheduled" else None
        try:
            with transaction() as db:
                sessions.move(
                    db,
                    session_id,
                    sessions.NewStatus(status=new, scheduled_start=start),
                    by=people.viewer(actor),
                    now=now,
                )
            walked.append(new)
        except (IllegalMove, Forbidden):
            continue
    with transaction() as db:
        row = db.get_one(InterviewSession, session_id)
        moves = db.query(SessionEvent).filter_by(session_id=session_id).order_by(SessionEvent.id).all()
        pushed = make.pushed(db, f"/topic/session/{session_id}", "session.moved")
    assert row.status == walked[-1]
    assert [m.new_status for m in moves] == walked[1:]
    assert [m.old_status for m in moves] == walked[:-1]
    assert [p["status"] for p in pushed] == walked[1:]


def test_other_users_see_nothing(database: str) -> None:
    with transaction() as db:
        people = make.people(db)
        session_id = make.session(db, now=NOW, people=people)
        stranger = make.people(db)
    for role in ("candidate", "interviewer"):
        with pytest.raises(NotFound), transaction() as db:
            sessions.move(db, session_id, sessions.NewStatus(status="cancelled"), by=stranger.viewer(role), now=NOW)


def test_an_expired_invitation_cannot_be_started(database: str) -> None:
    with transaction() as db:
        people = make.people(db)
        session_id = make.session(db, now=NOW, people=people, status="invited")
        expires = db.get_one(InterviewSession, session_id).invitation_expires_at
    assert expires
    with pytest.raises(IllegalMove, match="expired"), transaction() as db:
        wanted = sessions.NewStatus(status="in_progress")
        sessions.move(db, session_id, wanted, by=people.viewer("candidate"), now=expires)
    with pytest.raises(IllegalMove, match="expired"), transaction() as db:
        patch = sessions.SessionPatch(scheduled_start=expires + timedelta(days=1))
        sessions.change(db, session_id, patch, by=people.viewer("recruiter"), now=expires)


def test_late_join_is_possible_until_the_scheduled_end(database: str) -> None:
    with transaction() as db:
        people = make.people(db)
        session_id = make.session(db, now=NOW, people=people, status="no_show")
        facts = lock(db, session_id)
    assert facts.scheduled_end
    check(facts, "in_progress", "candidate", facts.scheduled_end - timedelta(microseconds=1))
    with pytest.raises(IllegalMove, match="no_show to in_progress"):
        check(facts, "in_progress", "candidate", facts.scheduled_end)


def test_reschedule_keeps_the_row_and_counts_up(database: str) -> None:
    with transaction() as db:
        people = make.people(db)
        session_id = make.session(db, now=NOW, people=people)
        before = db.get_one(InterviewSession, session_id)
        uid, version, sequence = before.ics_uid, before.schedule_version, before.ics_sequence
    start = NOW + timedelta(days=3)
    with transaction() as db:
        patch = sessions.SessionPatch(scheduled_start=start, reason="ill")
        sessions.change(db, session_id, patch, by=people.viewer("recruiter"), now=NOW)
    with transaction() as db:
        after = db.get_one(InterviewSession, session_id)
        pushed = make.pushed(db, f"/topic/session/{session_id}", "session.rescheduled")
    assert (after.ics_uid, after.schedule_version, after.ics_sequence) == (uid, version + 1, sequence + 1)
    assert after.scheduled_start == start
    assert [p["schedule_version"] for p in pushed] == [version + 1]


def test_the_same_time_again_is_no_reschedule(database: str) -> None:
    with transaction() as db:
        people = make.people(db)
        session_id = make.session(db, now=NOW, people=people)
        row = db.get_one(InterviewSession, session_id)
        patch = sessions.SessionPatch(scheduled_start=row.scheduled_start, interviewer_id=row.interviewer_id)
        sessions.change(db, session_id, patch, by=people.viewer("recruiter"), now=NOW)
        db.refresh(row)
        assert row.schedule_version == 1
        assert make.pushed(db, f"/topic/session/{session_id}") == []


def test_finished_sessions_cannot_be_rescheduled(database: str) -> None:
    with transaction() as db:
        people = make.people(db)
        session_id = make.session(db, now=NOW, people=people, status="completed")
    with pytest.raises(Conflict, match="completed"), transaction() as db:
        patch = sessions.SessionPatch(scheduled_start=NOW + timedelta(days=1))
        sessions.change(db, session_id, patch, by=people.viewer("recruiter"), now=NOW)


def test_one_open_session_a_candidate_and_interview(database: str) -> None:
    with transaction() as db:
        people = make.people(db)
        first = make.session(db, now=NOW, people=people)
    given_ = sessions.NewSession(candidate_id=people.candidate_id, interview_id=people.interview_id)
    with pytest.raises(AlreadyOpen, match=str(first)) as error, transaction() as db:
        sessions.create(db, given_, by=people.viewer("recruiter"), now=NOW)
    assert error.value.facts == {"session_id": first}
    with transaction() as db:
        sessions.move(db, first, sessions.NewStatus(status="cancelled"), by=people.viewer("recruiter"), now=NOW)
        again = given_.model_copy(update={"retry_of": first})
        second = sessions.create(db, again, by=people.viewer("recruiter"), now=NOW)
    with transaction() as db:
        assert db.get_one(InterviewSession, second).retry_of == first


def test_an_interviewer_is_never_double_booked(database: str) -> None:
    with transaction() as db:
        people = make.people(db)
        first = make.session(db, now=NOW, people=people)
        start = db.get_one(InterviewSession, first).scheduled_start
        other = make.people(db)
    assert start
    given_ = sessions.NewSession(
        candidate_id=other.candidate_id,
        interview_id=other.interview_id,
        interviewer_id=people.interviewer_id,
        scheduled_start=start + timedelta(minutes=59),
    )
    with pytest.raises(DoubleBooked, match=str(first)), transaction() as db:
        sessions.create(db, given_, by=people.viewer("recruiter"), now=NOW)
    with transaction() as db:
        later = given_.model_copy(update={"scheduled_start": start + timedelta(minutes=60)})
        assert sessions.create(db, later, by=people.viewer("recruiter"), now=NOW)


def test_interrupted_counts_as_busy(database: str) -> None:
    with transaction() as db:
        people, other = make.people(db), make.people(db)
        first = make.session(db, now=NOW, people=people, status="interrupted")
        start = db.get_one(InterviewSession, first).scheduled_start
    assert start
    with pytest.raises(DoubleBooked, match=str(first)), transaction() as db:
        given_ = sessions.NewSession(
            candidate_id=other.candidate_id,
            interview_id=other.interview_id,
            interviewer_id=people.interviewer_id,
            scheduled_start=start + timedelta(minutes=1),
        )
        sessions.create(db, given_, by=people.viewer("recruiter"), now=start - timedelta(minutes=1))


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("candidate_id", 10**9, "no candidate"),
        ("interview_id", 10**9, "no interview"),
        ("interviewer_id", 10**9, "no user"),
        ("scheduled_start", NOW - timedelta(seconds=1), "already past"),
        ("invitation_expires_at", NOW, "already past"),
        ("retry_of", UUID(int=1), "no session"),
    ],
)
def test_bad_input_names_the_field(database: str, field: str, value: object, reason: str) -> None:
    with transaction() as db:
        people = make.people(db)
    given_ = sessions.NewSession(candidate_id=people.candidate_id, interview_id=people.interview_id)
    with pytest.raises(Invalid, match=reason) as error, transaction() as db:
        sessions.create(db, given_.model_copy(update={field: value}), by=people.viewer("recruiter"), now=NOW)
    assert error.value.field == field


def test_completion_takes_the_human_score_before_the_ai(database: str) -> None:
    with transaction() as db:
        people = make.people(db, questions=2)
        session_id = make.session(db, now=NOW, people=people, status="in_progress")
        first, second = people.question_ids
        scores = [
            sessions.NewAnswer(question_id=first, score=1, source="ai"),
            sessions.NewAnswer(question_id=first, score=5, source="human"),
            sessions.NewAnswer(question_id=second, score=2, source="ai"),
        ]
        sessions.answer(db, session_id, scores, by=people.viewer("interviewer"), now=NOW)
        sessions.move(db, session_id, sessions.NewStatus(status="completed"), by=people.viewer("interviewer"), now=NOW)
        db.expire_all()
        assert db.get_one(InterviewSession, session_id).score == 70


def test_a_deleted_session_is_not_there(database: str) -> None:
    with transaction() as db:
        people = make.people(db)
        session_id = make.session(db, now=NOW, people=people)
        db.execute(update(InterviewSession).values(deleted_at=NOW))
    with pytest.raises(NotFound), transaction() as db:
        sessions.get(db, session_id, by=people.viewer("admin"))
