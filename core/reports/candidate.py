"""The pages of one candidate's analytics: attendance, scores, and interviewers' feedback."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from markupsafe import Markup
from sqlalchemy.orm import Session

from core.reports import formatting, metrics
from core.reports.charts import bars, dots, times
from core.reports.charts.card import Card
from core.reports.data import AnswerEntry, CandidateReport, SessionEntry
from core.reports.document import Document
from core.reports.filenames import days
from core.reports.pages import Tile, document, fact_tile
from core.reports.queue.parameters import period_of

_RECOMMENDS = {"strong_yes": "Strong yes", "yes": "Yes", "no": "No", "strong_no": "Strong no"}
_DECIDED = {"advance": "advances", "reject": "rejected", "hold": "on hold"}
_PER_SESSION = 30
"""Maximum questions of a session in the table."""
_FEEDBACK = 12
"""Maximum recommendations shown in full, the newest."""


@dataclass(frozen=True, slots=True)
class QuestionScores:
    """One question of a session with its score by each source."""

    ordinal: int
    text: str
    skill: str
    ai: str
    person: str
    by: str
    of: str
    seconds: int | None


@dataclass(frozen=True, slots=True)
class SessionScores:
    """A session's scored questions."""

    session: SessionEntry | None
    when: str
    rows: tuple[QuestionScores, ...]
    left_out: int


def gather(db: Session, parameters: dict[str, Any], as_of: datetime) -> CandidateReport:
    """The candidate's data; without a period, of all time. Raises NotFound."""
    return metrics.candidate(db, parameters["candidate_id"], period_of(parameters), as_of=as_of)


def name(data: CandidateReport) -> str:
    """The file name without its extension."""
    return f"Candidate {data.name} {days(data.stamp.period)}"


def lay_out(data: CandidateReport) -> Document:
    """One candidate's analytics as charts and pages."""
    zone = data.stamp.period.zone
    skills = dots.skills(data.skills)
    cards: list[Card] = [
        times.timeline(data.sessions, zone),
        times.trend(data.sessions),
        bars.outcomes(data.attendance, key="attendance", attended=True),
        *skills,
    ]
    return document(
        "candidate",
        data.stamp,
        name="Candidate analytics",
        title=f"Candidate analytics, {formatting.shorten(data.name, 80)}",
        cards=cards,
        lead=_lead(data),
        tiles=tiles(data),
        waits=waits(data.sessions),
        waits_title=_waits_title(data.sessions),
        data=data,
        facts=_personal_details(data),
        skills=skills,
        answered=_session_scores(data),
        recommends=_RECOMMENDS,
        feedback=sorted(data.feedback, key=lambda line: line.submitted_at, reverse=True)[:_FEEDBACK],
    )


def _lead(data: CandidateReport) -> Markup:
    done = sum(line.status == "completed" for line in data.sessions)
    n = data.stamp.n
    if not n:
        return Markup.escape("No session in this period.")
    sentences = [f"{formatting.count(n, 'session').capitalize()}, {'none' if not done else f'{done:,}'} completed."]
    scored = [line for line in data.sessions if line.score is not None]
    if scored:
        last = scored[-1]
        result = "passed" if (last.score or 0) >= last.pass_score else "did not pass"
        text = Markup("The newest score is {} for {}, and {} (line {}).").format(
            formatting.number(round(last.score or 0, 1)),
            formatting.name(last.interview),
            result,
            formatting.number(last.pass_score),
        )
    else:
        text = Markup.escape("No session is scored yet.")
    recommendation = ""
    if data.feedback:
        newest = max(data.feedback, key=lambda line: line.submitted_at)
        by = formatting.name(newest.interviewer, 40)
        recommendation = Markup(" {} recommends: {}.").format(
            by, _RECOMMENDS.get(newest.recommendation, newest.recommendation).lower()
        )
    return Markup.escape(" ".join(sentences)) + " " + text + recommendation


def _personal_details(data: CandidateReport) -> list[tuple[str, str]]:
    zone = data.stamp.period.zone

    def on(at: datetime | None) -> str:
        return formatting.day(at, zone) if at else formatting.UNDEFINED

    details = [("Mail", data.email), ("Source", data.source or formatting.UNDEFINED), ("Applied", on(data.applied_at))]
    if data.hired_at:
        details.append(("Hired", on(data.hired_at)))
    if data.withdrawn_at:
        details.append(("Withdrawn", on(data.withdrawn_at)))
    return details


