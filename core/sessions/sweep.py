"""The status sweep: moves sessions whose rules are due, in claimed batches (docs/domain.md, "The status sweep")."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from typing import Any
from uuid import UUID

from sqlalchemy import literal, select, text, tuple_
from sqlalchemy.orm import Session

from core import outbox
from core.db import array, insert_many, transaction
from core.events import SessionLate
from core.models import InterviewSession, SessionEvent, SessionStatus
from core.notifications import notify
from core.results import SAMPLE, JobResult
from core.sessions.apply_moves import Move, write_moves
from core.sessions.deadlines import Rule, due_rule, next_check
from core.sessions.notices import session_notices
from core.sessions.snapshot import SNAPSHOT_QUERY, SessionSnapshot, to_snapshots

Cursor = tuple[datetime, UUID]
"""``sweep_at`` and id of the last session checked, in the order of the index ``sessions_sweep``."""

BATCH = 1000


def update_statuses(*, now: datetime, dry_run: bool = False, batch: int = BATCH) -> JobResult:
    """Apply to every session the first rule that is due at ``now``, one step a pass.

    Each batch is claimed, written and published in its own transaction, so a killed run loses at most work that the
    next pass finds again. Sessions locked by others are left to the next pass. A session that entered its state at or
    after ``now`` is not checked: a late run must not act on later changes. ``dry_run`` writes nothing. The result
    counts by rule; ``skipped`` are sessions checked of which no rule was due (any more).
    """
    result = JobResult(now=now, dry_run=dry_run)
    cursor: Cursor | None = (datetime.fromtimestamp(0, UTC), UUID(int=0))
    while cursor is not None:
        with _gc_paused(), transaction() as db:
            cursor = _batch(db, result, cursor, batch=batch)
    return result


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector while a batch runs.

    The batch's hundred thousand objects live until it commits; the collector would traverse them and those of the
    whole process again and again. It finds the batch's garbage afterwards.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _batch(db: Session, result: JobResult, cursor: Cursor, *, batch: int) -> Cursor | None:
    now = result.now
    claimed, cursor_after = claim(db, cursor, now=now, batch=batch, lock=not result.dry_run)
    due: dict[Rule, list[SessionSnapshot]] = {}
    early: list[SessionSnapshot] = []
    for s in claimed:
        rule = due_rule(s, now)
        if rule is None:
            early.append(s)
        else:
            due.setdefault(rule, []).append(s)
            if len(result.sample) < SAMPLE:
                result.sample.append({"session_id": str(s.id), "status": s.status, "rule": rule})
    result.counts.update({rule: len(found) for rule, found in due.items()})
    result.found += sum(map(len, due.values()))
    result.skipped += len(early)
    if not result.dry_run:
        _apply(db, due, now)
        _postpone(db, early)
        result.done += sum(map(len, due.values()))
    return cursor_after


def claim(
    db: Session, cursor: Cursor, *, now: datetime, batch: int, lock: bool
) -> tuple[Sequence[SessionSnapshot], Cursor | None]:
    """The next sessions to check, locked, and the cursor for the next batch; None: there are no more.

    They are claimed in the order of the index ``sessions_sweep``, which is the cursor's. A second statement reads the
    snapshots, and so sees what was committed before the locks were taken.
    """
    s = InterviewSession
    query = (
        select(s.sweep_at, s.id)
        .where(
            s.deleted_at.is_(None),
            s.sweep_at <= now,
            s.status_at < now,
            tuple_(s.sweep_at, s.id) > tuple_(literal(cursor[0]), literal(cursor[1])),
        )
        .order_by(s.sweep_at, s.id)
        .limit(batch)
    )
    # Not through the ORM, which would search each row for entities.
    connection = db.connection()
    claimed = connection.execute(query.with_for_update(skip_locked=True) if lock else query).all()
    if not claimed:
        return (), None
    after: Cursor | None = (claimed[-1][0], claimed[-1][1]) if len(claimed) == batch else None
    return to_snapshots(connection.execute(_CLAIMED, {"ids": array([id_ for _, id_ in claimed])}).all()), after


_CLAIMED = SNAPSHOT_QUERY.where(text("sessions.id = ANY(CAST(:ids AS uuid[]))")).order_by(
    InterviewSession.sweep_at, InterviewSession.id
)


def _apply(db: Session, due: dict[Rule, list[SessionSnapshot]], now: datetime) -> None:
    answered = _answered_enough(db, [s.id for s in due.get("close", ())])
    targets: dict[Rule, SessionStatus] = {
        "expire": "expired",
        "no_show": "no_show",
        "interrupt": "interrupted",
    }
    moves = [
        Move(s, to, "system", reason=_REASONS[rule], no_show_party="candidate" if rule == "no_show" else None)
        for rule, to in targets.items()
        for s in due.get(rule, ())
    ] + [
        Move(s, "completed" if s.id in answered else "abandoned", "system", reason=_REASONS["close"])
        for s in due.get("close", ())
    ]
    write_moves(db, moves, now=now)
    _publish_overdue(db, "late", due.get("late", []), now)
    _publish_overdue(db, "feedback_overdue", due.get("feedback_overdue", []), now)


_REASONS: dict[Rule, str] = {
    "expire": "the invitation expired",
    "no_show": "it was not started in time",
    "interrupt": "no sign of life",
    "close": "it was not resumed in time",
}

_MARK: dict[str, Any] = {
    "late": text("""
        UPDATE sessions SET late_version = schedule_version, sweep_at = changes.sweep_at
        FROM unnest(CAST(:id AS uuid[]), CAST(:sweep_at AS timestamptz[])) AS changes(id, sweep_at)
        WHERE sessions.id = changes.id
    """),
    "feedback_overdue": text("""
        UPDATE sessions SET feedback_overdue_at = :now, sweep_at = changes.sweep_at
        FROM unnest(CAST(:id AS uuid[]), CAST(:sweep_at AS timestamptz[])) AS changes(id, sweep_at)
        WHERE sessions.id = changes.id
    """),
    "early": text("""
        UPDATE sessions SET sweep_at = changes.sweep_at
        FROM unnest(CAST(:id AS uuid[]), CAST(:sweep_at AS timestamptz[])) AS changes(id, sweep_at)
        WHERE sessions.id = changes.id
    """),
}


def _publish_overdue(db: Session, rule: str, sessions: list[SessionSnapshot], now: datetime) -> None:
    """Notify of lateness or overdue feedback, and mark the sessions so that it happens once; no status changes."""
    if not sessions:
        return
    after = [
        s._replace(late_version=s.schedule_version) if rule == "late" else s._replace(feedback_overdue_at=now)
        for s in sessions
    ]
    checks = {"id": array([s.id for s in after]), "sweep_at": array([next_check(s) for s in after])}
    db.execute(_MARK[rule], checks | ({"now": now} if rule == "feedback_overdue" else {}))
    insert_many(
        db,
        SessionEvent,
        {
            "session_id": [s.id for s in after],
            "kind": rule,
            "actor": "system",
            "at": now,
            "dedupe_key": [f"{rule}/{s.schedule_version}" for s in after],
        },
        conflict_target="(session_id, dedupe_key)",
    )
    if rule == "late":
        outbox.publish_many(
            db,
            (
                SessionLate(session_id=s.id, scheduled_start=s.scheduled_start, schedule_version=s.schedule_version)
                for s in after
                if s.scheduled_start
            ),
        )
        notify(db, list(chain.from_iterable(session_notices(s, "late", now=now) for s in after)), now=now)
    else:
        notify(db, list(chain.from_iterable(session_notices(s, "feedback_overdue", now=now) for s in after)), now=now)


def _postpone(db: Session, sessions: list[SessionSnapshot]) -> None:
    if sessions:
        checks = {"id": array([s.id for s in sessions]), "sweep_at": array([next_check(s) for s in sessions])}
        db.execute(_MARK["early"], checks)


_ANSWERED = text("""
    SELECT s.id, i.completion_ratio, count(q.id), count(a.question_id),
        EXISTS (SELECT FROM answers WHERE session_id = s.id)
    FROM sessions s
    JOIN interviews i ON i.id = s.interview_id
    LEFT JOIN questions q ON q.interview_id = i.id AND q.required
    LEFT JOIN LATERAL (
        SELECT question_id FROM answers WHERE session_id = s.id AND question_id = q.id LIMIT 1
    ) a ON true
    WHERE s.id = ANY(:ids)
    GROUP BY s.id, i.completion_ratio
""")


def _answered_enough(db: Session, ids: list[UUID]) -> set[UUID]:
    """Those sessions of which at least the completion ratio of the required questions is answered.

    Where no question is required: those with any answer.
    """
    if not ids:
        return set()
    rows = db.execute(_ANSWERED, {"ids": ids})
    return {
        id_
        for id_, ratio, required, answered, has_answers in rows
        if (Decimal(answered) >= ratio * required if required else has_answers)
    }
