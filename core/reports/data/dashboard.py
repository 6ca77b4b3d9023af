"""The dashboard's figures as they were read."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

from core.reports.data.measures import Ratio, Spread, Stamp, Wait


@dataclass(frozen=True, slots=True)
class Totals:
    """One period's figures by the definitions of the metrics module; those of its weeks add up to the period's."""

    planned: int
    """Sessions with a planned start in it; ``held.whole``."""
    completed: int
    """Sessions completed of those that began in it; ``completion.part``."""
    show: Ratio
    no_show: Ratio
    held: Ratio
    completion: Ratio
    conversion: Ratio
    passed: Ratio
    feedback_in_time: Ratio
    time_to_hire: Wait
    scheduling_delay: Wait
    time_to_decision: Wait


class Stage(NamedTuple):
    """A step of the funnel: how many of the sessions invited in the period got at least there."""

    name: str
    sessions: int


@dataclass(frozen=True, slots=True)
class Week:
    """A week of the period, by the Monday it begins with in the period's zone; the first and last may be cut."""

    monday: date
    outcomes: dict[str, int]
    """What became of the sessions whose time it was (the planned start, else the begin, else the end of the
    invitation): completed, abandoned, no_show, cancelled, expired, and open."""
    totals: Totals


class Scores(NamedTuple):
    """How a position's sessions were scored, 0 to 100."""

    position: str
    spread: Spread
    outliers: tuple[float, ...] = ()
    """The distinct values beyond the whiskers; at most 50, the outermost."""


@dataclass(frozen=True, slots=True)
class FeedbackTimes:
    """When feedback came, as the share of the deadline that had passed: 1.0 is the deadline itself."""

    in_time: Ratio
    curve: tuple[tuple[float, float], ...]
    """(share of the deadline, share of feedback due that was in by then), rising from 0.0 to 3.0 in 76 points, one of
    them 1.0; empty when none was due."""
    deadline_hours: Wait
    """The deadlines themselves: they are the interviews'."""


class Load(NamedTuple):
    """What one interviewer held in the period: sessions completed, from begin to end. Two may have the same name."""

    name: str
    sessions: int
    hours: float


class Attention(NamedTuple):
    """One thing that people should look at."""

    kind: str
    """``interviewer_no_show``, ``mail``, ``feedback_overdue``, ``no_show`` (no new attempt), ``undecided``,
    ``expiring``, in the order of their urgency."""
    session_id: UUID | None
    who: str
    """Of feedback the interviewer's name, else the candidate's; of a mail the address it was for."""
    what: str
    """The interview's title; of a mail its kind and what became of it."""
    at: datetime
    """The planned start, the deadline, the end of the session, the expiry, or when the mail was made."""


@dataclass(frozen=True, slots=True)
class Operations:
    """How the backstage did in the period."""

    reminders_in_time: Ratio
    """Sent by ``send_by`` / sent or skipped for lateness."""
    mails_sent: int
    mails_dead: int
    mails_uncertain: int
    late_runs: int


@dataclass(frozen=True, slots=True)
class Dashboard:
    """All of the dashboard report, from one snapshot."""

    stamp: Stamp
    totals: Totals
    previous: Totals
    """Of the period of the same length just before."""
    funnel: tuple[Stage, ...]
    weeks: tuple[Week, ...]
    previous_weeks: tuple[Week, ...]
    histogram: tuple[int, ...]
    """Scored sessions in twenty bins of five points; the last includes 100."""
    pass_scores: tuple[float, ...]
    """The distinct lines to pass of the interviews scored."""
    scores: Spread
    positions: tuple[Scores, ...]
    """The most scored first, at most ten."""
    feedback: FeedbackTimes
    interviewers: tuple[Load, ...]
    """The busiest first, at most fifteen."""
    interviewer_count: int
    heat: dict[tuple[int, int], int]
    """(ISO weekday 1–7, hour 0–23 in the period's zone) → sessions that were to start then; others are absent."""
    attention: tuple[Attention, ...]
    """The most urgent first, at most thirty."""
    attention_count: int
    operations: Operations
