"""What becomes of a claimed report: ready with its file, tried again, or failed; one transaction each, fenced."""

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
from core.reports.queue.claims import ClaimedReport, announce_queued, event_fields
from core.reports.queue.files import Spool
from core.reports.registry import REPORTS

log = logging.getLogger(__name__)

ATTEMPTS = 4
"""How often a report is begun; after the last, trouble of any kind is failure."""
WAITS = (timedelta(seconds=1), timedelta(seconds=5), timedelta(seconds=20))
"""Before the second, third and fourth attempt."""
KEPT, KEPT_DAILY = timedelta(days=30), timedelta(days=90)
"""How long files are kept for download."""
TOO_MANY_LOST_LEASES = f"It was begun {ATTEMPTS} times, and what was making it was stopped each time."


@dataclass(frozen=True, slots=True)
class RenderedReport:
    """A report's file; ``as_of`` is when its data were read."""

    spool: Spool
    filename: str
    content_type: str
    as_of: datetime


class Failure(NamedTuple):
    """Why a report could not be made, in words for whoever asked; ``again``: the same may work in a moment."""

    reason: str
    again: bool


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
_AGAIN = text("""
    UPDATE reports SET status = 'queued', due_at = clock_timestamp() + CAST(:wait AS interval), lease_owner = NULL,
        lease_until = NULL, last_error = :reason
    WHERE id = :id AND lease_owner = :owner AND status = 'running' RETURNING id
""")


def ready(db: Session, claimed: ClaimedReport, made: RenderedReport, *, now: datetime) -> bool:
    """Keep the file, say that the report is ready, and mail it where asked; False when it is somebody else's by now."""
    daily = daily_mail.lock_day(db, claimed)
    given = {"id": claimed.id, "owner": claimed.owner, "as_of": made.as_of, "kept": KEPT_DAILY if daily else KEPT}
    expires_at = db.execute(_READY, given).scalar_one_or_none()
    if expires_at is None:
        return False
    files.store(db, claimed.id, made.spool, filename=made.filename, content_type=made.content_type)
    if claimed.requested_by is not None:
        change = ReportReady(
            **event_fields(claimed),
            url=f"/api/reports/{claimed.id}/file",
            filename=made.filename,
            content_type=made.content_type,
            size=made.spool.size,
            sha256=made.spool.sha256,
            data_as_of=made.as_of,
            expires_at=expires_at,
        )
        outbox.publish(db, change, dedupe_key=f"report/{claimed.id}/ready")
        notify(db, [report_notice(claimed.id, claimed.type, ready=True, requested_by=claimed.requested_by)], now=now)
    _mail(db, claimed, daily, now)
    return True


def failed(db: Session, claimed: ClaimedReport, failure: Failure, *, now: datetime) -> bool | None:
    """Try the report again in a while, or fail it for good and say so; whether it failed, None when it is not ours."""
    if failure.again and claimed.attempts < ATTEMPTS:
        given = {"id": claimed.id, "owner": claimed.owner, "reason": failure.reason, "wait": _wait(claimed.attempts)}
        if db.execute(_AGAIN, given).one_or_none() is None:
            return None
        announce_queued(db, claimed, attempts=claimed.attempts, reason=failure.reason)
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


def _wait(attempts: int) -> timedelta:
    return WAITS[min(attempts, len(WAITS)) - 1]


def _mail(db: Session, claimed: ClaimedReport, daily: bool, now: datetime) -> None:
    """Mail what the report came to; that this fails must not keep it from its end, whichever that is."""
    try:
        with db.begin_nested():
            if daily:
                daily_mail.notify_subscribers(db, claimed, now=now)
            else:
                emails.queue_report_ready(db, claimed.id, title=REPORTS[claimed.type].title, now=now)
    except (OperationalError, InterfaceError):
        raise  # the database is away: all of it is tried again
    except Exception:
        log.exception("a report could not be mailed", extra={"report_id": str(claimed.id), "type": claimed.type})


def _to_admins(claimed: ClaimedReport, failure: Failure, now: datetime) -> Notice:
    """What nobody in particular asked for is the house's own trouble."""
    about = f"The report {claimed.dedupe_key or claimed.id}"
    return Notice(
        category="job_failed",
        title="A report of the house failed",
        body=f"{about} could not be made. {failure.reason}",
        dedupe_key=f"report/{claimed.id}/failed/{now:%Y-%m-%d}",
        role="admin",
        data={"report_id": str(claimed.id), "type": claimed.type},
    )
