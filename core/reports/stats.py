"""Statistics of the report queue for monitoring: reports by status, delay of the oldest, time until ready."""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.queues import Durations, StatusCount, count_by_status, durations

RECENT_MINUTES = 60
RECENT_REPORTS = 1000


class ReportStats(NamedTuple):
    """Statistics of all requested reports, by the database's clock.

    ``overdue_seconds`` is how long the oldest due report has been waiting, 0 when none is due. ``ready`` is the time
    from a report's INSERT until its file was stored, for the ready ones among the newest RECENT_REPORTS of
    RECENT_MINUTES.
    """

    by_status: tuple[StatusCount, ...]
    overdue_seconds: float
    ready: Durations
    kept_bytes: int


_OVERDUE = text("""
    SELECT coalesce(extract(epoch FROM clock_timestamp() - min(due_at)), 0) FROM reports WHERE status = 'queued'
""")
_READY = f"""
    SELECT finished_at - created_at AS took FROM reports
    WHERE status = 'ready' AND created_at > clock_timestamp() - interval '{RECENT_MINUTES} minutes'
    ORDER BY id DESC LIMIT {RECENT_REPORTS}
"""  # noqa: S608 - our own numbers
_KEPT = text("SELECT coalesce(sum(size), 0) FROM report_files")


def report_stats(db: Session) -> ReportStats:
    """The statistics now."""
    return ReportStats(
        by_status=count_by_status(db, "reports", "type"),
        overdue_seconds=max(0.0, float(db.execute(_OVERDUE).scalar_one())),
        ready=durations(db, _READY),
        kept_bytes=int(db.execute(_KEPT).scalar_one()),
    )
