"""Claims of due reports under a lease, by the database's clock."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import outbox
from core.db import array
from core.events import ReportQueued, ReportRunning

LEASE = timedelta(seconds=30)
"""How long a report stays claimed by a process that does not renew its lease."""


class ClaimedReport(NamedTuple):
    """A claimed report to render; ``owner`` is unique to the claim."""

    id: UUID
    type: str
    parameters: dict[str, Any]
    requested_by: int | None
    dedupe_key: str | None
    attempts: int
    created_at: datetime
    owner: str
    alone: bool = False
    """Two processes were lost while rendering it: it is rendered alone, so that nothing else is lost with a third."""


def event_fields(claimed: ClaimedReport) -> dict[str, Any]:
    """The fields that all push events about the report share."""
    return {
        "report_id": claimed.id,
        "user_id": claimed.requested_by,
        "report_type": claimed.type,
        "attempts": claimed.attempts,
    }


_DUE = """(r.status = 'queued' AND r.due_at <= clock_timestamp()
            OR r.status = 'running' AND r.lease_until < clock_timestamp())"""
# Daily reports go last, so that backfilling a year does not delay people's requests. The reports of a day are claimed
# together, even beyond the limit: they must be of one snapshot. A report that may have killed two processes is claimed,
# when its turn comes, only by an idle process; those behind it wait no longer than until one is idle.
_CLAIM = text(f"""
    WITH first AS MATERIALIZED (
        SELECT r.id, r.dedupe_key, coalesce(r.dedupe_key LIKE 'daily/%', false) AS daily, r.due_at,
            r.status = 'running' AND r.attempts >= 2 AS alone
        FROM reports r
        WHERE {_DUE} ORDER BY daily, r.due_at, r.id LIMIT :limit FOR UPDATE SKIP LOCKED
    ), due AS MATERIALIZED (
        SELECT id, dedupe_key, daily, alone FROM (
            SELECT *, row_number() OVER turns AS turn, count(*) FILTER (WHERE alone) OVER turns AS alone_so_far
            FROM first WINDOW turns AS (ORDER BY daily, due_at, id)
        ) AS ranked WHERE alone_so_far = 0 OR (alone AND turn = 1 AND :idle)
    ), same_day AS MATERIALIZED (
        SELECT r.id FROM reports r
        WHERE r.dedupe_key LIKE 'daily/%' AND {_DUE} AND r.id NOT IN (SELECT id FROM due) AND EXISTS (
            SELECT FROM due WHERE due.daily AND split_part(due.dedupe_key, '/', 2) = split_part(r.dedupe_key, '/', 2)
        )
        ORDER BY r.id FOR UPDATE SKIP LOCKED
    ), selected AS (
        SELECT id, daily, alone FROM due UNION ALL SELECT id, true, (SELECT bool_or(alone) FROM due) FROM same_day
    ), claimed AS (
        UPDATE reports r SET status = 'running', attempts = attempts + 1, lease_owner = :owner,
            lease_until = clock_timestamp() + CAST(:lease AS interval)
        FROM selected WHERE r.id = selected.id
        RETURNING selected.daily, selected.alone, r.*
    )
    SELECT id, type, parameters, requested_by, dedupe_key, attempts, created_at, lease_owner, alone
    FROM claimed ORDER BY daily, due_at, id
