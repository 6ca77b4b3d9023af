"""Writes moves: rows, history, notifications, mails and push events together, for one session or a thousand."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import outbox, reminders
from core.db import array, insert_many
from core.events import SessionMoved
from core.models import SessionEvent, SessionStatus
from core.notifications import notify
from core.sessions.deadlines import next_check
from core.sessions.mails import mail_moves
from core.sessions.moves import CORRECTIONS, ENDED, Actor
from core.sessions.notices import session_notices
from core.sessions.snapshot import SessionSnapshot


@dataclass(frozen=True, slots=True)
class Move:
    """One legal move of a locked session."""

    session: SessionSnapshot
    to: SessionStatus
    actor: Actor
    actor_id: int | None = None
    reason: str | None = None
    no_show_party: str | None = None


# Every column is set for every row, so that a thousand rows need one statement with one plan.
_UPDATE = text("""
    UPDATE sessions SET
        status = changes.status,
        status_at = :now,
        scheduled_start = changes.scheduled_start,
        scheduled_end = changes.scheduled_end,
        started_at = changes.started_at,
        last_activity_at = changes.last_activity_at,
        ended_at = changes.ended_at,
        no_show_party = changes.no_show_party,
        score = CASE WHEN changes.status = 'completed' THEN changes.score ELSE sessions.score END,
        sweep_at = changes.sweep_at
    FROM unnest(
        CAST(:id AS uuid[]), CAST(:status AS text[]),
        CAST(:scheduled_start AS timestamptz[]), CAST(:scheduled_end AS timestamptz[]),
        CAST(:started_at AS timestamptz[]), CAST(:last_activity_at AS timestamptz[]),
        CAST(:ended_at AS timestamptz[]), CAST(:no_show_party AS text[]),
        CAST(:score AS numeric[]), CAST(:sweep_at AS timestamptz[])
    ) AS changes(id, status, scheduled_start, scheduled_end, started_at, last_activity_at, ended_at,
               no_show_party, score, sweep_at)
    WHERE sessions.id = changes.id
""")


def write_moves(db: Session, moves: Sequence[Move], *, now: datetime) -> None:
    """Write moves that were checked while their sessions were locked.

    May raise the IntegrityError of a constraint, which the caller translates.
    """
    if not moves:
        return
    after = [_snapshot_after(move, now) for move in moves]
    scores = completion_scores(db, [s.id for s in after if s.status == "completed"])
    db.execute(
        _UPDATE,
        {
            "now": now,
            "id": array([s.id for s in after]),
            "status": array([s.status for s in after]),
            "scheduled_start": array([s.scheduled_start for s in after]),
            "scheduled_end": array([s.scheduled_end for s in after]),
            "started_at": array([s.started_at for s in after]),
            "last_activity_at": array([s.last_activity_at for s in after]),
            "ended_at": array([s.ended_at for s in after]),
            "no_show_party": array([move.no_show_party for move in moves]),
            "score": array([scores.get(s.id) for s in after]),
            "sweep_at": array([next_check(s) for s in after]),
        },
    )
    _update_reminders(db, moves, now)
    insert_many(
        db,
        SessionEvent,
        {
            "session_id": [s.id for s in after],
            "kind": ["corrected" if (m.session.status, m.to) in CORRECTIONS else "moved" for m in moves],
            "old_status": [move.session.status for move in moves],
            "new_status": [move.to for move in moves],
            "actor": [move.actor for move in moves],
            "actor_id": [move.actor_id for move in moves],
            "reason": [move.reason for move in moves],
            "at": now,
        },
    )
    outbox.publish_many(
        db,
        (
            SessionMoved(
                session_id=move.session.id,
                status=move.to,
                previous=move.session.status,
                moved_at=now,
                by=move.actor,
                reason=move.reason,
                no_show_party=move.no_show_party,
            )
            for move in moves
        ),
    )
    mail_moves(db, ((move.session.id, move.to, move.reason) for move in moves), now=now)
    notify(db, list(chain.from_iterable(session_notices(s, s.status, now=now) for s in after)), now=now)


def _update_reminders(db: Session, moves: Sequence[Move], now: datetime) -> None:
    """Void the reminders of sessions no longer scheduled, plan those of newly scheduled: between rows and mails."""
    reminders.void(
        db, [move.session.id for move in moves if move.session.status == "scheduled"], why="the session moved on"
    )
    reminders.plan(db, [move.session.id for move in moves if move.to == "scheduled"], now=now)


def _snapshot_after(move: Move, now: datetime) -> SessionSnapshot:
    """The session after the move."""
    s = move.session
    if move.to == "in_progress":
        started = s._replace(
            status=move.to,
            status_at=now,
            started_at=s.started_at or now,
            last_activity_at=now,
            ended_at=None,
        )
        if s.interviewer_id is not None and s.scheduled_start is None:
            # Started without a schedule: the interviewer is busy, and the exclusion constraint needs a time.
            started = started._replace(scheduled_start=now, scheduled_end=planned_end(s, now))
        return started
    return s._replace(status=move.to, status_at=now, ended_at=(s.ended_at or now) if move.to in ENDED else s.ended_at)


def planned_end(s: SessionSnapshot, start: datetime) -> datetime:
    """The scheduled end of a session that starts at ``start``."""
    return start + timedelta(minutes=s.duration_minutes)


_SCORES = text("""
    SELECT session_id,
           round(100 * sum(weight * score / max_score) / sum(weight), 2)
    FROM (
        SELECT DISTINCT ON (a.session_id, a.question_id)
               a.session_id, q.weight, q.max_score, a.score
        FROM answers a JOIN questions q ON q.id = a.question_id
        WHERE a.session_id = ANY(:ids) AND a.score IS NOT NULL
        ORDER BY a.session_id, a.question_id, a.source DESC
    ) AS scored
    GROUP BY session_id
""")


def completion_scores(db: Session, ids: Sequence[UUID]) -> dict[UUID, float]:
    """Each session's score, 0–100: the weighted share of the maximum points of its scored answers.

    A person's score of an answer takes precedence over the AI's. Sessions without scored answers are absent.
    """
    if not ids:
        return {}
    return {session_id: float(score) for session_id, score in db.execute(_SCORES, {"ids": list(ids)})}
