"""Completes claimed reports: ready with a file, queued for a retry, or failed; fenced by the lease owner."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from core import emails, outbox
from core.events import ReportFailed, ReportReady
from core.notifications import Notice, notify, report_notice
from core.reports.queue import daily_mail, files
from core.reports.queue.claims import ClaimedReport, event_fields, publish_queued
from core.reports.queue.files import Spool
from core.reports.registry import REPORTS

log = logging.getLogger(__name__)

ATTEMPTS = 4
"""Maximum attempts of a report; when the last fails, for whatever reason, the report fails."""
RETRY_DELAYS = (timedelta(seconds=1), timedelta(seconds=5), timedelta(seconds=20))
"""Before the second, third and fourth attempt."""
RETENTION, DAILY_RETENTION = timedelta(days=30), timedelta(days=90)
"""How long files can be downloaded."""
TOO_MANY_LOST_LEASES = f"It was started {ATTEMPTS} times, and the process that rendered it was stopped each time."


@dataclass(frozen=True, slots=True)
class RenderedReport:
    """A report's file; ``as_of`` is when its data were read."""

    spool: Spool
    filename: str
    content_type: str
    as_of: datetime


class Failure(NamedTuple):
    """Why a report could not be rendered, in words for its requester; ``retry``: a later attempt may succeed."""

    reason: str
    retry: bool


_READY = text("""
    UPDATE reports SET status = 'ready', data_as_of = :as_of, finished_at = clock_timestamp(),
        expires_at = clock_timestamp() + CAST(:kept AS interval), lease_owner = NULL, lease_until = NULL,
        last_error = NULL
    WHERE id = :id AND lease_owner = :owner AND status = 'running' RETURNING expires_at
""")
_FAILED = text("""
    UPDATE reports SET status = 'failed', finished_at = clock_timestamp(), lease_owner = NULL, lease_until = NULL,
        last_error = :reason
    WHERE id = :id AND lease_owner = :owner AND status = 'running' RETURNING id
""")
_RETRY = text("""
    UPDATE reports SET status = 'queued', due_at = clock_timestamp() + CAST(:wait AS interval), lease_owner = NULL,
        lease_until = NULL, last_error = :reason
    WHERE id = :id AND lease_owner = :owner AND status = 'running' RETURNING id
""")


def mark_ready(db: Session, claimed: ClaimedReport, rendered: RenderedReport, *, now: datetime) -> bool:
    """Store the file, notify, and mail where requested; False when the lease is no longer ``claimed.owner``'s."""
    daily = daily_mail.lock_day(db, claimed)
    given = {
        "id": claimed.id,
        "owner": claimed.owner,
        "as_of": rendered.as_of,
        "kept": DAILY_RETENTION if daily else RETENTION,
    }
    expires_at = db.execute(_READY, given).scalar_one_or_none()
    if expires_at is None:
        return False
    files.store(db, claimed.id, rendered.spool, filename=rendered.filename, content_type=rendered.content_type)
    if claimed.requested_by is not None:
        change = ReportReady(
            **event_fields(claimed),
            url=f"/api/reports/{claimed.id}/file",
            filename=rendered.filename,
            content_type=rendered.content_type,
            size=rendered.spool.size,
            sha256=rendered.spool.sha256,
            data_as_of=rendered.as_of,
            expires_at=expires_at,
        )
        outbox.publish(db, change, dedupe_key=f"report/{claimed.id}/ready")
        notify(db, [report_notice(claimed.id, claimed.type, ready=True, requested_by=claimed.requested_by)], now=now)
    _mail(db, claimed, daily, now)
    return True


def mark_failed(db: Session, claimed: ClaimedReport, failure: Failure, *, now: datetime) -> bool | None:
    """Queue the report for a retry, or fail it and notify; whether it failed, None when the lease is no longer ours."""
    if failure.retry and claimed.attempts < ATTEMPTS:
        given = {
            "id": claimed.id,
            "owner": claimed.owner,
            "reason": failure.reason,
            "wait": _retry_delay(claimed.attempts),
        }
        if db.execute(_RETRY, given).one_or_none() is None:
            return None
        publish_queued(db, claimed, attempts=claimed.attempts, reason=failure.reason)
        outbox.wake(db)
        return False
    daily = daily_mail.lock_day(db, claimed)
    given = {"id": claimed.id, "owner": claimed.owner, "reason": failure.reason}
    if db.execute(_FAILED, given).one_or_none() is None:
        return None
    if claimed.requested_by is not None:
        change = ReportFailed(**event_fields(claimed), reason=failure.reason)
        outbox.publish(db, change, dedupe_key=f"report/{claimed.id}/failed")
        notice = report_notice(claimed.id, claimed.type, ready=False, requested_by=claimed.requested_by)
    else:
        notice = _to_admins(claimed, failure, now)
    notify(db, [notice], now=now)
    _mail(db, claimed, daily, now)
    return True


def _retry_delay(attempts: int) -> timedelta:
    return RETRY_DELAYS[min(attempts, len(RETRY_DELAYS)) - 1]


def _mail(db: Session, claimed: ClaimedReport, daily: bool, now: datetime) -> None:
    """Mail the outcome of the report; an error here must not prevent the report's completion."""
    try:
        with db.begin_nested():
            if daily:
                daily_mail.notify_subscribers(db, claimed, now=now)
            else:
                emails.queue_report_ready(db, claimed.id, title=REPORTS[claimed.type].title, now=now)
    except (OperationalError, InterfaceError):
        raise  # the database cannot be reached: the whole transaction is retried
    except Exception:
        log.exception("a report could not be mailed", extra={"report_id": str(claimed.id), "type": claimed.type})


def _to_admins(claimed: ClaimedReport, failure: Failure, now: datetime) -> Notice:
    """The notification to admins that a report requested by the system failed."""
    about = f"The report {claimed.dedupe_key or claimed.id}"
    return Notice(
        category="job_failed",
        title="A report of the system failed",
        body=f"{about} could not be rendered. {failure.reason}",
        dedupe_key=f"report/{claimed.id}/failed/{now:%Y-%m-%d}",
        role="admin",
        data={"report_id": str(claimed.id), "type": claimed.type},
    )