def tiles(data: CandidateReport) -> list[Tile]:
    """The candidate's key figures."""
    scored = [line for line in data.sessions if line.score is not None]
    best = max((line.score or 0 for line in scored), default=None)
    passed = sum((line.score or 0) >= line.pass_score for line in scored)
    newest = scored[-1] if scored else None
    decided = [line for line in data.sessions if line.decision]
    return [
        fact_tile(
            "Sessions",
            f"{data.stamp.n:,}",
            formatting.count(sum(x.status == "completed" for x in data.sessions), "completed", "completed"),
        ),
        fact_tile(
            "Newest score",
            formatting.UNDEFINED if newest is None else formatting.number(round(newest.score or 0, 1)),
            "not scored yet" if newest is None else f"passes at {formatting.number(newest.pass_score)}",
        ),
        fact_tile(
            "Best score",
            formatting.UNDEFINED if best is None else formatting.number(round(best, 1)),
            f"{passed} of {len(scored)} passed" if scored else "n = 0",
        ),
        fact_tile(
            "Show rate",
            formatting.ratio(data.show),
            f"{data.show.part} of {data.show.whole}" if data.show.whole else "n = 0",
            few=0 < data.show.whole < formatting.FEW,
        ),
        fact_tile(
            "Newest decision",
            _DECIDED.get(decided[-1].decision or "", decided[-1].decision or "").capitalize()
            if decided
            else formatting.UNDEFINED,
            formatting.day(decided[-1].decided_at, data.stamp.period.zone)
            if decided and decided[-1].decided_at
            else "not decided yet",
        ),
    ]


def waits(sessions: Sequence[SessionEntry]) -> list[Tile]:
    """The median time from step to step of the candidate's sessions."""
    return [
        fact_tile(
            label,
            formatting.hours(median(known)) if known else formatting.UNDEFINED,
            f"n = {len(known)}",
            few=len(known) < formatting.FEW,
        )
        for label, known in _steps(sessions)
    ]


def _waits_title(sessions: Sequence[SessionEntry]) -> str:
    for label, known in reversed(_steps(sessions)[:2]):
        if known:
            return f"{label}: {formatting.hours(median(known))}{'' if len(known) == 1 else ' is the median'}"
    return "No session was opened or started yet"


def _steps(sessions: Sequence[SessionEntry]) -> list[tuple[str, list[float]]]:
    pairs: list[tuple[str, list[tuple[datetime | None, datetime | None]]]] = [
        ("Invited to opened", [(line.invited_at, line.opened_at) for line in sessions]),
        ("Invited to started", [(line.invited_at, line.started_at) for line in sessions]),
        ("Planned to actual start", [(line.scheduled_start, line.started_at) for line in sessions]),
        ("Start to end", [(line.started_at, line.ended_at) for line in sessions]),
        ("Ended to decided", [(line.ended_at, line.decided_at) for line in sessions]),
    ]
    return [(label, [(b - a).total_seconds() / 3600 for a, b in ends if a and b]) for label, ends in pairs]


def _session_scores(data: CandidateReport) -> list[SessionScores]:
    lines = {line.session_id: line for line in data.sessions}
    sessions = []
    for session in dict.fromkeys(answer.session_id for answer in data.answers):
        answers = [answer for answer in data.answers if answer.session_id == session]
        ordinals = sorted({answer.ordinal for answer in answers})
        rows = tuple(
            _question_scores([answer for answer in answers if answer.ordinal == ordinal])
            for ordinal in ordinals[:_PER_SESSION]
        )
        line = lines.get(session)
        at = line and (line.started_at or line.scheduled_start or line.invited_at)
        when = formatting.day(at, data.stamp.period.zone) if at else ""
        sessions.append(SessionScores(line, when, rows, len(ordinals) - len(rows)))
    return sessions


def _question_scores(answers: Sequence[AnswerEntry]) -> QuestionScores:
    first = answers[0]
    score = {answer.source: answer.score for answer in answers}
    by = next((answer.scored_by for answer in answers if answer.source == "human" and answer.scored_by), None)
    seconds = next((answer.seconds for answer in answers if answer.seconds is not None), None)
    return QuestionScores(
        first.ordinal,
        first.text,
        first.skill,
        _score(score.get("ai")),
        _score(score.get("human")),
        by or "",
        formatting.number(first.max_score),
        seconds,
    )


def _score(value: float | None) -> str:
    return formatting.UNDEFINED if value is None else formatting.number(round(value, 1))
