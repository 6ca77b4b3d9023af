"""``greenroom demo --live``: every few seconds one change of a session, through core, as one of the demo's users."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, cast

from sqlalchemy import Row, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from core import sessions
from core.clock import utcnow
from core.db import transaction
from core.errors import GreenroomError
from core.models import Role, SessionStatus, User
from core.sessions import NewAnswer, NewFeedback, NewSession, NewStatus, SessionPatch
from core.viewers import Viewer
from deployments.demo.people import RECRUITER

FEW_OPEN = 60
"""Open sessions below which creating new ones comes first."""


def run_live(*, every: float = 2.0, count: int | None = None) -> None:
    """Make a realistic change every few seconds and print it, until Ctrl-C or ``count`` changes."""
    rng, done = Random(), 0  # noqa: S311 - a demonstration
    try:
        while count is None or done < count:
            try:
                print(_change(rng), flush=True)
                done += 1
            except OperationalError:
                print("The database cannot be reached; trying again.", flush=True)
                time.sleep(1)
            time.sleep(every)
    except KeyboardInterrupt:
        print()


def _change(rng: Random) -> str:
    """One change, of a kind that is possible now."""
    while True:
        for act in _order(rng):
            now = utcnow()
            try:
                with transaction() as db:
                    line = act(db, rng, now)
            except GreenroomError:
                # Somebody else changed the session, or is busy at that time: try another change.
                continue
            if line:
                return f"{now:%H:%M:%S}  {line}"


def _order(rng: Random) -> list["Act"]:
    """Every kind of change once, in random order weighted by ``_ACTS``."""
    with transaction() as db:
        not_started = db.scalar(text("SELECT count(*) FROM sessions WHERE status IN ('invited', 'scheduled')")) or 0
    weights = _ACTS | ({_create: 20.0} if not_started < FEW_OPEN else {})
    return sorted(weights, key=lambda act: rng.random() ** (1 / weights[act]), reverse=True)


def _start(db: Session, rng: Random, now: datetime) -> str | None:
    s = _pick(
        db,
        "s.status = 'scheduled' AND s.scheduled_start BETWEEN :now - interval '10 min' AND :now + interval '3 min'"
        " AND (s.interviewer_id IS NOT NULL OR c.user_id IS NOT NULL)",
        now=now,
    )
    return _move(db, s, "in_progress", now, "begins")


def _complete(db: Session, rng: Random, now: datetime) -> str | None:
    s = _pick(
        db,
        "s.status = 'in_progress' AND s.interviewer_id IS NOT NULL AND s.started_at < :now - interval '5 min'"
        " OR s.status = 'in_progress' AND s.interviewer_id IS NOT NULL AND NOT EXISTS"
        " (SELECT FROM questions q WHERE q.interview_id = s.interview_id AND q.required AND NOT EXISTS"
        " (SELECT FROM answers a WHERE a.session_id = s.id AND a.question_id = q.id))",
        now=now,
    )
    return _move(db, s, "completed", now, "is complete")


def _pause(db: Session, rng: Random, now: datetime) -> str | None:
    s = _pick(db, "s.status = 'in_progress' AND c.user_id IS NOT NULL")
    return _move(db, s, "interrupted", now, "pauses")


def _resume(db: Session, rng: Random, now: datetime) -> str | None:
    s = _pick(db, "s.status = 'interrupted' AND c.user_id IS NOT NULL")
    return _move(db, s, "in_progress", now, "goes on")


def _cancel(db: Session, rng: Random, now: datetime) -> str | None:
    s = _pick(db, "s.status IN ('invited', 'scheduled')")
    return _move(db, s, "cancelled", now, "is cancelled", by=RECRUITER)


def _show_activity(db: Session, rng: Random, now: datetime) -> str | None:
    s = _pick(
        db,
        "s.status = 'in_progress' AND c.user_id IS NOT NULL"
        " AND (s.activity_pushed_at IS NULL OR s.activity_pushed_at <= :now - interval '1 min')",
        now=now,
    )
    if s is None:
        return None
    sessions.note_activity(db, s.id, by=_viewer(db, s.user_id), now=now)
    return _describe(s, "the candidate is active")


def _score(db: Session, rng: Random, now: datetime) -> str | None:
    s = _pick(db, "s.status = 'in_progress' AND s.interviewer_id IS NOT NULL")
    question = (
        s
        and db.execute(
            text(
                "SELECT q.id, q.ordinal, q.max_score FROM questions q"
                " WHERE q.interview_id = (SELECT interview_id FROM sessions WHERE id = :id) AND NOT EXISTS"
                " (SELECT FROM answers a WHERE a.session_id = :id AND a.question_id = q.id AND a.source = 'human')"
                " ORDER BY q.ordinal LIMIT 1"
            ),
            {"id": s.id},
        ).one_or_none()
    )
    if s is None or question is None:
        return None
    points = float(question.max_score) * rng.choice((4, 5, 6, 7, 8, 9)) / 10
    given = [NewAnswer(question_id=question.id, score=Decimal(str(points)), seconds=rng.randrange(60, 400))]
    sessions.answer(db, s.id, given, by=_viewer(db, s.interviewer_id), now=now)
    return _describe(s, f"question {question.ordinal} gets {points:g} of {float(question.max_score):g}")


def _give_feedback(db: Session, rng: Random, now: datetime) -> str | None:
    s = _pick(
        db,
        "s.status = 'completed' AND s.interviewer_id IS NOT NULL AND s.ended_at > :now - interval '3 days'"
        " AND NOT EXISTS (SELECT FROM feedback f WHERE f.session_id = s.id)",
        now=now,
    )
    if s is None:
        return None
    given = NewFeedback(recommendation=rng.choice(("no", "yes", "yes", "strong_yes")), comment="Thank you, well done.")
    sessions.give_feedback(db, s.id, given, by=_viewer(db, s.interviewer_id), now=now)
    return _describe(s, f"feedback: {given.recommendation.replace('_', ' ')}")


def _decide(db: Session, rng: Random, now: datetime) -> str | None:
    s = _pick(
        db,
        "s.status = 'completed' AND s.decision IS NULL AND s.ended_at > :now - interval '10 days'"
        " AND EXISTS (SELECT FROM feedback f WHERE f.session_id = s.id)",
        now=now,
    )
    if s is None:
        return None
    patch = SessionPatch(decision=rng.choice(("advance", "advance", "hold", "reject")))
    sessions.change(db, s.id, patch, by=_viewer(db, RECRUITER), now=now)
    return _describe(s, f"decision: {patch.decision}")


def _schedule(db: Session, rng: Random, now: datetime) -> str | None:
    s = _pick(db, "s.status = 'invited' AND s.invitation_expires_at > :now", now=now)
    start = _soon(rng, now)
    what = f"is scheduled for {start:%H:%M}"
    return _move(db, s, "scheduled", now, what, by=RECRUITER, scheduled_start=start)


def _reschedule(db: Session, rng: Random, now: datetime) -> str | None:
    s = _pick(db, "s.status = 'scheduled' AND s.scheduled_start > :now + interval '12 hours'", now=now)
    if s is None:
        return None
    start = s.scheduled_start + timedelta(minutes=15 * rng.choice((-4, -2, 2, 4, 8)))
    patch = SessionPatch(scheduled_start=start, reason="Another time suits better.")
    sessions.change(db, s.id, patch, by=_viewer(db, RECRUITER), now=now)
    return _describe(s, f"moves to {start:%-d %B, %H:%M}")


def _create(db: Session, rng: Random, now: datetime) -> str | None:
    pair = db.execute(
        text("""
            SELECT c.id AS candidate_id, i.id AS interview_id, c.name, i.title, u.id AS interviewer_id,
                   (SELECT max(s.id::text)::uuid FROM sessions s WHERE s.deleted_at IS NULL
                    AND s.candidate_id = c.id AND s.interview_id = i.id) AS retry_of
            FROM candidates c, interviews i, users u
            WHERE c.deleted_at IS NULL AND c.hired_at IS NULL AND c.withdrawn_at IS NULL AND i.deleted_at IS NULL
                AND u.role = 'interviewer' AND u.deleted_at IS NULL
                AND NOT EXISTS (SELECT FROM sessions s WHERE s.candidate_id = c.id AND s.interview_id = i.id
                    AND s.deleted_at IS NULL AND s.status IN ('invited', 'scheduled', 'in_progress', 'interrupted'))
            ORDER BY random() LIMIT 1
        """)
    ).one_or_none()
    if pair is None:
        return None
    start = _soon(rng, now) if rng.random() < 0.7 else None
    given = NewSession(
        candidate_id=pair.candidate_id,
        interview_id=pair.interview_id,
        interviewer_id=pair.interviewer_id,
        scheduled_start=start,
        retry_of=pair.retry_of,
    )
    sessions.create(db, given, by=_viewer(db, RECRUITER), now=now)
    return _describe(pair, f"is new, at {start:%H:%M}" if start else "is new: an invitation")


Act = Callable[[Session, Random, datetime], str | None]
_ACTS: dict[Act, float] = {
    _start: 6,
    _score: 5,
    _complete: 2,
    _resume: 2,
    _show_activity: 2,
    _create: 2,
    _schedule: 1.5,
    _give_feedback: 1,
    _decide: 0.7,
    _reschedule: 0.7,
    _pause: 0.4,
    _cancel: 0.1,
}


def _pick(db: Session, where: str, **given: Any) -> Row[Any] | None:
    """A random session that matches."""
    query = f"""
        SELECT s.id, s.interviewer_id, s.scheduled_start, c.user_id, c.name, i.title
        FROM sessions s JOIN candidates c ON c.id = s.candidate_id JOIN interviews i ON i.id = s.interview_id
        WHERE s.deleted_at IS NULL AND ({where}) ORDER BY random() LIMIT 1
    """  # noqa: S608 - our own conditions
    return db.execute(text(query), given).one_or_none()


def _move(
    db: Session,
    s: Row[Any] | None,
    to: SessionStatus,
    now: datetime,
    what: str,
    *,
    by: int | None = None,
    **more: Any,
) -> str | None:
    """Move it as ``by``; absent: as its candidate if they are a user, else as its interviewer."""
    if s is None:
        return None
    given = NewStatus(status=to, **more)
    sessions.move(db, s.id, given, by=_viewer(db, by or s.user_id or s.interviewer_id), now=now)
    return _describe(s, what)


def _describe(s: Row[Any], what: str) -> str:
    return f"{s.name}, {s.title}: {what}"


def _viewer(db: Session, user_id: int) -> Viewer:
    user = db.get_one(User, user_id)
    return Viewer(user.id, cast(Role, user.role), user.name, user.email, user.token_version)


def _soon(rng: Random, now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0) + timedelta(minutes=rng.randrange(2, 25))
