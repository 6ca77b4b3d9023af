"""Mails with reports: the file is attached where it is small enough, else linked (the link requires signing in)."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.emails.content import ReportNotice, render_report
from core.emails.draft import Attachment, Draft, Recipient
from core.emails.queue.enqueue import NewMail, QueuedMail, enqueue
from core.errors import Invalid, NotFound
from core.models import Report, ReportFile, ReportSlice
from core.settings import settings

MAX_ATTACHED_BYTES = 5 * 1024 * 1024
"""Bytes of all files of a mail; files that do not fit are linked."""


def report_key(about: object, recipient: Recipient) -> str:
    """The key by which a report, or a day's reports, are mailed once to a recipient; it does not show an address."""
    who = recipient.user_id or hashlib.sha256(recipient.address.lower().encode()).hexdigest()[:32]
    return f"report/{about}/{who}"


def report_page(report_id: UUID) -> str:
    """The address of a report's page, which requires signing in."""
    return f"{settings().public_url.rstrip('/')}/reports/{report_id}"


def queue_report_ready(
    db: Session, report_id: UUID, *, now: datetime, title: str = "Report", to: Sequence[Recipient] = ()
) -> list[QueuedMail]:
    """Mail that a report is ready or failed: to the address in the request, or to the given recipients.

    Raises NotFound. Queues nothing when there is no recipient.
    """
    report = db.get(Report, report_id, populate_existing=True)
    if report is None or report.status not in ("ready", "failed"):
        raise NotFound("finished report", report_id)
    return _queue(db, [report], report.id, title, to or ([Recipient(report.email_to)] if report.email_to else ()), now)


def queue_daily_report(
    db: Session, report_ids: Sequence[UUID], *, day: str, title: str, to: Sequence[Recipient], now: datetime
) -> list[QueuedMail]:
    """Mail a day's finished reports, all in one mail, once to each recipient."""
    reports = [db.get_one(Report, id_, populate_existing=True) for id_ in report_ids]
    return _queue(db, reports, day, title, to, now)


def _queue(
    db: Session, reports: Sequence[Report], about: object, title: str, to: Sequence[Recipient], now: datetime
) -> list[QueuedMail]:
    if not to:
        return []
    notice = _notice(db, reports, title)
    return enqueue(db, [_mail(notice, about, recipient, now) for recipient in to], now=now)


def _mail(notice: ReportNotice, about: object, recipient: Recipient, now: datetime) -> NewMail:
    """The mail to one recipient; for an invalid address it is stored as dead, so that the others get theirs."""
    problem = None
    try:
        draft = render_report(notice, recipient, now=now)
    except Invalid as error:
        problem, category = str(error), notice.category
        draft = Draft("report", recipient.address, recipient.name, None, notice.title, "", None, category)
    return NewMail(draft, report_key(about, recipient), recipient.user_id, problem=problem)


def _notice(db: Session, reports: Sequence[Report], title: str) -> ReportNotice:
    files: list[Attachment] = []
    links: list[tuple[str, str]] = []
    remaining = MAX_ATTACHED_BYTES
    for report in reports:
        file = db.get(ReportFile, report.id)
        if file is None:
            continue
        if file.size <= remaining:
            remaining -= file.size
            slices = select(ReportSlice.content).where(ReportSlice.report_id == report.id)
            content = b"".join(db.scalars(slices.order_by(ReportSlice.ordinal)))
            files.append(Attachment(file.filename, file.content_type, content))
        else:
            label = "Open the report" if len(reports) == 1 else f"Open {file.filename}"
            links.append((label, report_page(report.id)))
    first = reports[0]
    problem = None
    if first.status == "failed":
        problem = f"{first.last_error or 'It could not be made.'} You can ask for it again."
    return ReportNotice(
        title,
        start=_moment(first.parameters.get("start")),
        end=_moment(first.parameters.get("end")),
        data_as_of=first.data_as_of,
        files=tuple(files),
        links=tuple(links),
        daily=(first.dedupe_key or "").startswith("daily/"),
        problem=problem,
    )


def _moment(given: object) -> datetime | None:
    return datetime.fromisoformat(given) if isinstance(given, str) else None
