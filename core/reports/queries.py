"""Queries of reports that the viewer may see: their own and the daily ones; for admins, all."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from core.errors import Conflict, NotFound
from core.fields import Input
from core.models import Report, ReportFile, ReportStatus
from core.reports.registry import ReportType
from core.viewers import STAFF, Viewer, require


class ReportFilter(Input):
    """Which reports to list."""

    status: tuple[ReportStatus, ...] = ()
    type: tuple[ReportType, ...] = ()


class FileInfo(NamedTuple):
    """A ready report's file; ``size`` in bytes."""

    filename: str
    content_type: str
    size: int
    sha256: str


class ReportView(NamedTuple):
    """A report and its status; ``file`` while it is stored."""

    id: UUID
    type: ReportType
    status: ReportStatus
    parameters: dict[str, Any]
    requested_by: int | None
    email_to: str | None
    attempts: int
    reason: str | None
    created_at: datetime
    data_as_of: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    file: FileInfo | None


class ReportFileExpired(NotFound):
    """The report's file has expired."""

    def __init__(self, report_id: UUID, until: datetime | None) -> None:
        super().__init__("report file", report_id)
        kept = f" It was kept until {until:%Y-%m-%d}." if until else ""
        self.args = (f"The file of report {report_id} is no longer kept.{kept} Ask for the report again.",)


_r, _f = Report, ReportFile
_VIEW = select(
    _r.id, _r.type, _r.status, _r.parameters, _r.requested_by, _r.email_to, _r.attempts, _r.last_error, _r.created_at,
    _r.data_as_of, _r.finished_at, _r.expires_at, _f.filename, _f.content_type, _f.size, _f.sha256,
).outerjoin(_f, and_(_f.report_id == _r.id, _r.expires_at > func.clock_timestamp()))  # fmt: skip
"""A file is hidden from its expiry on, even before the nightly cleanup has removed it."""


def page(db: Session, where: ReportFilter, *, by: Viewer, after: UUID | None, limit: int) -> Sequence[ReportView]:
    """The viewer's reports, newest first, after the given one. Raises Forbidden."""
    require(by, *STAFF)
    query = _VIEW.where(*_visible_to(by)).order_by(_r.id.desc()).limit(limit)
    if after is not None:
        query = query.where(_r.id < after)
    if where.status:
        query = query.where(_r.status.in_(where.status))
    if where.type:
        query = query.where(_r.type.in_(where.type))
    return [_view(row) for row in db.execute(query)]


def get(db: Session, report_id: UUID, *, by: Viewer) -> ReportView:
    """One report. Raises Forbidden, and NotFound, also when it is somebody else's."""
    require(by, *STAFF)
    row = db.execute(_VIEW.where(_r.id == report_id, *_visible_to(by))).one_or_none()
    if row is None:
        raise NotFound("report", report_id)
    return _view(row)


def get_file(db: Session, report_id: UUID, *, by: Viewer) -> FileInfo:
    """A ready report's file. Raises what ``get`` raises, Conflict while there is none, and ReportFileExpired."""
    report = get(db, report_id, by=by)
    if report.file is not None:
        return report.file
    if report.status == "ready":
        raise ReportFileExpired(report_id, report.expires_at)
    why = f": {report.reason}" if report.status == "failed" and report.reason else ""
    raise Conflict(f"Report {report_id} is {report.status}{why or '.'}", report_id=report_id, old=report.status)


def outcome(db: Session, report_id: UUID) -> ReportView:
    """A report and its status, for the system itself. Raises NotFound."""
    row = db.execute(_VIEW.where(_r.id == report_id)).one_or_none()
    if row is None:
        raise NotFound("report", report_id)
    return _view(row)


def _visible_to(viewer: Viewer) -> Sequence[ColumnElement[bool]]:
    if viewer.role == "admin":
        return ()
    # the daily reports are visible to all who may subscribe to them
    return (or_(_r.requested_by == viewer.id, _r.dedupe_key.startswith("daily/")),)


def _view(row: Any) -> ReportView:
    *_, filename, content_type, size, sha256 = row
    file = FileInfo(filename, content_type, size, sha256) if filename is not None else None
    return ReportView._make((*row[: len(ReportView._fields) - 1], file))
