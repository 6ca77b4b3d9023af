"""Reports in figures, for those who watch: how many in which state, how soon they were ready."""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.queues import Durations, StatusCount, count_by_status, durations

RECENT_MINUTES = 60
RECENT_REPORTS = 1000


class ReportStats(NamedTuple):
    """The reports that were asked for, by the database's clock.

    ``overdue_seconds`` is how long the report that waits longest has been due, 0 when none does. ``ready`` is from a
    report's INSERT to its file being kept, of those ready among the newest RECENT_REPORTS within RECENT_MINUTES.
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
    """The figures now."""
    return ReportStats(
        by_status=count_by_status(db, "reports", "type"),
        overdue_seconds=max(0.0, float(db.execute(_OVERDUE).scalar_one())),
        ready=durations(db, _READY),
        kept_bytes=int(db.execute(_KEPT).scalar_one()),
    )
