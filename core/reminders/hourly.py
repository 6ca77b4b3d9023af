"""The hourly job: plans missing reminders, sends those due, and reports those that missed their window."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.db import transaction
from core.reminders.planning import plan
from core.reminders.sending import MISSED, send_due
from core.results import SAMPLE, JobResult

BATCH = 500
REPORT_PERIOD = timedelta(hours=1)
"""How far back the report of missed reminders reaches at least: to the previous run, if none was lost."""


def plan_and_send(*, now: datetime, dry_run: bool = False) -> JobResult:
    """Plan missing reminders, send those due, report those that missed their window. ``dry_run`` writes nothing.

    The result is that of ``send_due``, and counts as ``planned`` the missing reminders (in a dry run the sessions that
    lack some), as ``missed`` those that missed their window in the last hour, or since the last completed run,
    whichever process found that; the sample shows some of these, if there are any.
    """
    planned = plan_missing(now=now, dry_run=dry_run)
    sent = send_due(now=now, dry_run=dry_run)
    with transaction() as db:
        missed = db.execute(_MISSED, {"why": MISSED, "since": now - REPORT_PERIOD, "now": now}).all()
    result = sent + JobResult(now=now, dry_run=dry_run, counts=Counter(planned=planned, missed=len(missed)))
    if missed:
        result.sample = [
            {"session_id": str(session_id), "to": party, "outcome": MISSED, "due_at": due_at.isoformat()}
            for session_id, party, due_at in missed[:SAMPLE]
        ]
    return result


_MISSED = text("""
    SELECT session_id, recipient, due_at FROM reminders
    WHERE status = 'skipped' AND reason = :why AND send_by <= :now AND send_by > least(
        :since, (SELECT last_at FROM job_counts WHERE job = 'send-reminders' AND what = 'completed')
    )
    ORDER BY send_by, id LIMIT 10000
""")

_LACKING_REMINDERS = """
    SELECT s.scheduled_start, s.id FROM sessions s JOIN interviews i ON i.id = s.interview_id
    WHERE s.status = 'scheduled' AND s.deleted_at IS NULL AND s.scheduled_start > :now
        AND (s.scheduled_start, s.id) > (:start, :id)
        AND EXISTS (
            SELECT FROM unnest(i.reminder_offsets) AS wanted(minutes)
            CROSS JOIN (VALUES ('candidate'), ('interviewer')) AS parties(party)
            WHERE (party = 'candidate' OR s.interviewer_id IS NOT NULL) AND NOT EXISTS (
                SELECT FROM reminders r
                WHERE r.session_id = s.id AND r.schedule_version = s.schedule_version
                    AND r.recipient = party AND r.offset_minutes = wanted.minutes
            )
        )
    ORDER BY s.scheduled_start, s.id LIMIT :limit
"""
_READ, _CLAIM = text(_LACKING_REMINDERS), text(_LACKING_REMINDERS + " FOR UPDATE OF s SKIP LOCKED")


def plan_missing(*, now: datetime, dry_run: bool = False, batch: int = BATCH) -> int:
    """Plan reminders of scheduled sessions that lack some: imported ones, or those whose interview got other offsets.

    Returns how many were planned (a dry run: how many sessions lack some). Skips sessions locked by others.
    """
    planned, after = 0, (datetime.fromtimestamp(0, UTC), UUID(int=0))
    more = True
    while more:
        with transaction() as db:
            found = _find_lacking(db, after, now=now, batch=batch, lock=not dry_run)
            planned += len(found) if dry_run else plan(db, [id_ for _, id_ in found], now=now)
        more = len(found) == batch
        after = found[-1] if found else after
    return planned


def _find_lacking(
    db: Session, after: tuple[datetime, UUID], *, now: datetime, batch: int, lock: bool
) -> Sequence[tuple[datetime, UUID]]:
    given = {"now": now, "start": after[0], "id": after[1], "limit": batch}
    return [(start, id_) for start, id_ in db.execute(_CLAIM if lock else _READ, given)]
