"""The dashboard's sessions as CSV (RFC 4180): the rows that its figures count, one a session."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from sqlalchemy.orm import Session

from core.db import array
from core.reports.data import Period
from core.reports.filenames import days
from core.reports.metrics.moments import OF_PERIOD, build_query
from core.reports.metrics.periods import zone_offsets
from core.reports.queue.parameters import required_period

FETCHED = 2000
"""Rows in memory at a time."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters by which a spreadsheet may take a cell for a formula."""


def _local_time(moment: str) -> str:
    """A time in the period's zone, with its offset, as SQL."""
    place = f"[width_bucket({moment}, CAST(:since AS timestamptz[]))]"
    return (
        f"to_char({moment} AT TIME ZONE 'UTC' + interval '1 minute' * (CAST(:minutes AS int[])){place},"
        f" 'YYYY-MM-DD\"T\"HH24\\:MI\\:SS') || (CAST(:offsets AS text[])){place}"
    )


_COLUMNS = {
    "session_id": "CAST(facts.id AS text)",
    "status": "facts.status",
    "candidate_id": "facts.candidate_id",
    "candidate": "candidates.name",
    "source": "candidates.source",
    "interview_id": "facts.interview_id",
    "interview": "interviews.title",
    "position": "facts.position",
    "interviewer": "users.name",
    "invited_at": _local_time("facts.invited"),
    "invitation_expires_at": _local_time("facts.expires"),
    "opened_at": _local_time("facts.opened"),
    "scheduled_start": _local_time("facts.planned"),
    "started_at": _local_time("facts.started"),
    "ended_at": _local_time("facts.ended"),
    "no_show_party": "facts.no_show_party",
    "score": "CAST(facts.score AS text)",
    "pass_score": "CAST(facts.pass_score AS text)",
    "decision": "facts.decision",
    "decided_at": _local_time("facts.decided"),
    "feedback_due_at": _local_time("facts.due"),
    "feedback_at": _local_time("feedback.submitted_at"),
    "hired_at": _local_time("candidates.hired_at"),
}
TEXTS = ("candidate", "source", "interview", "position", "interviewer")
"""The columns with text that people entered."""

# In the order of ids, which is that of creation: the cursor follows the primary key, without a sort.
_ROWS = f"""
    SELECT {", ".join(_COLUMNS.values())}
    FROM facts JOIN candidates ON candidates.id = facts.candidate_id
        JOIN interviews ON interviews.id = facts.interview_id
        LEFT JOIN users ON users.id = facts.interviewer_id
        LEFT JOIN feedback ON feedback.session_id = facts.id AND feedback.interviewer_id = facts.interviewer_id
    WHERE {OF_PERIOD} ORDER BY facts.id
"""  # noqa: S608 - our constants


def list_rows(db: Session, parameters: dict[str, Any]) -> Iterator[bytes]:
    """The sessions of the request's period; see ``rows``."""
    return rows(db, required_period(parameters))


def name(parameters: dict[str, Any]) -> str:
    """The file name without its extension."""
    return f"Sessions {days(required_period(parameters))}"


def rows(db: Session, period: Period) -> Iterator[bytes]:
    """The header, then every session that the dashboard of this period counts, in chunks of some hundred kilobytes.

    Read through a server-side cursor, with constant memory for a million sessions; the transaction must stay open
    meanwhile. Times are in the period's zone, to the second, with their offset.
    """
    local = zone_offsets(period.zone)
    minutes = [round(seconds / 60) for seconds in local.seconds]
    given = {
        "start": period.start,
        "end": period.end,
        "since": array(local.since),
        "minutes": array(minutes),
        "offsets": array([_offset(ahead) for ahead in minutes]),
    }
    yield _csv_rows([list(_COLUMNS)])
    found = db.execute(build_query(_ROWS), given, execution_options={"stream_results": True, "yield_per": FETCHED})
    for chunk in found.partitions(FETCHED):
        yield _csv_rows(
            [[_safe(value) if place in _TEXT_COLUMNS else value for place, value in enumerate(row)] for row in chunk]
        )


_TEXT_COLUMNS = frozenset(place for place, name in enumerate(_COLUMNS) if name in TEXTS)


def _csv_rows(cells: list[list[Any]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(cells)
    return out.getvalue().encode()


def _safe(value: str | None) -> str | None:
    """The text, prefixed with an apostrophe where a spreadsheet would evaluate it."""
    return "'" + value if value is not None and value.startswith(FORMULA) else value


def _offset(minutes: int) -> str:
    hours, rest = divmod(abs(minutes), 60)
    return f"{'-' if minutes < 0 else '+'}{hours:02}:{rest:02}"
