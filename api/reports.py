"""Reports over HTTP: request one, read its status, download its file."""

import re
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse

from api.deps import Create, Db, LastId, Out, Page, Pages, Viewer, ViewerWithoutDb
from core import reports
from core.clock import utcnow
from core.db import transaction
from core.models import ReportStatus
from core.reports.queue import files
from core.reports.registry import ReportType

router = APIRouter(prefix="/api/reports", tags=["reports"])


class FileOut(Out):
    """A ready report's file; ``size`` in bytes, ``url`` where to get it."""

    filename: str
    content_type: str
    size: int
    sha256: str
    url: str = ""


class ReportOut(Out):
    """A report and its status; ``file`` once it is ready, and while it is kept."""

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
    file: FileOut | None

    def model_post_init(self, _: Any) -> None:
        if self.file is not None:
            self.file.url = f"{router.prefix}/{self.id}/file"


@router.post("", status_code=202, response_model=ReportOut)
def request_report(given: reports.NewReport, create: Create) -> Response:
    """Request a report; while an equal one of yours is unfinished, the answer is that one."""

    def make() -> ReportOut:
        wanted = reports.enqueue(create.db, given, by=create.viewer, now=utcnow())
        return ReportOut.model_validate(reports.get(create.db, wanted.id, by=create.viewer))

    return create(make, status=202, under=router.prefix)


def _filter(
    status: Annotated[list[ReportStatus] | None, Query()] = None,
    type: Annotated[list[ReportType] | None, Query()] = None,
) -> reports.ReportFilter:
    return reports.ReportFilter(status=tuple(status or ()), type=tuple(type or ()))


Filter = Annotated[reports.ReportFilter, Depends(_filter)]


@router.get("")
def list_reports(db: Db, viewer: Viewer, where: Filter, pages: Pages, last_id: LastId) -> Page[ReportOut]:
    """Your reports and the daily ones, newest first; admins see everybody's."""
    rows = reports.page(db, where, by=viewer, after=pages.after_uuid(), limit=pages.limit + 1)
    return pages.page(ReportOut, rows, last_id)


@router.get("/{report_id}")
def read_report(report_id: UUID, db: Db, viewer: Viewer, last_id: LastId) -> ReportOut:
    """One report."""
    return ReportOut.model_validate(reports.get(db, report_id, by=viewer))


Given = Annotated[str | None, Header()]


@router.get(
    "/{report_id}/file",
    response_class=Response,
    responses={
        200: {"content": {"application/pdf": {}, "text/csv": {}}},
        206: {"description": "the requested range"},
        304: {"description": "what you have is still current"},
        404: {"description": "no such report of yours, or its file is no longer kept"},
        409: {"description": "it is not ready"},
        416: {"description": "no byte of the range exists"},
    },
)
def read_file(
    report_id: UUID, viewer: ViewerWithoutDb, if_none_match: Given = None, if_range: Given = None, range: Given = None
) -> Response:
    """A ready report's file: whole, a range of it (RFC 9110, section 14), or 304 when you have it."""
    with transaction() as db:
        file = reports.get_file(db, report_id, by=viewer)
    etag = f'"{file.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Vary": "Authorization",
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": disposition(file.filename),
    }
    if if_none_match is not None and _names(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    wanted = parse_range(range, file.size) if range is not None and if_range in (None, etag) else None
    if wanted == UNSATISFIABLE:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{file.size}"})
    first, last = wanted or (0, file.size - 1)
    headers |= {"Content-Length": str(last - first + 1), "Content-Type": file.content_type}
    if wanted:
        headers["Content-Range"] = f"bytes {first}-{last}/{file.size}"
    return StreamingResponse(files.read(report_id, first, last), 206 if wanted else 200, headers)


UNSATISFIABLE = (-1, -1)
_RANGE = re.compile(r"bytes *= *(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


def parse_range(given: str, size: int) -> tuple[int, int] | None:
    """The first and the last byte that the header requests; None when it is to be ignored, as several ranges are."""
    found = _RANGE.fullmatch(given.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        length = int(found[2])
        return (max(0, size - length), size - 1) if length and size else UNSATISFIABLE
    first = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if found[2] and int(found[2]) < first:
        return None
    return (first, last) if first < size else UNSATISFIABLE


def _names(if_none_match: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags


def disposition(filename: str) -> str:
    """The Content-Disposition header with the file's name, for old clients in ASCII (RFC 6266, appendix D)."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
