"""Answers, scores and feedback: what comes later adds to what came before."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from core import sessions
from core.db import transaction
from core.errors import Conflict
from core.models import Answer, Feedback, InterviewSession, Question, SessionEvent, SessionStatus
from core.sessions import NewAnswer, NewFeedback, NewStatus
from tests.support import factories as make
from tests.support.factories import People

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
LATER = NOW + timedelta(minutes=3)


def given(status: SessionStatus = "in_progress", *, questions: int = 1) -> tuple[People, UUID]:
    with transaction() as db:
        people = make.people(db, questions=questions)
        return people, make.session(db, now=NOW, people=people, status=status)


def answer(people: People, session_id: UUID, role: str, *, now: datetime, place: int = 0, **more: Any) -> None:
    with transaction() as db:
        new = NewAnswer(question_id=people.question_ids[place], **more)
        sessions.answer(db, session_id, [new], by=people.viewer(role), now=now)


def answers(session_id: UUID) -> list[Answer]:
    with transaction() as db:
        return db.query(Answer).filter_by(session_id=session_id).order_by(Answer.id).all()


def row(session_id: UUID) -> InterviewSession:
    with transaction() as db:
        return db.get_one(InterviewSession, session_id)


def recommend(people: People, session_id: UUID, recommendation: Any, *, now: datetime, **more: str) -> None:
    with transaction() as db:
        new = NewFeedback(recommendation=recommendation, **more)
        sessions.give_feedback(db, session_id, new, by=people.viewer("interviewer"), now=now)


def feedback(session_id: UUID) -> list[Feedback]:
    with transaction() as db:
        return db.query(Feedback).filter_by(session_id=session_id).all()


def test_a_later_score_keeps_the_text(database: str) -> None:
    people, id_ = given()
    answer(people, id_, "candidate", now=NOW, text="An index is a tree.", seconds=90)
    answer(people, id_, "interviewer", now=LATER, score=4, source="ai")
    [kept] = answers(id_)
    assert (kept.text, kept.seconds, kept.score) == ("An index is a tree.", 90, 4)
    assert kept.answered_at == LATER


def test_a_later_text_keeps_the_score(database: str) -> None:
    people, id_ = given()
    answer(people, id_, "interviewer", now=NOW, score=4, source="ai")
    answer(people, id_, "candidate", now=LATER, text="And a heap.", seconds=20)
    [kept] = answers(id_)
    assert (kept.text, kept.seconds, kept.score) == ("And a heap.", 20, 4)


def test_the_same_again_replaces(database: str) -> None:
    people, id_ = given()
    for now, text, score in ((NOW, "first", 1), (LATER, "second", 2)):
        answer(people, id_, "interviewer", now=now, text=text, score=score)
    [kept] = answers(id_)
    assert (kept.source, kept.text, kept.score, kept.answered_at) == ("human", "second", 2, LATER)


def test_a_persons_score_stands_beside_the_ais_and_the_candidates_text(database: str) -> None:
    people, id_ = given()
    answer(people, id_, "candidate", now=NOW, text="An index is a tree.")
    answer(people, id_, "interviewer", now=NOW, score=1, source="ai")
    answer(people, id_, "interviewer", now=LATER, score=5)
    found = [(one.source, one.text, one.score, one.scored_by) for one in answers(id_)]
    assert found == [("ai", "An index is a tree.", 1, None), ("human", None, 5, people.interviewer_id)]


def test_an_answer_of_the_candidate_is_a_sign_of_life_and_a_score_is_none(database: str) -> None:
    people, id_ = given()
    before = row(id_).last_activity_at
    answer(people, id_, "interviewer", now=LATER, score=3)
    assert row(id_).last_activity_at == before
    answer(people, id_, "candidate", now=LATER, text="so")
    assert row(id_).last_activity_at == LATER


@pytest.mark.parametrize(
    ("role", "status", "taken"),
    [
        ("candidate", "invited", False),
        ("candidate", "scheduled", False),
        ("candidate", "in_progress", True),
        ("candidate", "interrupted", False),
        ("candidate", "completed", False),
        ("candidate", "abandoned", False),
        ("interviewer", "invited", False),
        ("interviewer", "scheduled", False),
        ("interviewer", "in_progress", True),
        ("interviewer", "interrupted", True),
        ("interviewer", "completed", True),
        ("interviewer", "abandoned", True),
    ],
)
def test_in_which_states_candidates_answer_and_interviewers_score(
    database: str, role: str, status: SessionStatus, taken: bool
) -> None:
    people, id_ = given(status)
    content = {"text": "so"} if role == "candidate" else {"score": 2}
    if taken:
        answer(people, id_, role, now=LATER, **content)
    else:
        with pytest.raises(Conflict, match=status):
            answer(people, id_, role, now=LATER, **content)
    assert len(answers(id_)) == taken


def test_a_later_score_updates_the_score_of_the_session(database: str) -> None:
    people, id_ = given(questions=2)
    with transaction() as db:
        db.execute(update(Question).where(Question.id == people.question_ids[1]).values(weight=3, max_score=10))
    answer(people, id_, "interviewer", now=NOW, score=5)
    with transaction() as db:
        sessions.move(db, id_, NewStatus(status="completed"), by=people.viewer("interviewer"), now=NOW)
    assert row(id_).score == 100
    answer(people, id_, "interviewer", now=LATER, score=5, place=1)
    # all of weight 1, half of weight 3
    assert row(id_).score == Decimal("62.5")


def test_a_second_feedback_keeps_when_it_was_first_given(database: str) -> None:
    people, id_ = given("completed")
    recommend(people, id_, "no", now=NOW, comment="hesitant")
    recommend(people, id_, "strong_yes", now=NOW + timedelta(days=9))
    [kept] = feedback(id_)
    assert kept.submitted_at == NOW
    assert (kept.recommendation, kept.comment) == ("strong_yes", None), "what was recommended is replaced as a whole"
    with transaction() as db:
        events = db.query(SessionEvent).filter_by(session_id=id_, kind="feedback").order_by(SessionEvent.id).all()
    assert [(event.at, event.data) for event in events] == [
        (NOW, {"recommendation": "no"}),
        (NOW + timedelta(days=9), {"recommendation": "strong_yes"}),
    ]


def test_feedback_of_another_interviewer_is_their_own(database: str) -> None:
    """The session was given to somebody else between the two."""
    people, id_ = given("completed")
    recommend(people, id_, "no", now=NOW)
    with transaction() as db:
        other = make.people(db)
        db.execute(
            update(InterviewSession).where(InterviewSession.id == id_).values(interviewer_id=other.interviewer_id)
        )
    recommend(other, id_, "yes", now=LATER)
    found = {one.interviewer_id: (one.recommendation, one.submitted_at) for one in feedback(id_)}
    assert found == {people.interviewer_id: ("no", NOW), other.interviewer_id: ("yes", LATER)}


@pytest.mark.parametrize("later", [30, 59.999, 60, 75])
def test_signs_of_life_are_all_stored_and_pushed_at_most_once_a_minute(database: str, later: float) -> None:
    people, id_ = given()
    moments = NOW, NOW + timedelta(seconds=later)
    for now in moments:
        with transaction() as db:
            sessions.note_activity(db, id_, by=people.viewer("candidate"), now=now)
    assert row(id_).last_activity_at == moments[1]
    with transaction() as db:
        pushed = make.pushed(db, f"/topic/session/{id_}", "session.updated")
    assert len(pushed) == (2 if later >= 60 else 1)
