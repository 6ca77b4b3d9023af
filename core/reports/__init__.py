"""Reports: requested, rendered by the dispatcher that claims them, delivered to their requesters.

Rendering is in ``core.reports.build``, apart, since only a dispatcher needs it.
"""

from core.reports.queries import ReportFilter, ReportView, get, get_file, outcome, page
from core.reports.queue.daily import enqueue_daily
from core.reports.queue.enqueue import (
    QueuedReport,
    check_request,
    enqueue,
    enqueue_as_system,
    generate_candidate_pdf,
    generate_dashboard_csv,
    generate_dashboard_pdf,
    generate_interview_pdf,
)
from core.reports.queue.parameters import NewReport

__all__ = [
    "NewReport",
    "QueuedReport",
    "ReportFilter",
    "ReportView",
    "check_request",
    "enqueue",
    "enqueue_as_system",
    "enqueue_daily",
    "generate_candidate_pdf",
    "generate_dashboard_csv",
    "generate_dashboard_pdf",
    "generate_interview_pdf",
    "get",
    "get_file",
    "outcome",
    "page",
]
