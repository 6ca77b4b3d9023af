"""The source rows of all figures: one a session, with the times that assign it to periods.

A session counts in the period ``[a, b)`` that contains the figure's time, so that the figures of weeks add up to those
of their period. Soft-deleted sessions count (docs/domain.md, "Retention": "Reports keep counting them").
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from core.db import array
from core.reports.metrics.periods import Span

BEGAN = """coalesce(s.started_at,
        CASE WHEN s.status = 'completed' THEN coalesce(s.scheduled_start, s.ended_at) END)"""
"""The start. A session corrected from no-show to completed was held, but has no start: then its scheduled start."""

SLOT = f"coalesce(s.scheduled_start, {BEGAN}, s.invitation_expires_at, s.created_at)"
"""The time by which outcomes are counted: the scheduled start, else the start, else the invitation's expiry."""

INVITED_END = f"CASE WHEN s.invitation_expires_at IS NOT NULL THEN coalesce({BEGAN}, s.invitation_expires_at) END"
"""When an invitation was resolved: the session started, or the invitation expired. Null for a session scheduled without
an invitation."""

DUE = """CASE WHEN s.status = 'completed' AND s.interviewer_id IS NOT NULL
        THEN s.ended_at + i.feedback_deadline_hours * interval '1 hour' END"""
"""The feedback deadline, of completed sessions with an interviewer."""

_MOMENTS = f"""s.id, s.status, s.interview_id, s.candidate_id, s.interviewer_id, s.deleted_at, s.no_show_party,
        s.created_at AS invited, s.opened_at AS opened, s.invitation_expires_at AS expires,
        s.scheduled_start AS planned, s.started_at AS started, {BEGAN} AS began, {SLOT} AS slot,
        {INVITED_END} AS resolved,
        s.ended_at AS ended, s.decided_at AS decided, s.decision, s.score"""
_SOURCES = {
    "FROM moments": f"SELECT {_MOMENTS} FROM sessions s",  # noqa: S608 - our constants
    "FROM facts": f"""
        SELECT {_MOMENTS}, {DUE} AS due, i.pass_score, i.position, i.feedback_deadline_hours AS deadline
        FROM sessions s JOIN interviews i ON i.id = s.interview_id
    """,  # noqa: S608 - our constants
}
"""The two sources that statements may name: ``moments``, without the interview's columns (half the time), and
``facts``, with them. PostgreSQL computes only the columns that a statement uses."""

ONE_INTERVIEW = " WHERE s.interview_id = :interview"
ONE_CANDIDATE = " WHERE s.candidate_id = :candidate"

OF_PERIOD = """(
        (invited >= :start AND invited < :end) OR (planned >= :start AND planned < :end)
        OR (began >= :start AND began < :end) OR (resolved >= :start AND resolved < :end)
        OR (due >= :start AND due < :end) OR (decided >= :start AND decided < :end)
    )"""
"""The sessions of a period's report (its n, the rows of its CSV): those with the time of any figure in the period."""

ENDED_LATE_ENOUGH = """ended >= :first - (SELECT max(feedback_deadline_hours) FROM interviews) * interval '1 hour'"""
"""A necessary condition for feedback due after ``:first``, for any interview: it can be checked before the join."""

TOUCHED = f"""(invited < :end OR planned < :end OR started < :end OR expires < :end OR ended < :end OR decided < :end)
        AND (invited >= :first OR planned >= :first OR started >= :first OR expires >= :first OR decided >= :first
            OR {ENDED_LATE_ENOUGH})"""
"""A necessary condition for counting in the period or the one before, which excludes nearly all other sessions."""

OUTCOME = "CASE WHEN status IN ('invited', 'scheduled', 'in_progress', 'interrupted') THEN 'open' ELSE status END"
OUTCOMES = ("completed", "abandoned", "no_show", "cancelled", "expired", "open")

_TUNED = text("""
    SELECT set_config('work_mem', '64MB', true), set_config('jit', 'off', true),
        set_config('max_parallel_workers_per_gather', '2', true), set_config('enable_parallel_hash', 'off', true),
        set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_indexscan', 'off', true)
""")


def tune(db: Session) -> None:
    """Let the transaction's statements sort in memory, use a second core, and be planned for the requested period.

    Rows are fetched by bitmap scans, or by a scan of the table: for a year, an index scan takes twice as long as a scan
    of the whole table, and the planner estimates otherwise. No shared hash tables: /dev/shm may be small.
    """
    db.execute(_TUNED)


def build_query(query: str, only: str = "") -> TextClause:
    """A statement over ``facts`` or ``moments``, of all sessions or of those of the condition ``only``."""
    for name, source in _SOURCES.items():
        query = query.replace(name, f"FROM ({source}{only}) AS {name.removeprefix('FROM ')}")
    return text(query)


def within(moment: str, first: str = ":start") -> str:
    """The SQL condition that a time lies in the period, or between ``first`` and the period's end."""
    return f"{moment} >= {first} AND {moment} < :end"


def week(moment: str) -> str:
    """The number of a time's week, as SQL: from 1; 0 or one beyond the last for a time outside all weeks."""
    return f"width_bucket({moment}, CAST(:bounds AS timestamptz[]))"


def query_parameters(span: Span, *, as_of: datetime, **more: Any) -> Mapping[str, Any]:
    """The parameters of all statements."""
    return {
        "bounds": array(span.bounds),
        "first": span.before[0].start,
        "start": span.now[0].start,
        "end": span.now[-1].end,
        "as_of": as_of,
        **more,
    }
