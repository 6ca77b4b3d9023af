"""Every type of report: the one table from which requests, API, mails and the database's CHECK derive theirs.

A new report is a module, a template and a line here (docs/how-to/add-a-report.md). Modules are imported when one of
their reports is rendered: a process that only requests reports needs no charts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from sqlalchemy import Table
from sqlalchemy.orm import Session

from core.models import Report
from core.models.base import one_of
from core.reports.document import Document

Format = Literal["pdf", "csv"]
CONTENT_TYPES: dict[Format, str] = {"pdf": "application/pdf", "csv": "text/csv; charset=utf-8; header=present"}


class PdfReport(Protocol):
    """The interface of a printed report's module."""

    def gather(self, db: Session, parameters: dict[str, Any], as_of: datetime, /) -> Any:
        """The report's data, read in one snapshot. Raises NotFound when its subject does not exist."""

    def lay_out(self, data: Any, /) -> Document:
        """The data as charts and pages."""

    def name(self, data: Any, /) -> str:
        """The file name without its extension."""


class CsvReport(Protocol):
    """The interface of a CSV report's module."""

    def list_rows(self, db: Session, parameters: dict[str, Any], /) -> Iterator[bytes]:
        """The file in chunks, read in one snapshot."""

    def name(self, parameters: dict[str, Any], /) -> str:
        """The file name without its extension."""


@dataclass(frozen=True, slots=True)
class ReportKind:
    """One type of report."""

    title: str
    """Its name for people."""
    module: str
    """The module in ``core.reports``: a PdfReport or a CsvReport, by ``format``."""
    format: Format = "pdf"
    subject: Literal["interview_id", "candidate_id"] | None = None
    """The parameter that names the report's subject."""
    all_time: bool = False
    """Without a period the report covers all time, not the last thirty days."""

    @property
    def pdf(self) -> PdfReport:
        """The module of a printed report."""
        return cast(PdfReport, import_module(f"core.reports.{self.module}"))

    @property
    def csv(self) -> CsvReport:
        """The module of a CSV report."""
        return cast(CsvReport, import_module(f"core.reports.{self.module}"))


REPORTS: dict[str, ReportKind] = {
    "dashboard_pdf": ReportKind("Dashboard", "dashboard"),
    "dashboard_csv": ReportKind("Dashboard", "csv", format="csv"),
    "interview_pdf": ReportKind("Interview report", "interview", subject="interview_id"),
    "candidate_pdf": ReportKind("Candidate report", "candidate", subject="candidate_id", all_time=True),
}

if TYPE_CHECKING:
    ReportType = str
else:
    # for pydantic and the OpenAPI document; a type checker cannot evaluate the table
    ReportType = Literal[tuple(REPORTS)]

cast(Table, Report.__table__).append_constraint(one_of("type", REPORTS))
