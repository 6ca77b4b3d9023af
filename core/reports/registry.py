"""Every report there is: the one table from which requests, API, mails and the database's CHECK derive.

A new report is a module, a template and a line here (docs/how-to/add-a-report.md). Modules are imported when one of
their reports is made: who only asks for one needs no charts.
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
    """What the module of a printed report offers."""

    def gather(self, db: Session, parameters: dict[str, Any], as_of: datetime, /) -> Any:
        """The report's data, read in one snapshot. Raises NotFound when what it is about is gone."""

    def lay_out(self, data: Any, /) -> Document:
        """The data as charts and pages."""

    def name(self, data: Any, /) -> str:
        """The file's name without its ending."""


class CsvReport(Protocol):
    """What the module of a report that is rows of text offers."""

    def list_rows(self, db: Session, parameters: dict[str, Any], /) -> Iterator[bytes]:
        """The file in pieces, read in one snapshot."""

    def name(self, parameters: dict[str, Any], /) -> str:
        """The file's name without its ending."""


@dataclass(frozen=True, slots=True)
class ReportKind:
    """One type of report."""

    title: str
    """What people call it."""
    module: str
    """In ``core.reports``: a PdfReport or a CsvReport, by ``format``."""
    format: Format = "pdf"
    subject: Literal["interview_id", "candidate_id"] | None = None
    """The parameter that says what it is about."""
    all_time: bool = False
    """Without a period it is of all there is, and not of the last thirty days."""

    @property
    def pdf(self) -> PdfReport:
        """The module of a printed report."""
        return cast(PdfReport, import_module(f"core.reports.{self.module}"))

    @property
    def csv(self) -> CsvReport:
        """The module of a report that is rows of text."""
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
    # what pydantic, and with it the OpenAPI document, needs; a type checker cannot read the table
    ReportType = Literal[tuple(REPORTS)]

cast(Table, Report.__table__).append_constraint(one_of("type", REPORTS))
