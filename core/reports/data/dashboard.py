"""The data of the dashboard."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

from core.reports.data.measures import Ratio, Spread, Stamp, Wait


@dataclass(frozen=True, slots=True)
class Totals:
    """One period's figures, defined in ``core.reports.metrics``; counts of its weeks add up to the period's."""

    planned: int
    """Sessions with a scheduled start in the period; ``held.whole``."""
    completed: int
    """Completed sessions that started in the period; ``completion.part``."""
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
    """A stage of the funnel: how many of the sessions invited in the period reached it."""

    name: str
    sessions: int


@dataclass(frozen=True, slots=True)
class Week:
    """A week of the period, by its Monday in the period's zone; the first and the last may be partial."""

    monday: date
    outcomes: dict[str, int]
    """Outcomes of the sessions of the week (by scheduled start, else actual start, else the invitation's expiry):
    completed, abandoned, no_show, cancelled, expired, and open."""
    totals: Totals


class Scores(NamedTuple):
    """The scores of a position's sessions, 0 to 100."""

    position: str
    spread: Spread
    outliers: tuple[float, ...] = ()
    """The distinct values beyond the whiskers; the 50 outermost at most."""


@dataclass(frozen=True, slots=True)
class FeedbackTimes:
    """When feedback was submitted, as a share of the time to its deadline: 1.0 is the deadline itself."""

    in_time: Ratio
    curve: tuple[tuple[float, float], ...]
    """(share of the time to the deadline, share of feedback submitted by then), from 0.0 to 3.0 in 76 points, one of
    them 1.0; empty when none was due."""
    deadline_hours: Wait
    """The deadlines, which are set by the interviews."""


class Load(NamedTuple):
    """An interviewer's completed sessions in the period, and their hours from start to end. Names may not be unique."""

    name: str
    sessions: int
    hours: float


class Attention(NamedTuple):
    """One item of the attention list."""

    kind: str
    """``interviewer_no_show``, ``mail``, ``feedback_overdue``, ``no_show`` (without a new attempt), ``undecided``,
    ``expiring``: the most urgent first."""
    session_id: UUID | None
    who: str
    """The candidate's name; for overdue feedback the interviewer's, for a mail its address."""
    what: str
    """The interview's title; for a mail its kind and status."""
    at: datetime
    """The scheduled start, the deadline, the end of the session, the expiry, or when the mail was created."""


@dataclass(frozen=True, slots=True)
class Operations:
    """Reminders, mails and job runs of the period."""

    reminders_in_time: Ratio
    """Sent by ``send_by`` / (sent + skipped as too late)."""
    mails_sent: int
    mails_dead: int
    mails_uncertain: int
    late_runs: int


@dataclass(frozen=True, slots=True)
class Dashboard:
    """All data of the dashboard, from one snapshot."""

    stamp: Stamp
    totals: Totals
    previous: Totals
    """Those of the preceding period of the same length."""
    funnel: tuple[Stage, ...]
    weeks: tuple[Week, ...]
    previous_weeks: tuple[Week, ...]
    histogram: tuple[int, ...]
    """Scored sessions in twenty bins of five points; the last includes 100."""
    pass_scores: tuple[float, ...]
    """The distinct pass scores of the interviews with scored sessions."""
    scores: Spread
    positions: tuple[Scores, ...]
    """The most scored first, at most ten."""
    feedback: FeedbackTimes
    interviewers: tuple[Load, ...]
    """The busiest first, at most fifteen."""
    interviewer_count: int
    heat: dict[tuple[int, int], int]
    """(ISO weekday 1–7, hour 0–23 in the period's zone) → sessions scheduled to start then; empty cells are absent."""
    attention: tuple[Attention, ...]
    """The most urgent first, at most thirty."""
    attention_count: int
    operations: Operations
