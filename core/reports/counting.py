"""Reports in figures, for those who watch: how many in which state, how soon they were ready."""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

RECENT_MINUTES = 60
RECENT_REPORTS = 1000
QUANTILES = (0.5, 0.9, 0.99, 1.0)


class Counted(NamedTuple):
    """Reports of one type in one state; ``again`` are their attempts after the first of each."""

    status: str
    type: str
    reports: int
    again: int


class ReportFigures(NamedTuple):
    """The reports that were asked for, by the database's clock.

    ``overdue_seconds`` is how long the report that waits longest has been due, 0 when none does. ``ready_seconds``
    has, for each of QUANTILES, the seconds from a report's INSERT to its file being kept, of those ``ready`` among the
    newest RECENT_REPORTS asked for within RECENT_MINUTES; empty when there is none.
    """

    counted: tuple[Counted, ...]
    overdue_seconds: float
    ready: int
    ready_seconds: tuple[float, ...]
    kept_bytes: int


_COUNTED = text("""
    SELECT status, type, count(*), coalesce(sum(attempts - 1) FILTER (WHERE attempts > 1), 0)
    FROM reports GROUP BY status, type ORDER BY status, type
""")
_OVERDUE = text("""
    SELECT coalesce(extract(epoch FROM clock_timestamp() - min(due_at)), 0) FROM reports WHERE status = 'queued'
""")
_TOOK = text(f"""
    SELECT count(*), percentile_cont(CAST(:quantiles AS float8[])) WITHIN GROUP (ORDER BY took) FROM (
        SELECT CAST(extract(epoch FROM finished_at - created_at) AS float8) AS took FROM reports
        WHERE status = 'ready' AND created_at > clock_timestamp() - interval '{RECENT_MINUTES} minutes'
        ORDER BY id DESC LIMIT {RECENT_REPORTS}
    ) AS recent WHERE took IS NOT NULL
""")  # noqa: S608 - our own numbers
_KEPT = text("SELECT coalesce(sum(size), 0) FROM report_files")


def figures(db: Session) -> ReportFigures:
    """The figures now."""
    ready, quantiles = db.execute(_TOOK, {"quantiles": list(QUANTILES)}).one()
    return ReportFigures(
        counted=tuple(Counted(status, kind, count, int(again)) for status, kind, count, again in db.execute(_COUNTED)),
        overdue_seconds=max(0.0, float(db.execute(_OVERDUE).scalar_one())),
        ready=ready,
        ready_seconds=tuple(quantiles or ()),
        kept_bytes=int(db.execute(_KEPT).scalar_one()),
    )
