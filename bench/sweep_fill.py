"""A million sessions for the status sweep, of which some are due: one INSERT … SELECT a kind."""

from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
INTERVIEWS = 20
CANDIDATE_SHARE, INTERVIEWER_SHARE = 10, 200
"""Sessions a candidate, sessions an interviewer."""


@dataclass(frozen=True)
class Kind:
    """Similar sessions: their share of all (or of the due ones), and their columns as SQL over ``k`` and ``:now``."""

    share: float
    status: str
    columns: dict[str, str]
    guided: str = "k % 3 <> 0"
    """Two thirds have an interviewer."""


def _slot(hours_before: float) -> dict[str, str]:
    """A scheduled hour, the first interviewers' at that time, the next round's an hour before, and so on."""
    start = f"now - interval '{hours_before} hours' - (k / interviewers) * interval '1 hour'"
    return {"scheduled_start": start, "scheduled_end": f"{start} + interval '1 hour'"}


_SCHEDULED = {"status_at": "now - interval '3 days'"}
_DUE_AT = "now - random() * interval '20 hours'"
"""Any moment since the sweep last ran: a lower bound of the rule's own time, as activity of the candidate leaves it."""

# First the rules, in their shares of what is due; «answered» is how many of the five required questions are.
DUE: dict[str, Kind] = {
    "expire": Kind(
        0.24, "invited", {"status_at": "now - interval '14 days'", "invitation_expires_at": "now - interval '1 min'"}
    ),
    "no_show": Kind(0.20, "scheduled", _SCHEDULED | _slot(6) | {"late_version": "1"}),
    "late": Kind(0.08, "scheduled", _SCHEDULED | _slot(10 / 60)),
    "close, completed": Kind(
        0.14,
        "interrupted",
        _slot(12) | {"status_at": "now - interval '40 min'", "started_at": "now - interval '80 min'", "answered": "5"},
    ),
    "close, abandoned": Kind(
        0.06,
        "interrupted",
        _slot(22) | {"status_at": "now - interval '40 min'", "started_at": "now - interval '80 min'", "answered": "3"},
    ),
    "close, overrun": Kind(
        0.06,
        "in_progress",
        _slot(3)
        | {
            "status_at": "now - interval '3 hours'",
            "started_at": "now - interval '3 hours'",
            "last_activity_at": "now - interval '5 min'",
            "answered": "2 + k % 4",
        },
    ),
    "interrupt": Kind(
        0.10,
        "in_progress",
        _slot(1.5)
        | {
            "status_at": "now - interval '50 min'",
            "started_at": "now - interval '50 min'",
            "last_activity_at": "now - interval '15 min'",
        },
    ),
    "feedback_overdue": Kind(
        0.12,
        "completed",
        {
            "status_at": "now - interval '50 hours'",
            "started_at": "now - interval '51 hours'",
            "ended_at": "now - interval '50 hours'",
        },
        guided="true",
    ),
}
_DONE = {"started_at": "now - k * interval '10 seconds'", "ended_at": "now - k * interval '10 seconds'"}
# Then all others, in their shares of what is not due.
REST: dict[str, Kind] = {
    "completed": Kind(0.50, "completed", _DONE | {"status_at": "now - interval '1 hour'", "score": "40 + k % 60"}),
    "feedback to come": Kind(
        0.02,
        "completed",
        {
            "status_at": "now - interval '5 hours'",
            "started_at": "now - interval '6 hours'",
            "ended_at": "now - interval '5 hours'",
            "sweep_at": "now + interval '43 hours'",
        },
    ),
    "abandoned": Kind(0.08, "abandoned", _DONE | {"status_at": "now - interval '10 days'"}),
    "no_show": Kind(0.07, "no_show", {"status_at": "now - interval '10 days'", "no_show_party": "'candidate'"}),
    "expired": Kind(0.10, "expired", {"status_at": "now - interval '10 days'"}),
    "cancelled": Kind(0.09, "cancelled", {"status_at": "now - interval '10 days'"}),
    "invited": Kind(
        0.07,
        "invited",
        {
            "status_at": "now - interval '2 days'",
            "invitation_expires_at": "now + interval '1 day' + k * interval '1 second'",
            "sweep_at": "now + interval '1 day' + k * interval '1 second'",
        },
    ),
    "scheduled": Kind(
        0.055,
        "scheduled",
        _SCHEDULED
        | {
            "scheduled_start": "now + (2 + k / interviewers) * interval '1 hour'",
            "scheduled_end": "now + (3 + k / interviewers) * interval '1 hour'",
            "sweep_at": "now + (2 + k / interviewers) * interval '1 hour' + interval '5 min'",
        },
    ),
    "alive": Kind(
        0.01,
        "in_progress",
        {
            "status_at": "now - interval '20 min'",
            "started_at": "now - interval '20 min'",
            "last_activity_at": "now - interval '1 min'",
            # Every other one is checked too early: it had activity since.
            "sweep_at": "now + CASE WHEN k % 2 = 0 THEN interval '9 min' ELSE interval '-1 min' END",
        },
        guided="false",
    ),
    "interrupted": Kind(
        0.005,
        "interrupted",
        {
            "status_at": "now - interval '5 min'",
            "started_at": "now - interval '30 min'",
            "sweep_at": "now + interval '25 min'",
        },
        guided="false",
    ),
}


