"""Which process makes which report: claims under a lease, by the database's clock."""

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
"""How long a report stays with a process of which nothing is heard."""


class ClaimedReport(NamedTuple):
    """A report to make, as it was claimed by ``owner``: a name that no other claim ever has."""

    id: UUID
    type: str
    parameters: dict[str, Any]
    requested_by: int | None
    dedupe_key: str | None
    attempts: int
    created_at: datetime
    owner: str
    alone: bool = False
    """Twice it was in the hands of a process that was lost: nothing else is to be lost with the next one."""


def event_fields(claimed: ClaimedReport) -> dict[str, Any]:
    """What every push about the report says of it."""
    return {
        "report_id": claimed.id,
        "user_id": claimed.requested_by,
        "report_type": claimed.type,
        "attempts": claimed.attempts,
    }


_DUE = """(r.status = 'queued' AND r.due_at <= clock_timestamp()
            OR r.status = 'running' AND r.lease_until < clock_timestamp())"""
# A year that is filled in afterwards must not keep people waiting, so days go last. The reports of a day are taken
# together, if only one more than there was room for: they are to be of one snapshot. What may have killed two of its
# makers waits, when its turn comes, for empty hands, and keeps those behind it waiting no longer than that takes.
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
        ) AS told WHERE alone_so_far = 0 OR (alone AND turn = 1 AND :idle)
    ), beside AS MATERIALIZED (
        SELECT r.id FROM reports r
        WHERE r.dedupe_key LIKE 'daily/%' AND {_DUE} AND r.id NOT IN (SELECT id FROM due) AND EXISTS (
            SELECT FROM due WHERE due.daily AND split_part(due.dedupe_key, '/', 2) = split_part(r.dedupe_key, '/', 2)
        )
        ORDER BY r.id FOR UPDATE SKIP LOCKED
    ), mine AS (
        SELECT id, daily, alone FROM due UNION ALL SELECT id, true, (SELECT bool_or(alone) FROM due) FROM beside
    ), claimed AS (
        UPDATE reports r SET status = 'running', attempts = attempts + 1, lease_owner = :owner,
            lease_until = clock_timestamp() + CAST(:lease AS interval)
        FROM mine WHERE r.id = mine.id
        RETURNING mine.daily, mine.alone, r.*
    )
    SELECT id, type, parameters, requested_by, dedupe_key, attempts, created_at, lease_owner, alone
    FROM claimed ORDER BY daily, due_at, id
""")  # noqa: S608 - a constant of this module


def claim(db: Session, *, owner: str, limit: int, idle: bool = True) -> list[ClaimedReport]:
    """Take up to ``limit`` reports that are due, or whose lease ran out, and what else is due of their days.

    Those that somebody waits for come first. ``owner`` must be new for each claim. One whose process ended comes again
    with more attempts: the caller judges. From its second lost lease on it comes ``alone``, with nothing else but its
    day's, and only to who is ``idle``, with nothing in hand.
    """
    rows = db.execute(_CLAIM, {"owner": owner, "limit": limit, "idle": idle, "lease": LEASE})
    claimed = [ClaimedReport._make(row) for row in rows]
    outbox.publish_many(
        db,
        [ReportRunning(**event_fields(one)) for one in claimed if one.requested_by is not None],
    )
    return claimed


# What somebody has locked is being brought to its end.
_MINE = """
    SELECT r.id FROM reports r
    JOIN unnest((SELECT CAST(:ids AS uuid[])), (SELECT CAST(:owners AS text[]))) AS given(id, owner)
        ON given.id = r.id AND given.owner = r.lease_owner
    WHERE r.status = 'running' ORDER BY r.id FOR UPDATE OF r SKIP LOCKED
"""
_RENEW = text(f"""
    UPDATE reports SET lease_until = clock_timestamp() + CAST(:lease AS interval) WHERE id IN ({_MINE})
""")  # noqa: S608 - a constant of this module
_RELEASE = text(f"""
    UPDATE reports SET status = 'queued', attempts = attempts - 1, due_at = clock_timestamp(), lease_owner = NULL,
        lease_until = NULL
    WHERE id IN ({_MINE}) RETURNING id, attempts
""")  # noqa: S608 - a constant of this module


def renew(db: Session, held: Iterable[ClaimedReport]) -> None:
    """Hold these reports for another lease, where they are still their owners'."""
    if given := _parameters(list(held)):
        db.execute(_RENEW, {**given, "lease": LEASE})


def release(db: Session, held: Iterable[ClaimedReport]) -> None:
    """Give these reports back, as if they had not been claimed: this process ends."""
    mine = {one.id: one for one in held}
    if not mine:
        return
    for id_, attempts in db.execute(_RELEASE, _parameters(list(mine.values()))):
        announce_queued(db, mine[id_], attempts=attempts)
    outbox.wake(db)


def announce_queued(db: Session, claimed: ClaimedReport, *, attempts: int, reason: str | None = None) -> None:
    """Tell who asked that the report waits again."""
    if claimed.requested_by is not None:
        about = event_fields(claimed) | {"attempts": attempts}
        outbox.publish(db, ReportQueued(**about, parameters=claimed.parameters, reason=reason))


def _parameters(held: Sequence[ClaimedReport]) -> dict[str, str]:
    if not held:
        return {}
    return {"ids": array([one.id for one in held]), "owners": array([one.owner for one in held])}


_NEXT = text("""
    SELECT least(
        (SELECT min(due_at) FROM reports WHERE status = 'queued'),
        (SELECT min(lease_until) FROM reports WHERE status = 'running')
    )
""")


NOT_AVAILABLE = """(status = 'failed' OR status = 'ready' AND (expires_at <= clock_timestamp()
        OR NOT EXISTS (SELECT FROM report_files WHERE report_files.report_id = reports.id)))"""
# What expired may still have its file, until the nightly cleanup.
_REQUEUE = text(f"""
    WITH again AS (
        UPDATE reports SET status = 'queued', attempts = 0, due_at = clock_timestamp(), data_as_of = NULL,
            finished_at = NULL, expires_at = NULL, last_error = NULL
        WHERE dedupe_key = ANY(CAST(:keys AS text[])) AND {NOT_AVAILABLE} RETURNING id
    ), gone AS (DELETE FROM report_files USING again WHERE report_files.report_id = again.id)
    SELECT id FROM again
""")  # noqa: S608 - a constant of this module


def requeue(db: Session, keys: Sequence[str]) -> int:
    """Queue again those of the house's reports with these keys that failed, or whose file is no longer kept; how many
    there are."""
    found = len(db.execute(_REQUEUE, {"keys": array(list(keys))}).all())
    if found:
        outbox.wake(db)
    return found


def next_due(db: Session) -> datetime | None:
    """When a report is due next, or a lease runs out; None: nothing is planned."""
    found: datetime | None = db.execute(_NEXT).scalar_one()
    return found
