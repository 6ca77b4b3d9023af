"""Asking for a report, in the caller's transaction: once while it is unfinished, and no more than may wait."""

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
from core.reports.queue.parameters import NewReport, When, new_report, parameters_of, request_hash
from core.settings import settings
from core.viewers import STAFF, Viewer, require

RETRY_AFTER = 5
"""Seconds after which whoever met a full queue may ask again: a report takes about one."""


class QueuedReport(NamedTuple):
    """A report that was asked for; not ``new`` when the same was asked for before and is unfinished."""

    id: UUID
    status: ReportStatus
    new: bool


def enqueue(db: Session, given: NewReport, *, by: Viewer, now: datetime) -> QueuedReport:
    """Ask for a report, and wake the dispatchers when this transaction commits.

    Who asks for the same again while it is unfinished gets that one. Raises Forbidden, Invalid, and QueueFull when as
    many as may are unfinished; others who ask wait until this transaction ends.
    """
    require(by, *STAFF)
    return _enqueue(db, given, now=now, user_id=by.id)


def enqueue_as_system(db: Session, given: NewReport, *, key: str, now: datetime) -> QueuedReport:
    """Ask for a report in nobody's name, once for a key: admins may see it, and it is never refused for want of room.

    One that failed, or is no longer kept, is asked for again. Raises Invalid.
    """
    requeue(db, [key])
    return _enqueue(db, given, now=now, key=key)


def check_request(db: Session, given: NewReport, *, now: datetime) -> dict[str, Any]:
    """The parameters of such a report as they are kept, where it may be asked for at all. Raises Invalid."""
    parameters = parameters_of(given, now=now)
    if given.interview_id is not None:
        _living(db, Interview, "interview", given.interview_id)
    if given.candidate_id is not None:
        _living(db, Candidate, "candidate", given.candidate_id)
    if given.email_to is not None:
        try:
            envelope(given.email_to)
        except Invalid as error:
            raise Invalid("email_to", error.reason) from None
    return parameters


def _living(db: Session, table: type[Interview | Candidate], noun: str, id_: int) -> None:
    if not db.scalar(select(table.id).where(table.id == id_, table.deleted_at.is_(None))):
        raise Invalid(f"{noun}_id", f"there is no {noun} {id_}")


class Options(TypedDict, total=False):
    """What a report is of, and where it goes: see ``NewReport``."""

    start: When | None
    end: When | None
    email_to: str | None


def generate_dashboard_pdf(db: Session, *, by: Viewer, now: datetime, **options: Unpack[Options]) -> QueuedReport:
    """Ask for the dashboard of a period as PDF; see ``enqueue``."""
    return enqueue(db, new_report(type="dashboard_pdf", **options), by=by, now=now)


def generate_dashboard_csv(db: Session, *, by: Viewer, now: datetime, **options: Unpack[Options]) -> QueuedReport:
    """Ask for a period's sessions as CSV; see ``enqueue``."""
    return enqueue(db, new_report(type="dashboard_csv", **options), by=by, now=now)


def generate_interview_pdf(
    db: Session, interview_id: int, *, by: Viewer, now: datetime, **options: Unpack[Options]
) -> QueuedReport:
    """Ask for an interview's analytics as PDF; see ``enqueue``."""
    return enqueue(db, new_report(type="interview_pdf", interview_id=interview_id, **options), by=by, now=now)


def generate_candidate_pdf(
    db: Session, candidate_id: int, *, by: Viewer, now: datetime, **options: Unpack[Options]
) -> QueuedReport:
    """Ask for a candidate's analytics as PDF, without a period of all their time; see ``enqueue``."""
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
        # first, and by all who ask: two that each held a row and wanted this would wait for each other
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
        # full; or the same report came to its end between the two statements
        if user_id is not None and capacity and _unfinished(db) >= capacity:
            break
    raise QueueFull(
        f"{capacity} reports are unfinished already, as many as may be; nothing was queued.", retry_after=RETRY_AFTER
    )


def _unfinished(db: Session) -> int:
    query = "SELECT count(*) FROM reports WHERE status IN ('queued', 'running') AND requested_by IS NOT NULL"
    return int(db.execute(text(query)).scalar_one())


def _queued(id_: UUID, given: NewReport, parameters: dict[str, Any], user_id: int) -> ReportQueued:
    return ReportQueued(report_id=id_, user_id=user_id, report_type=given.type, attempts=0, parameters=parameters)
