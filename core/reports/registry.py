"""Every report there is: how its data are gathered, how they are laid out, and what its file is called."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from core.models import ReportType
from core.reports import candidate, csv, dashboard, interview, metrics
from core.reports.data import CandidateReport, InterviewReport, Period
from core.reports.document import Document
from core.reports.queue.parameters import period_of


@dataclass(frozen=True, slots=True)
class Printed:
    """A report that is laid out and printed as PDF."""

    gather: Callable[[Session, dict[str, Any], datetime], Any]
    lay_out: Callable[[Any], Document]
    name: Callable[[Any], str]
    """The file's name without what it ends in."""

    ending = "pdf"
    content_type = "application/pdf"


@dataclass(frozen=True, slots=True)
class Listed:
    """A report that is rows of text, as many as there are."""

    rows: Callable[[Session, dict[str, Any]], Iterator[bytes]]
    name: Callable[[dict[str, Any]], str]

    ending = "csv"
    content_type = "text/csv; charset=utf-8; header=present"


def _period(parameters: dict[str, Any]) -> Period:
    period = period_of(parameters)
    assert period is not None  # noqa: S101 - only a candidate's report may be without one
    return period


def _of_interview(data: InterviewReport) -> str:
    return f"Interview {data.title} {_days(data.stamp.period)}"


def _of_candidate(data: CandidateReport) -> str:
    return f"Candidate {data.name} {_days(data.stamp.period)}"


REPORTS: dict[ReportType, Printed | Listed] = {
    "dashboard_pdf": Printed(
        lambda db, given, as_of: metrics.dashboard(db, _period(given), as_of=as_of),
        dashboard.lay_out,
        lambda data: f"Dashboard {_days(data.stamp.period)}",
    ),
    "interview_pdf": Printed(
        lambda db, given, as_of: metrics.interview(db, given["interview_id"], _period(given), as_of=as_of),
        interview.lay_out,
        _of_interview,
    ),
    "candidate_pdf": Printed(
        lambda db, given, as_of: metrics.candidate(db, given["candidate_id"], period_of(given), as_of=as_of),
        candidate.lay_out,
        _of_candidate,
    ),
    "dashboard_csv": Listed(
        lambda db, given: csv.rows(db, _period(given)),
        lambda given: f"Sessions {_days(_period(given))}",
    ),
}


def _days(period: Period) -> str:
    """The period's first and last day, as its zone has them."""
    zone = ZoneInfo(period.zone)
    first = period.start.astimezone(zone).date()
    last = (period.end - timedelta(microseconds=1)).astimezone(zone).date()
    return f"{first}" if last <= first else f"{first} to {last}"


_NOT_IN_NAMES = re.compile(
    r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*%\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]+'
)
_DAYS = re.compile(r" \d{4}-\d\d-\d\d(?: to \d{4}-\d\d-\d\d)?$", re.ASCII)
_LONGEST, _MOST_BYTES = 80, 200
"""In characters, and in bytes, of which file systems take 255: those of a name in most scripts are two to four."""


def filename(name: str, ending: str) -> str:
    """A file's name that any system takes: without what separates, hides or reorders, and not too long."""
    cleaned = re.sub(r"\s+", " ", _NOT_IN_NAMES.sub(" ", name)).strip(" .")
    # the days at its end tell files of one name apart
    days = found[0] if (found := _DAYS.search(cleaned)) else ""
    head = cleaned.removesuffix(days)[: _LONGEST - len(days)]
    head = head.encode()[: _MOST_BYTES - len(days)].decode(errors="ignore").rstrip(" .")
    return f"{head + days or 'Report'}.{ending}"