""")  # noqa: S608 - a constant of this module


def claim(db: Session, *, owner: str, limit: int, idle: bool = True) -> list[ClaimedReport]:
    """Claim up to ``limit`` reports that are due, or whose lease expired, and the other due reports of their days.

    People's requests come first. ``owner`` must be new for each claim. A report whose process was lost is claimed again
    with more attempts; the caller decides when to fail it. From its second lost lease on it is claimed ``alone``, with
    nothing but its day's reports, and only when the caller is ``idle``: it renders nothing else.
    """
    rows = db.execute(_CLAIM, {"owner": owner, "limit": limit, "idle": idle, "lease": LEASE})
    claimed = [ClaimedReport._make(row) for row in rows]
    outbox.publish_many(
        db,
        [ReportRunning(**event_fields(one)) for one in claimed if one.requested_by is not None],
    )
    return claimed


# A locked row is being completed by another transaction, so it is skipped.
_OWNED = """
    SELECT r.id FROM reports r
    JOIN unnest((SELECT CAST(:ids AS uuid[])), (SELECT CAST(:owners AS text[]))) AS requested(id, owner)
        ON requested.id = r.id AND requested.owner = r.lease_owner
    WHERE r.status = 'running' ORDER BY r.id FOR UPDATE OF r SKIP LOCKED
"""
_RENEW = text(f"""
    UPDATE reports SET lease_until = clock_timestamp() + CAST(:lease AS interval) WHERE id IN ({_OWNED})
""")  # noqa: S608 - a constant of this module
_RELEASE = text(f"""
    UPDATE reports SET status = 'queued', attempts = attempts - 1, due_at = clock_timestamp(), lease_owner = NULL,
        lease_until = NULL
    WHERE id IN ({_OWNED}) RETURNING id, attempts
""")  # noqa: S608 - a constant of this module


def renew(db: Session, reports: Iterable[ClaimedReport]) -> None:
    """Renew the leases of these reports, where their owners still hold them."""
    if given := _parameters(list(reports)):
        db.execute(_RENEW, {**given, "lease": LEASE})


def release(db: Session, reports: Iterable[ClaimedReport]) -> None:
    """Release these reports as if they had not been claimed, because this process is stopping."""
    by_id = {one.id: one for one in reports}
    if not by_id:
        return
    for id_, attempts in db.execute(_RELEASE, _parameters(list(by_id.values()))):
        publish_queued(db, by_id[id_], attempts=attempts)
    outbox.wake(db)


def publish_queued(db: Session, claimed: ClaimedReport, *, attempts: int, reason: str | None = None) -> None:
    """Publish to the requester that the report is queued again."""
    if claimed.requested_by is not None:
        about = event_fields(claimed) | {"attempts": attempts}
        outbox.publish(db, ReportQueued(**about, parameters=claimed.parameters, reason=reason))


def _parameters(reports: Sequence[ClaimedReport]) -> dict[str, str]:
    if not reports:
        return {}
    return {"ids": array([one.id for one in reports]), "owners": array([one.owner for one in reports])}


_NEXT = text("""
    SELECT least(
        (SELECT min(due_at) FROM reports WHERE status = 'queued'),
        (SELECT min(lease_until) FROM reports WHERE status = 'running')
    )
""")


NOT_AVAILABLE = """(status = 'failed' OR status = 'ready' AND (expires_at <= clock_timestamp()
        OR NOT EXISTS (SELECT FROM report_files WHERE report_files.report_id = reports.id)))"""
# An expired report may still have its file, until the nightly cleanup.
_REQUEUE = text(f"""
    WITH requeued AS (
        UPDATE reports SET status = 'queued', attempts = 0, due_at = clock_timestamp(), data_as_of = NULL,
            finished_at = NULL, expires_at = NULL, last_error = NULL
        WHERE dedupe_key = ANY(CAST(:keys AS text[])) AND {NOT_AVAILABLE} RETURNING id
    ), deleted_files AS (DELETE FROM report_files USING requeued WHERE report_files.report_id = requeued.id)
    SELECT id FROM requeued
""")  # noqa: S608 - a constant of this module


def requeue(db: Session, keys: Sequence[str]) -> int:
    """Queue again the system's reports with these keys that failed, or whose file was removed; returns how many."""
    found = len(db.execute(_REQUEUE, {"keys": array(list(keys))}).all())
    if found:
        outbox.wake(db)
    return found


def next_due(db: Session) -> datetime | None:
    """When the next report is due or the next lease expires; None: neither."""
    found: datetime | None = db.execute(_NEXT).scalar_one()
    return found
