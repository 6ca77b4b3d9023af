"""A report made: its data read in one snapshot, laid out and printed, or listed row by row."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.db import snapshot
from core.reports.document import Document
from core.reports.filenames import filename
from core.reports.queue.files import Spool
from core.reports.queue.outcomes import RenderedReport
from core.reports.registry import CONTENT_TYPES, REPORTS

READ_SECONDS = 60
"""How long one statement of a report may take; a dashboard of a million sessions takes three."""


class PageLayout(NamedTuple):
    """A report that is to be printed; ``filename`` is what its PDF is called."""

    document: Document
    filename: str
    as_of: datetime


def prints(kind: str) -> bool:
    """Whether the report is printed, and not a list."""
    return REPORTS[kind].format == "pdf"


def lay_out(kind: str, parameters: dict[str, Any]) -> PageLayout:
    """Gather a printed report's data and lay them out. Raises NotFound when what it is about is gone."""
    with snapshot() as db:
        data = _read_data(db, kind, parameters, _begin(db))
    return data()


def finish_pdf(laid_out: PageLayout, pdf: bytes) -> RenderedReport:
    """The file of a report that was printed."""
    spool = Spool()
    spool.write(pdf)
    return RenderedReport(spool, laid_out.filename, CONTENT_TYPES["pdf"], laid_out.as_of)


def write_rows(kind: str, parameters: dict[str, Any], *, wrote: Callable[[int], None] | None = None) -> RenderedReport:
    """The file of a report that is rows, with flat memory; ``wrote`` hears how many bytes there are so far."""
    with snapshot() as db:
        return _write_rows(db, kind, parameters, _begin(db), wrote)


def lay_out_day(parameters: dict[str, Any]) -> tuple[PageLayout, RenderedReport]:
    """A period's dashboard and its sessions, of one snapshot."""
    with snapshot() as db:
        as_of = _begin(db)
        data = _read_data(db, "dashboard_pdf", parameters, as_of)
        made = _write_rows(db, "dashboard_csv", parameters, as_of, None)
    try:
        return data(), made
    except BaseException:
        made.spool.close()
        raise


def _read_data(db: Session, kind: str, parameters: dict[str, Any], as_of: datetime) -> Callable[[], PageLayout]:
    """What lays the data out, once the snapshot is no longer needed."""
    report = REPORTS[kind].pdf
    data = report.gather(db, parameters, as_of)
    return lambda: PageLayout(report.lay_out(data), filename(report.name(data), "pdf"), as_of)


def _write_rows(
    db: Session, kind: str, parameters: dict[str, Any], as_of: datetime, wrote: Callable[[int], None] | None
) -> RenderedReport:
    report = REPORTS[kind].csv
    spool = Spool()
    try:
        for some in report.list_rows(db, parameters):
            spool.write(some)
            if wrote is not None:
                wrote(spool.size)
    except BaseException:
        spool.close()
        raise
    return RenderedReport(spool, filename(report.name(parameters), "csv"), CONTENT_TYPES["csv"], as_of)


def _begin(db: Session) -> datetime:
    db.execute(text(f"SET LOCAL statement_timeout = '{READ_SECONDS}s'"))
    as_of: datetime = db.execute(text("SELECT now()")).scalar_one()
    return as_of