def fill(url: str, *, sessions: int, due: int) -> None:
    """Fill a migrated, empty database; a superuser's connection spares the checks of foreign keys."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SET session_replication_role = replica")
        db.execute("SELECT setseed(0.42)")
        candidates, interviewers = max(sessions // CANDIDATE_SHARE, 100), max(sessions // INTERVIEWER_SHARE, 20)
        _people(db, candidates, interviewers)
        place = 0
        counts = [(kind, round(kind.share * due), True) for kind in DUE.values()]
        counts += [(kind, round(kind.share * (sessions - due)), False) for kind in REST.values()]
        for kind, count, is_due in counts:
            _sessions(db, kind, place, count, candidates, interviewers, is_due=is_due)
            place += count
        _surroundings(db)
        db.execute("VACUUM ANALYZE")
        db.execute("CHECKPOINT")


def _people(db: psycopg.Connection, candidates: int, interviewers: int) -> None:
    db.execute(
        "INSERT INTO users (id, email, name, role) VALUES (1, 'a@x', 'Ada', 'admin'), (2, 'r@x', 'Rui', 'recruiter')"
    )
    db.execute(
        "INSERT INTO users (id, email, name, role)"
        " SELECT n, 'i' || n || '@x', 'Interviewer ' || n, 'interviewer' FROM generate_series(3, 2 + %s) n",
        [interviewers],
    )
    # Every other candidate can sign in.
    db.execute(
        "INSERT INTO users (id, email, name, role)"
        " SELECT 1000000 + n, 'c' || n || '@x', 'Candidate ' || n, 'candidate' FROM generate_series(2, %s, 2) n",
        [candidates],
    )
    db.execute(
        "INSERT INTO candidates (id, user_id, email, name)"
        " SELECT n, CASE WHEN n %% 2 = 0 THEN 1000000 + n END, 'c' || n || '@x', 'Candidate ' || n"
        " FROM generate_series(1, %s) n",
        [candidates],
    )
    db.execute(
        "INSERT INTO interviews (id, title, position)"
        " SELECT n, 'Interview ' || n, 'Engineer' FROM generate_series(1, %s) n",
        [INTERVIEWS],
    )
    db.execute(
        "INSERT INTO questions (id, interview_id, ordinal, text, skill, required, weight)"
        " SELECT 10 * i + n, i, n, 'Why?', 'thinking', n < 6, n FROM generate_series(1, %s) i, generate_series(1, 7) n",
        [INTERVIEWS],
    )


def _sessions(
    db: psycopg.Connection,
    kind: Kind,
    place: int,
    count: int,
    candidates: int,
    interviewers: int,
    *,
    is_due: bool,
) -> None:
    columns = {name: sql for name, sql in kind.columns.items() if name != "answered"}
    if is_due:
        columns["sweep_at"] = _DUE_AT
    columns.setdefault("sweep_at", "NULL")
    names, values = ", ".join(columns), ", ".join(columns.values())
    db.execute(
        f"""
        WITH made AS (
            INSERT INTO sessions
                (id, candidate_id, interview_id, interviewer_id, recruiter_id, status, ics_uid, {names})
            SELECT uuidv7(-(k + {place}) * interval '20 seconds'), 1 + (k + {place}) % {candidates},
                   1 + (k + {place}) / {candidates} % {INTERVIEWS},
                   CASE WHEN {kind.guided} THEN 3 + k % interviewers END, 2, '{kind.status}', 'uid', {values}
            FROM generate_series(0, {count - 1}) k,
                 (SELECT timestamptz '{NOW.isoformat()}' AS now, {interviewers} AS interviewers) given
            RETURNING id, interview_id
        )
        INSERT INTO answers (session_id, question_id, source, score, seconds, answered_at)
        SELECT id, 10 * interview_id + q, 'ai', q % 6, 100, timestamptz '{NOW.isoformat()}' - interval '1 hour'
        FROM (SELECT *, row_number() OVER () - 1 AS k FROM made) AS made, generate_series(1, 5) q
        WHERE q <= {kind.columns.get("answered", "0")}
        """  # noqa: S608 - our own constants
    )


def _surroundings(db: psycopg.Connection) -> None:
    """The other rows of a platform of that age, so that no index is small."""
    db.execute(
        "INSERT INTO session_events (session_id, kind, new_status, actor, actor_id, at)"
        " SELECT id, 'created', 'invited', 'recruiter', 2, created_at FROM sessions"
    )
    db.execute(
        "INSERT INTO feedback (session_id, interviewer_id, recommendation)"
        " SELECT id, interviewer_id, 'yes' FROM sessions"
        " WHERE status = 'completed' AND interviewer_id IS NOT NULL AND sweep_at IS NULL"
    )
    db.execute(
        "INSERT INTO answers (session_id, question_id, source, score, seconds, answered_at)"
        " SELECT id, 10 * interview_id + q, 'ai', q % 6, 100, started_at FROM sessions, generate_series(1, 7) q"
        " WHERE status = 'completed' AND sweep_at IS NULL AND right(id::text, 1) < '3'"
    )
