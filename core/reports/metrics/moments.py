"""What every figure is made of: one row a session, with the moments that put it into a period.

A session counts in the period in which the moment of the figure lies, ``[a, b)``, so that the figures of weeks add up
to those of their period. Soft-deleted sessions count (DOMAIN, "The jobs", 1: "Reports keep counting them").
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
"""When it began: a record put right from no-show to completed says that it was held, and not when; then when it was
planned."""

SLOT = f"coalesce(s.scheduled_start, {BEGAN}, s.invitation_expires_at, s.created_at)"
"""Whose time it was: planned, else begun, else until when it could have been. Outcomes are told by it."""

INVITED_END = f"CASE WHEN s.invitation_expires_at IS NOT NULL THEN coalesce({BEGAN}, s.invitation_expires_at) END"
"""When it was known what became of an invitation: the session began, or the invitation passed without that. A session
scheduled without an invitation has none."""

DUE = """CASE WHEN s.status = 'completed' AND s.interviewer_id IS NOT NULL
        THEN s.ended_at + i.feedback_deadline_hours * interval '1 hour' END"""
"""When feedback was due: of completed sessions that had an interviewer."""

_MOMENTS = f"""s.id, s.status, s.interview_id, s.candidate_id, s.interviewer_id, s.deleted_at, s.no_show_party,
        s.created_at AS invited, s.opened_at AS opened, s.invitation_expires_at AS expires,
        s.scheduled_start AS planned, s.started_at AS started, {BEGAN} AS began, {SLOT} AS slot,
        {INVITED_END} AS settled,
        s.ended_at AS ended, s.decided_at AS decided, s.decision, s.score"""
_SOURCES = {
    "FROM moments": f"SELECT {_MOMENTS} FROM sessions s",  # noqa: S608 - our own words
    "FROM facts": f"""
        SELECT {_MOMENTS}, {DUE} AS due, i.pass_score, i.position, i.feedback_deadline_hours AS deadline
        FROM sessions s JOIN interviews i ON i.id = s.interview_id
    """,  # noqa: S608 - our own words
}
"""One row a session, as statements name it: ``moments`` without its interview, which takes half the time, or all
``facts``. Only what a statement uses is computed."""

ONE_INTERVIEW = " WHERE s.interview_id = :interview"
ONE_CANDIDATE = " WHERE s.candidate_id = :candidate"

OF_PERIOD = """(
        (invited >= :start AND invited < :end) OR (planned >= :start AND planned < :end)
        OR (began >= :start AND began < :end) OR (settled >= :start AND settled < :end)
        OR (due >= :start AND due < :end) OR (decided >= :start AND decided < :end)
    )"""
"""The sessions a period's report is about, its n and the rows of its CSV: those with a moment of any figure in it."""

ENDED_LATE_ENOUGH = """ended >= :first - (SELECT max(feedback_deadline_hours) FROM interviews) * interval '1 hour'"""
"""What is due after the first moment, whichever interview it is of: known before sessions and interviews are joined."""

TOUCHED = f"""(invited < :end OR planned < :end OR started < :end OR expires < :end OR ended < :end OR decided < :end)
        AND (invited >= :first OR planned >= :first OR started >= :first OR expires >= :first OR decided >= :first
            OR {ENDED_LATE_ENOUGH})"""
"""All that can count in the period or in the one before it, and little else: mostly known from the first of each."""

OUTCOME = "CASE WHEN status IN ('invited', 'scheduled', 'in_progress', 'interrupted') THEN 'open' ELSE status END"
OUTCOMES = ("completed", "abandoned", "no_show", "cancelled", "expired", "open")

_TUNED = text("""
    SELECT set_config('work_mem', '64MB', true), set_config('jit', 'off', true),
        set_config('max_parallel_workers_per_gather', '2', true), set_config('enable_parallel_hash', 'off', true),
        set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_indexscan', 'off', true)
""")


def tune(db: Session) -> None:
    """Let the transaction's statements sort in memory, use a second core, and be planned for the period asked for.

    Rows are fetched by bitmap, or the table is read: for a year, row by row in an index's order takes twice as long
    as reading all of it, and the planner thinks otherwise. No hash table is shared: /dev/shm may be small.
    """
    db.execute(_TUNED)


def over(query: str, only: str = "") -> TextClause:
    """A statement over ``facts`` or ``moments``, of all sessions or of ``only`` some."""
    for name, source in _SOURCES.items():
        query = query.replace(name, f"FROM ({source}{only}) AS {name.removeprefix('FROM ')}")
    return text(query)


def within(moment: str, first: str = ":start") -> str:
    """Whether a moment lies in the period, or between ``first`` and its end."""
    return f"{moment} >= {first} AND {moment} < :end"


def week(moment: str) -> str:
    """The number of the week a moment lies in, from 1; that of a moment outside of all is outside too."""
    return f"width_bucket({moment}, CAST(:bounds AS timestamptz[]))"


def given(span: Span, *, as_of: datetime, **more: Any) -> Mapping[str, Any]:
    """The parameters that the statements share."""
    return {
        "bounds": array(span.bounds),
        "first": span.before[0].start,
        "start": span.now[0].start,
        "end": span.now[-1].end,
        "as_of": as_of,
        **more,
    }
