"""Reports: asked for, made by whoever claims them, and brought to whom they belong.

What makes them is in ``core.reports.build``, apart, since only a dispatcher needs it.
"""

from core.reports.queries import ReportFilter, Shown, get, get_file, outcome, page
from core.reports.queue.daily import Asked, ask_daily
from core.reports.queue.enqueue import (
    Requested,
    ask,
    ask_as_house,
    check,
    generate_candidate_pdf,
    generate_dashboard_csv,
    generate_dashboard_pdf,
    generate_interview_pdf,
)
from core.reports.queue.parameters import NewReport

__all__ = [
    "Asked",
    "NewReport",
    "ReportFilter",
    "Requested",
    "Shown",
    "ask",
    "ask_as_house",
    "ask_daily",
    "check",
    "generate_candidate_pdf",
    "generate_dashboard_csv",
    "generate_dashboard_pdf",
    "generate_interview_pdf",
    "get",
    "get_file",
    "outcome",
    "page",
]
