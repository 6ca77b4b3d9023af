"""Builds a report: reads its data in one snapshot, and lays it out for printing or writes it row by row."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.db import snapshot
from core.reports.document import Document
from core.reports.filenames import filename
from core.reports.queue.daily import TYPES
from core.reports.queue.files import Spool
from core.reports.queue.outcomes import RenderedReport
from core.reports.registry import CONTENT_TYPES, REPORTS

READ_SECONDS = 60
"""Time limit of one statement of a report, in seconds; a dashboard of a million sessions takes three."""


class PageLayout(NamedTuple):
    """A report that is ready to be printed; ``filename`` is its PDF's."""

    document: Document
    filename: str
    as_of: datetime


def prints(kind: str) -> bool:
    """Whether the report is a printed one (PDF), not rows (CSV)."""
    return REPORTS[kind].format == "pdf"


def lay_out(kind: str, parameters: dict[str, Any]) -> PageLayout:
    """Read a printed report's data and lay it out. Raises NotFound when its subject does not exist."""
    with snapshot() as db:
        data = _read_data(db, kind, parameters, _begin(db))
    return data()


def finish_pdf(laid_out: PageLayout, pdf: bytes) -> RenderedReport:
    """The file of a printed report."""
    spool = Spool()
    spool.write(pdf)
    return RenderedReport(spool, laid_out.filename, CONTENT_TYPES["pdf"], laid_out.as_of)


def write_rows(
    kind: str, parameters: dict[str, Any], *, on_progress: Callable[[int], None] | None = None
) -> RenderedReport:
    """The file of a CSV report, written with constant memory; ``on_progress`` is called with the bytes so far."""
    with snapshot() as db:
        return _write_rows(db, kind, parameters, _begin(db), on_progress)


def lay_out_day(parameters: dict[str, Any]) -> tuple[PageLayout, RenderedReport]:
    """A period's dashboard and its sessions as CSV, from one snapshot."""
    with snapshot() as db:
        as_of = _begin(db)
        data = _read_data(db, TYPES[0], parameters, as_of)
        rows_file = _write_rows(db, TYPES[1], parameters, as_of, None)
    try:
        return data(), rows_file
    except BaseException:
        rows_file.spool.close()
        raise


def _read_data(db: Session, kind: str, parameters: dict[str, Any], as_of: datetime) -> Callable[[], PageLayout]:
    """Read the data; the returned function lays it out, after the snapshot has been closed."""
    report = REPORTS[kind].pdf
    data = report.gather(db, parameters, as_of)
    return lambda: PageLayout(report.lay_out(data), filename(report.name(data), "pdf"), as_of)


def _write_rows(
    db: Session, kind: str, parameters: dict[str, Any], as_of: datetime, on_progress: Callable[[int], None] | None
) -> RenderedReport:
    report = REPORTS[kind].csv
    spool = Spool()
    try:
        for chunk in report.list_rows(db, parameters):
            spool.write(chunk)
            if on_progress is not None:
                on_progress(spool.size)
    except BaseException:
        spool.close()
        raise
    return RenderedReport(spool, filename(report.name(parameters), "csv"), CONTENT_TYPES["csv"], as_of)


def _begin(db: Session) -> datetime:
    db.execute(text(f"SET LOCAL statement_timeout = '{READ_SECONDS}s'"))
    as_of: datetime = db.execute(text("SELECT now()")).scalar_one()
    return as_of
