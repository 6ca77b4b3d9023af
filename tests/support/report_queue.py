"""What the tests of the report queue share: requests, and their notifications."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text

from core import reports
from core.clock import utcnow
from core.db import transaction
from core.models import Report
from core.reports import NewReport, QueuedReport
from core.reports.queue import claims, outcomes
from core.reports.queue.claims import ClaimedReport
from core.reports.queue.files import Spool
from core.reports.queue.outcomes import RenderedReport
from tests.support import factories
from tests.support.factories import People

REPORTS = "/api/reports"
NOW = datetime(2026, 3, 10, 9, 30, tzinfo=UTC)


def new_people() -> People:
    """New people."""
    with transaction() as db:
        return factories.people(db)


def request_report(
    people: People, type: str = "dashboard_csv", *, role: str = "recruiter", **more: Any
) -> QueuedReport:
    """Ask for a report in a transaction."""
    with transaction() as db:
        return reports.enqueue(db, NewReport(type=type, **more), by=people.viewer(role), now=utcnow())


def days(number: int) -> dict[str, date]:
    """A period of one day, another for each number."""
    first = date(2026, 1, 1) + timedelta(days=number)
    return {"start": first, "end": first + timedelta(days=1)}


def row(report_id: UUID) -> Report:
    """The report as it is now."""
    with transaction() as db:
        return db.scalars(select(Report).where(Report.id == report_id)).one()


def pushed(report_id: UUID) -> list[str]:
    """What was pushed of the report, in order, without the word before the dot."""
    query = "SELECT type FROM push_events WHERE payload->>'report_id' = :id ORDER BY id"
    with transaction() as db:
        types: list[str] = list(db.execute(text(query), {"id": str(report_id)}).scalars())
        return [type_.removeprefix("report.") for type_ in types]


def last_push(report_id: UUID) -> dict[str, Any]:
    """The newest push of the report."""
    query = "SELECT payload FROM push_events WHERE payload->>'report_id' = :id ORDER BY id DESC LIMIT 1"
    with transaction() as db:
        return dict(db.execute(text(query), {"id": str(report_id)}).scalar_one())


def notified(report_id: UUID) -> list[tuple[int | None, str]]:
    """Who was notified of the report, and in which category."""
    query = "SELECT user_id, category FROM notifications WHERE dedupe_key LIKE :key ORDER BY id"
    with transaction() as db:
        return [tuple(found) for found in db.execute(text(query), {"key": f"report/{report_id}/%"})]


def mailed(key: str) -> list[tuple[str, list[str]]]:
    """Addresses of mails whose key begins so, each with the names of what is attached."""
    query = """
        SELECT to_address, coalesce(array_agg(a.filename ORDER BY a.ordinal) FILTER (WHERE a.email_id = e.id), '{}')
        FROM emails e LEFT JOIN email_attachments a ON a.email_id = e.id
        WHERE idempotency_key LIKE :key GROUP BY e.id ORDER BY 1
    """
    with transaction() as db:
        return [(address, names) for address, names in db.execute(text(query), {"key": f"report/{key}%"})]


def files(report_id: UUID) -> int:
    """How many files are kept of the report."""
    with transaction() as db:
        query = "SELECT count(*) FROM report_files WHERE report_id = :id"
        return int(db.execute(text(query), {"id": report_id}).scalar_one())


def content(report_id: UUID) -> bytes:
    """The kept bytes."""
    with transaction() as db:
        query = "SELECT string_agg(content, '' ORDER BY ordinal) FROM report_slices WHERE report_id = :id"
        return bytes(db.execute(text(query), {"id": report_id}).scalar_one())


def claim(limit: int = 10, owner: str = "the tests", *, idle: bool = True) -> list[ClaimedReport]:
    """Take what is due."""
    with transaction() as db:
        return claims.claim(db, owner=owner, limit=limit, idle=idle)


def made(content: bytes = b"a,b\r\n1,2\r\n", filename: str = "Sessions.csv") -> RenderedReport:
    """A file as a renderer would have made it."""
    spool = Spool()
    spool.write(content)
    return RenderedReport(spool, filename, "text/csv; charset=utf-8", utcnow())


def finish(claimed: ClaimedReport, content: bytes = b"a,b\r\n1,2\r\n", **more: Any) -> bool:
    """Bring a claimed report to its end."""
    with transaction() as db:
        return outcomes.mark_ready(db, claimed, made(content, **more), now=utcnow())


def ready(people: People, content: bytes = b"a,b\r\n1,2\r\n", filename: str = "Sessions.csv", **more: Any) -> UUID:
    """A report that is ready."""
    requested = request_report(people, **more)
    [claimed] = [one for one in claim() if one.id == requested.id]
    assert finish(claimed, content, filename=filename)
    return requested.id


def time_passes() -> None:
    """Whatever waits for another attempt or the end of a lease has waited long enough."""
    with transaction() as db:
        db.execute(text("UPDATE reports SET due_at = now() WHERE status = 'queued' AND due_at > now()"))
        db.execute(text("UPDATE reports SET lease_until = now() - interval '1 s' WHERE status = 'running'"))
