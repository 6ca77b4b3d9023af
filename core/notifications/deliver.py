"""Delivers pending notifications when they become due, and expires those past their ``expires_at``."""

from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.db import transaction
from core.notifications.notify import Delivery, deliver
from core.notifications.withdraw import WithdrawnNotification, publish_withdrawn
from core.results import SAMPLE, JobResult

BATCH = 500


def deliver_due(*, now: datetime, dry_run: bool = False, batch: int = BATCH) -> JobResult:
    """Expire notifications past their ``expires_at``, then deliver the pending ones whose ``not_before`` has come.

    Each batch is claimed, written and published in its own transaction, and rows that another process has claimed are
    left to it: however many passes run, each is delivered once. Expiry is checked by the database's clock too, so that
    a late run delivers nothing stale. ``dry_run`` writes nothing. The result counts ``delivered`` and ``expired``;
    ``skipped`` are those that expired undelivered.
    """
    result = JobResult(now=now, dry_run=dry_run)
    if dry_run:
        with transaction() as db:
            _preview(db, result, now)
        return result
    given = {"now": now, "batch": batch}
    more = True
    while more:
        with transaction() as db:
            more = _expire(db, result, given) == batch
    more = True
    while more:
        with transaction() as db:
            more = _deliver(db, result, given) == batch
    return result


def next_due(db: Session) -> datetime | None:
    """When ``deliver_due`` next has work to do; None: no notification is pending or will expire."""
    due: datetime | None = db.execute(_NEXT).scalar_one()
    return due


_NEXT = text("""
    SELECT least(
        (SELECT min(not_before) FROM notifications WHERE status = 'pending'),
        (SELECT min(expires_at) FROM notifications
         WHERE status IN ('pending', 'delivered') AND expires_at IS NOT NULL)
    )
""")

_EXPIRED = "status IN ('pending', 'delivered') AND expires_at <= greatest(CAST(:now AS timestamptz), clock_timestamp())"
_DUE = "status = 'pending' AND not_before <= :now"

_EXPIRE = text(f"""
    WITH expired AS MATERIALIZED (
        SELECT id, status FROM notifications WHERE {_EXPIRED}
        ORDER BY expires_at, id LIMIT :batch FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE notifications n SET status = 'expired' FROM expired WHERE n.id = expired.id
    RETURNING n.id, n.user_id, n.role, expired.status
""")  # noqa: S608 - made of the constants above

_DELIVER = text(f"""
    WITH due AS MATERIALIZED (
        SELECT id FROM notifications WHERE {_DUE}
        ORDER BY not_before, id LIMIT :batch FOR NO KEY UPDATE SKIP LOCKED
    ), delivered AS (
        UPDATE notifications n SET status = 'delivered', delivered_at = :now FROM due WHERE n.id = due.id
        RETURNING n.*
    )
    SELECT id, user_id, role, category, title, body, data, session_id, expires_at
    FROM delivered ORDER BY not_before, id
""")  # noqa: S608 - made of the constants above


def _expire(db: Session, result: JobResult, given: dict[str, Any]) -> int:
    expired = db.execute(_EXPIRE, given).all()
    publish_withdrawn(
        db,
        [
            WithdrawnNotification(id_, user_id, role)
            for id_, user_id, role, previous in expired
            if previous == "delivered"
        ],
        now=given["now"],
    )
    result.found += len(expired)
    result.done += len(expired)
    result.counts["expired"] += len(expired)
    result.skipped += sum(previous == "pending" for *_, previous in expired)
    return len(expired)


def _deliver(db: Session, result: JobResult, given: dict[str, Any]) -> int:
    due = [Delivery._make(row) for row in db.execute(_DELIVER, given)]
    deliver(db, due, now=given["now"])
    result.found += len(due)
    result.done += len(due)
    result.counts["delivered"] += len(due)
    result.sample += [{"notification_id": one.id, "title": one.title} for one in due[: SAMPLE - len(result.sample)]]
    return len(due)


_PREVIEW = text(f"""
    SELECT count(*) FILTER (WHERE NOT expired), count(*) FILTER (WHERE expired),
           count(*) FILTER (WHERE expired AND pending)
    FROM (
        SELECT ({_EXPIRED}) IS TRUE AS expired, status = 'pending' AS pending
        FROM notifications WHERE ({_EXPIRED}) OR ({_DUE})
    ) AS due
""")  # noqa: S608 - made of the constants above

_PREVIEW_SAMPLE = text(f"""
    SELECT id AS notification_id, title FROM notifications WHERE {_DUE} AND ({_EXPIRED}) IS NOT TRUE
    ORDER BY not_before, id LIMIT :sample
""")  # noqa: S608 - made of the constants above


def _preview(db: Session, result: JobResult, now: datetime) -> None:
    counts = db.execute(_PREVIEW, {"now": now}).one()
    result.counts["delivered"], result.counts["expired"], result.skipped = counts
    result.found = result.counts.total()
    sample = db.execute(_PREVIEW_SAMPLE, {"now": now, "sample": SAMPLE})
    result.sample = [dict(row) for row in sample.mappings()]
