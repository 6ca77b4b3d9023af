"""Requests reports in the caller's transaction: one unfinished report for identical requests, up to the capacity."""

import json
from datetime import datetime
from typing import Any, NamedTuple, TypedDict, Unpack
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import outbox
from core.clock import uuid7
from core.emails.addresses import envelope
from core.errors import Invalid, QueueFull
from core.events import ReportQueued
from core.locks import LOCKS, REPORT_QUEUE_LOCK
from core.models import Candidate, Interview, ReportStatus
from core.reports.queue.claims import requeue
from core.reports.queue.parameters import DateOrTime, NewReport, new_report, parameters_of, request_hash
from core.settings import settings
from core.viewers import STAFF, Viewer, require

RETRY_AFTER = 5
"""``retry_after`` of a full queue, in seconds: rendering a report takes about one."""


class QueuedReport(NamedTuple):
    """A requested report; ``new`` is False when it is an earlier identical request that is unfinished."""

    id: UUID
    status: ReportStatus
    new: bool


def enqueue(db: Session, given: NewReport, *, by: Viewer, now: datetime) -> QueuedReport:
    """Request a report, and wake the dispatchers when this transaction commits.

    An identical request of the same user returns the unfinished report. Raises Forbidden, Invalid, and QueueFull when
    the number of unfinished reports has reached the capacity. Other requests wait until this transaction ends.
    """
    require(by, *STAFF)
    return _enqueue(db, given, now=now, user_id=by.id)


def enqueue_as_system(db: Session, given: NewReport, *, key: str, now: datetime) -> QueuedReport:
    """Request a report as the system, once for each key: admins may see it, and the capacity does not apply.

    One that failed, or whose file was removed, is queued again. Raises Invalid.
    """
    requeue(db, [key])
    return _enqueue(db, given, now=now, key=key)


def check_request(db: Session, given: NewReport, *, now: datetime) -> dict[str, Any]:
    """The parameters of the requested report as they are stored. Raises Invalid when it cannot be requested."""
    parameters = parameters_of(given, now=now)
    if given.interview_id is not None:
        _check_exists(db, Interview, "interview", given.interview_id)
    if given.candidate_id is not None:
        _check_exists(db, Candidate, "candidate", given.candidate_id)
    if given.email_to is not None:
        try:
            envelope(given.email_to)
        except Invalid as error:
            raise Invalid("email_to", error.reason) from None
    return parameters


def _check_exists(db: Session, table: type[Interview | Candidate], noun: str, id_: int) -> None:
    if not db.scalar(select(table.id).where(table.id == id_, table.deleted_at.is_(None))):
        raise Invalid(f"{noun}_id", f"there is no {noun} {id_}")


class Options(TypedDict, total=False):
    """A report's period and mail address: see ``NewReport``."""

    start: DateOrTime | None
    end: DateOrTime | None
    email_to: str | None


def generate_dashboard_pdf(db: Session, *, by: Viewer, now: datetime, **options: Unpack[Options]) -> QueuedReport:
    """Request the dashboard of a period as PDF; see ``enqueue``."""
    return enqueue(db, new_report(type="dashboard_pdf", **options), by=by, now=now)


def generate_dashboard_csv(db: Session, *, by: Viewer, now: datetime, **options: Unpack[Options]) -> QueuedReport:
    """Request a period's sessions as CSV; see ``enqueue``."""
    return enqueue(db, new_report(type="dashboard_csv", **options), by=by, now=now)


def generate_interview_pdf(
    db: Session, interview_id: int, *, by: Viewer, now: datetime, **options: Unpack[Options]
) -> QueuedReport:
    """Request an interview's analytics as PDF; see ``enqueue``."""
    return enqueue(db, new_report(type="interview_pdf", interview_id=interview_id, **options), by=by, now=now)


def generate_candidate_pdf(
    db: Session, candidate_id: int, *, by: Viewer, now: datetime, **options: Unpack[Options]
) -> QueuedReport:
    """Request a candidate's analytics as PDF; without a period, of all time; see ``enqueue``."""
    return enqueue(db, new_report(type="candidate_pdf", candidate_id=candidate_id, **options), by=by, now=now)


_INSERT = text("""
    INSERT INTO reports (id, type, parameters, request_hash, requested_by, email_to, dedupe_key)
    SELECT :id, :type, CAST(:parameters AS jsonb), :hash, CAST(:user_id AS bigint), :email_to, CAST(:key AS text)
    WHERE CAST(:user_id AS bigint) IS NULL OR :capacity = 0 OR :capacity > (
        SELECT count(*) FROM reports WHERE status IN ('queued', 'running') AND requested_by IS NOT NULL
    )
    ON CONFLICT DO NOTHING RETURNING id
""")
_SAME = text("""
    SELECT id, status FROM reports
    WHERE requested_by = :user_id AND request_hash = :hash AND status IN ('queued', 'running') OR dedupe_key = :key
""")
_TRIES = 5


def _enqueue(
    db: Session, given: NewReport, *, now: datetime, user_id: int | None = None, key: str | None = None
) -> QueuedReport:
    parameters = check_request(db, given, now=now)
    id_, capacity = uuid7(now), settings().report_queue_capacity
    row = {
        "id": id_,
        "type": given.type,
        "parameters": json.dumps(parameters),
        "hash": request_hash(given.type, parameters, given.email_to),
        "user_id": user_id,
        "email_to": given.email_to,
        "key": key,
        "capacity": capacity,
    }
    if user_id is not None and capacity:
        # first, in every request: two transactions that each held a row and waited for this lock would deadlock
        db.execute(text("SELECT pg_advisory_xact_lock(:a, :b)"), {"a": LOCKS, "b": REPORT_QUEUE_LOCK})
    for _ in range(_TRIES):
        if db.execute(_INSERT, row).one_or_none():
            if user_id is not None:
                outbox.publish(db, _queued(id_, given, parameters, user_id))
            outbox.wake(db)
            return QueuedReport(id_, "queued", True)
        same = db.execute(_SAME, {"user_id": user_id, "hash": row["hash"], "key": key}).one_or_none()
        if same is not None:
            return QueuedReport(same.id, same.status, False)
        # the queue is full; or the identical report was completed between the two statements
        if user_id is not None and capacity and _unfinished(db) >= capacity:
            break
    raise QueueFull(
        f"{capacity} reports are unfinished, which is the limit; nothing was queued.", retry_after=RETRY_AFTER
    )


def _unfinished(db: Session) -> int:
    query = "SELECT count(*) FROM reports WHERE status IN ('queued', 'running') AND requested_by IS NOT NULL"
    return int(db.execute(text(query)).scalar_one())


def _queued(id_: UUID, given: NewReport, parameters: dict[str, Any], user_id: int) -> ReportQueued:
    return ReportQueued(report_id=id_, user_id=user_id, report_type=given.type, attempts=0, parameters=parameters)
