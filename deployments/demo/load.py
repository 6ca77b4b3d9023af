"""Loads the demo data, all of it in one transaction, once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from random import Random
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from core.clock import utcnow
from core.db import insert_many, transaction
from core.locks import DEMO_LOCK, LOCKS
from core.models import Answer, Base, Candidate, Feedback, Interview, InterviewSession, Question, SessionEvent, User
from core.sessions.apply_moves import completion_scores
from core.sessions.deadlines import next_check
from core.sessions.snapshot import SNAPSHOT_QUERY, to_snapshots
from deployments.demo import people
from deployments.demo.interviews import interviews
from deployments.demo.open_sessions import add_open_sessions
from deployments.demo.past_sessions import add_past_session
from deployments.demo.planner import Planner, past_time
from deployments.demo.session_rows import SessionBuilder

SEED = 20_261_123
ENDED = {"completed": 345, "abandoned": 42, "no_show": 40, "expired": 38, "cancelled": 35}


def load(*, now: datetime | None = None) -> str:
    """Load the demo data, unless there are users already; returns what it did as text.

    The same hour gives the same rows. Times are relative to ``now`` (absent: the clock), cut to the hour.
    """
    base = (now or utcnow()).replace(minute=0, second=0, microsecond=0)
    with transaction() as db:
        db.execute(text("SELECT pg_advisory_xact_lock(:a, :b)"), {"a": LOCKS, "b": DEMO_LOCK})
        there = db.scalar(text("SELECT count(*) FROM users"))
        if there:
            return f"Demo data: nothing to do, there are {there} users already."
        return _load(db, base)


def build_sessions(
    rng: Random, base: datetime, persons: list[people.DemoPerson], planner: Planner
) -> list[SessionBuilder]:
    """The six hundred sessions: the ended ones in order of time, then the open ones."""
    outcomes = [outcome for outcome, count in ENDED.items() for _ in range(count)]
    rng.shuffle(outcomes)
    for outcome, start in zip(outcomes, sorted(past_time(rng, base) for _ in outcomes), strict=True):
        add_past_session(planner, outcome, start)  # type: ignore[arg-type]
    add_open_sessions(planner)
    for person in persons:
        ends = [
            session.row["ended_at"]
            for session in planner.sessions
            if session.person is person and session.row["ended_at"]
        ]
        people.set_outcome(rng, person, max(ends, default=base), base)
    return planner.sessions


def _load(db: Session, base: datetime) -> str:
    rng = Random(SEED)  # noqa: S311 - the same data at each load
    users, persons, templates = people.users(base), people.candidates(rng, base), interviews(rng, base)
    sessions = build_sessions(rng, base, persons, Planner(rng, base, persons, templates))
    _insert(db, User, users)
    _insert(db, Candidate, [person.row for person in persons])
    db.execute(insert(Interview), [template.row for template in templates])
    _insert(db, Question, [row for template in templates for row in template.question_rows])
    for table in ("users", "candidates", "interviews", "questions"):
        db.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"))  # noqa: S608
    _insert(db, InterviewSession, [session.row for session in sessions])
    events = sorted((event for session in sessions for event in session.events), key=itemgetter("at"))
    answers = sorted((answer for session in sessions for answer in session.answers), key=itemgetter("answered_at"))
    _insert(db, SessionEvent, events)
    _insert(db, Answer, answers)
    _insert(db, Feedback, [session.feedback for session in sessions if session.feedback])
    _finish(db)
    states = Counter(session.status for session in sessions).most_common()
    return (
        f"Demo data: {len(users)} users, {len(persons)} candidates, {len(templates)} interviews, {len(sessions)} "
        f"sessions ({', '.join(f'{count} {status}' for status, count in states)}), {len(answers)} answers."
    )


def _insert(db: Session, table: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows that share their keys, in one statement."""
    insert_many(db, table, {name: [row[name] for row in rows] for name in rows[0]})


def _finish(db: Session) -> None:
    """Set what core computes: each session's score, and when the sweep has to check it."""
    rows = to_snapshots(db.execute(SNAPSHOT_QUERY).all())
    scores = completion_scores(db, [s.id for s in rows if s.status == "completed"])
    db.execute(
        text("""
            UPDATE sessions SET score = given.score, sweep_at = given.sweep_at
            FROM unnest(CAST(:id AS uuid[]), CAST(:score AS numeric[]), CAST(:sweep_at AS timestamptz[]))
                AS given(id, score, sweep_at)
            WHERE sessions.id = given.id
        """),
        {
            "id": [s.id for s in rows],
            "score": [scores.get(s.id) for s in rows],
            "sweep_at": [next_check(s) for s in rows],
        },
    )
