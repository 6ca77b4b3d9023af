"""One candidate's figures."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.errors import NotFound
from core.models import Candidate
from core.reports.data import (
    AnswerEntry,
    CandidateReport,
    FeedbackEntry,
    Period,
    Ratio,
    SessionEntry,
    SkillStats,
    Stamp,
)
from core.reports.metrics.counts import count
from core.reports.metrics.moments import OF_PERIOD, ONE_CANDIDATE, build_query, query_parameters, tune, within
from core.reports.metrics.periods import span
from core.settings import settings

SESSIONS, ANSWERED = 100, 5
LATE = timedelta(minutes=5)

_OF_CANDIDATE = f"reported AS MATERIALIZED (SELECT * FROM facts WHERE {OF_PERIOD})"  # noqa: S608 - our constants

LINES = f"""
    WITH {_OF_CANDIDATE}
    SELECT r.id, title, r.position, users.name, r.status, r.invited, r.opened, r.planned, r.started, r.ended,
        CAST(r.score AS float8), CAST(r.pass_score AS float8), r.decision, r.decided, s.retry_of IS NOT NULL
    FROM reported r JOIN sessions s ON s.id = r.id JOIN interviews ON interviews.id = r.interview_id
        LEFT JOIN users ON users.id = r.interviewer_id
    ORDER BY coalesce(r.slot, r.invited) DESC, r.id DESC LIMIT {SESSIONS}
"""  # noqa: S608 - our constants

SKILLS = f"""
    WITH own_sessions AS MATERIALIZED (SELECT id, position FROM facts WHERE {within("began")}),
    scored AS MATERIALIZED (
        SELECT DISTINCT ON (s.id, q.id) s.candidate_id, i.position, q.skill,
            CAST(a.score / q.max_score AS float8) AS share
        FROM interviews i JOIN sessions s ON s.interview_id = i.id JOIN answers a ON a.session_id = s.id
            JOIN questions q ON q.id = a.question_id
        WHERE i.position IN (SELECT position FROM own_sessions) AND a.score IS NOT NULL
            AND (s.candidate_id <> :candidate OR s.id IN (SELECT id FROM own_sessions))
        ORDER BY s.id, q.id, a.source DESC
    ),
    means AS (SELECT candidate_id, position, skill, avg(share) AS mean, count(*) AS n FROM scored GROUP BY 1, 2, 3)
    SELECT position, skill, max(mean) FILTER (WHERE candidate_id = :candidate),
        max(n) FILTER (WHERE candidate_id = :candidate),
        percentile_cont(0.5) WITHIN GROUP (ORDER BY CASE WHEN candidate_id <> :candidate THEN mean END),
        count(*) FILTER (WHERE candidate_id <> :candidate)
    FROM means GROUP BY 1, 2 HAVING bool_or(candidate_id = :candidate) ORDER BY 1, 2
"""  # noqa: S608 - our constants
"""The candidate's mean share of points in each skill, and the median of all other candidates for that position."""

ANSWERS = f"""
    WITH newest AS (
        SELECT id, slot FROM facts WHERE {OF_PERIOD}
            AND EXISTS (SELECT FROM answers WHERE answers.session_id = facts.id)
        ORDER BY slot DESC, id DESC LIMIT {ANSWERED}
    )
    SELECT newest.id, q.ordinal, q.text, q.skill, a.source, CAST(a.score AS float8), CAST(q.max_score AS float8),
        a.seconds, users.name
    FROM newest JOIN answers a ON a.session_id = newest.id JOIN questions q ON q.id = a.question_id
        LEFT JOIN users ON users.id = a.scored_by
    ORDER BY newest.slot, newest.id, q.ordinal, a.source
"""  # noqa: S608 - our constants

FEEDBACK = f"""
    WITH {_OF_CANDIDATE}
    SELECT r.id, title, users.name, recommendation, comment, submitted_at,
        coalesce(submitted_at <= r.ended + r.deadline * interval '1 hour', false)
    FROM reported r JOIN feedback ON feedback.session_id = r.id JOIN interviews ON interviews.id = r.interview_id
        JOIN users ON users.id = feedback.interviewer_id
    ORDER BY submitted_at, r.id
"""  # noqa: S608 - our constants

ATTENDANCE = f"""
    SELECT CASE WHEN status IN ('completed', 'abandoned', 'cancelled') THEN status
            WHEN status = 'no_show' AND no_show_party = 'interviewer' THEN 'interviewer_no_show'
            WHEN status = 'no_show' THEN status
            ELSE 'open' END AS kind,
        count(*), count(*) FILTER (WHERE began > planned + :late)
    FROM moments WHERE {within("planned")} GROUP BY 1
"""  # noqa: S608 - our constants
_ATTENDED = ("completed", "abandoned", "no_show", "interviewer_no_show", "cancelled", "open")

_ALL = text("""
    SELECT least(min(created_at), min(scheduled_start), min(started_at), min(ended_at), min(invitation_expires_at)),
        greatest(max(created_at), max(scheduled_start), max(started_at), max(ended_at), max(decided_at),
            max(invitation_expires_at))
    FROM sessions WHERE candidate_id = :candidate
""")


def candidate(db: Session, candidate_id: int, period: Period | None, *, as_of: datetime) -> CandidateReport:
    """All figures of one candidate in a period, or of all time; consistent when ``db`` is one snapshot.

    Raises NotFound. Deleted candidates are reported, too.
    """
    person = db.get(Candidate, candidate_id)
    if person is None:
        raise NotFound("candidate", candidate_id)
    tune(db)
    period = period or _all_time(db, candidate_id, as_of)
    cut = span(period)
    parameters = query_parameters(cut, as_of=as_of, candidate=candidate_id)
    counts = count(db, parameters, ONE_CANDIDATE)
    current = [counts.weeks[1 + len(cut.before) + number] for number in range(len(cut.now))]
    came, missed = (sum(week[name] for week in current) for name in ("came", "missed"))
    return CandidateReport(
        stamp=Stamp(period, as_of, counts.n),
        candidate_id=candidate_id,
        name=person.name,
        email=person.email,
        source=person.source,
        applied_at=person.applied_at,
        hired_at=person.hired_at,
        withdrawn_at=person.withdrawn_at,
        sessions=tuple(SessionEntry._make(row) for row in reversed(_rows(db, LINES, parameters))),
        skills=tuple(SkillStats._make(row) for row in _rows(db, SKILLS, parameters)),
        answers=tuple(AnswerEntry._make(row) for row in _rows(db, ANSWERS, parameters)),
        feedback=tuple(FeedbackEntry._make(row) for row in _rows(db, FEEDBACK, parameters)),
        attendance=_attendance(db, parameters),
        show=Ratio(came, came + missed),
    )


def _rows(db: Session, query: str, parameters: Mapping[str, Any]) -> list[Any]:
    return list(db.execute(build_query(query, ONE_CANDIDATE), parameters))


def _attendance(db: Session, parameters: Mapping[str, Any]) -> dict[str, int]:
    found = {kind: (n, late) for kind, n, late in _rows(db, ATTENDANCE, {**parameters, "late": LATE})}
    attended = {kind: found.get(kind, (0, 0))[0] for kind in _ATTENDED}
    return attended | {"late": sum(late for _, late in found.values())}


def _all_time(db: Session, candidate_id: int, as_of: datetime) -> Period:
    """From the candidate's first event to after the last, and to now at least."""
    first, last = db.execute(_ALL, {"candidate": candidate_id}).one()
    second = timedelta(seconds=1)
    end = max(as_of, last or as_of) + second
    return Period(min(first or as_of, as_of), end, settings().timezone)
