"""The data of a candidate's report."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from core.reports.data.measures import Ratio, Stamp


class SessionEntry(NamedTuple):
    """One session of the candidate."""

    session_id: UUID
    interview: str
    position: str
    interviewer: str | None
    status: str
    invited_at: datetime
    opened_at: datetime | None
    scheduled_start: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    score: float | None
    pass_score: float
    decision: str | None
    decided_at: datetime | None
    retry: bool


class SkillStats(NamedTuple):
    """The candidate's share of points in a skill, and the median of other candidates for the same position."""

    position: str
    skill: str
    mean: float
    n: int
    median: float | None
    """Of other candidates' means; None when there are none."""
    others: int


class AnswerEntry(NamedTuple):
    """One scored answer."""

    session_id: UUID
    ordinal: int
    text: str
    skill: str
    source: str
    score: float | None
    max_score: float
    seconds: int | None
    scored_by: str | None


class FeedbackEntry(NamedTuple):
    """One interviewer's recommendation."""

    session_id: UUID
    interview: str
    interviewer: str
    recommendation: str
    comment: str | None
    submitted_at: datetime
    in_time: bool


@dataclass(frozen=True, slots=True)
class CandidateReport:
    """All of one candidate's analytics, from one snapshot."""

    stamp: Stamp
    candidate_id: int
    name: str
    email: str
    source: str | None
    applied_at: datetime | None
    hired_at: datetime | None
    withdrawn_at: datetime | None
    sessions: tuple[SessionEntry, ...]
    """Oldest first; the newest hundred."""
    skills: tuple[SkillStats, ...]
    answers: tuple[AnswerEntry, ...]
    """Of the five newest sessions that have any."""
    feedback: tuple[FeedbackEntry, ...]
    attendance: dict[str, int]
    """Sessions scheduled in the period: completed, abandoned, no_show, interviewer_no_show, cancelled, open;
    and ``late``: how many of them started more than five minutes after their scheduled start."""
    show: Ratio
