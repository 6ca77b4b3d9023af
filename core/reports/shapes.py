"""What reports are about: a period, ratios that may be undefined, and each report's figures as they were read."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID


class Ratio(NamedTuple):
    """A part of a whole; undefined, and printed as "–", where the whole is empty."""

    part: int
    whole: int

    @property
    def value(self) -> float | None:
        """Between 0 and 1; None: undefined."""
        return self.part / self.whole if self.whole else None


class Spread(NamedTuple):
    """A distribution in five numbers and its size; all None at n = 0. ``low`` and ``high`` are the ends of whiskers:
    the outermost values within 1.5 times the box (Tukey)."""

    n: int
    low: float | None = None
    first: float | None = None
    median: float | None = None
    third: float | None = None
    high: float | None = None


class Wait(NamedTuple):
    """How long something took, in hours: median and 90th percentile; None at n = 0."""

    n: int
    median: float | None = None
    p90: float | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """From ``start`` to before ``end``, both aware; told in ``zone``."""

    start: datetime
    end: datetime
    zone: str


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every page says: the period, what was read when, and how many sessions it is about."""

    period: Period
    as_of: datetime
    n: int


# The dashboard


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
    """Values beyond the whiskers; at most 50, the outermost."""


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
    """(ISO weekday 1–7, hour 0–23 in the period's zone) → sessions that were to start then; hours without are absent."""
    attention: tuple[Attention, ...]
    """The most urgent first, at most thirty."""
    attention_count: int
    operations: Operations


# One interview


class QuestionFigures(NamedTuple):
    """One question: how many got to it and answered it, how hard it is, and whether it tells good from bad."""

    ordinal: int
    text: str
    skill: str
    required: bool
    reached: int
    """Sessions begun in the period that answered it or a later one."""
    answered: int
    difficulty: float | None
    """Mean score / max score: near 1 is easy."""
    scored: int
    discrimination: float | None
    """Correlation with the rest of the score; None for n < 20 or no variance."""
    seconds: Spread


class SkillWeek(NamedTuple):
    """One skill in one week of the period: mean share of points over n scored answers; every skill has every week."""

    skill: str
    monday: date
    mean: float | None
    n: int


@dataclass(frozen=True, slots=True)
class AiHuman:
    """Answers that both scored, as shares of the maximum."""

    n: int
    correlation: float | None
    mean_difference: float | None
    """AI minus human."""
    points: tuple[tuple[float, float, int], ...]
    """(AI, human, how many), on a grid of 2 %; at most 51 × 51."""


@dataclass(frozen=True, slots=True)
class InterviewReport:
    """All of one interview's analytics, from one snapshot."""

    stamp: Stamp
    interview_id: int
    title: str
    position: str
    duration_minutes: int
    pass_score: float
    totals: Totals
    previous: Totals
    outcomes: dict[str, int]
    weeks: tuple[Week, ...]
    histogram: tuple[int, ...]
    scores: Spread
    started: int
    questions: tuple[QuestionFigures, ...]
    skills: tuple[SkillWeek, ...]
    ai_human: AiHuman


# One candidate


class SessionLine(NamedTuple):
    """One session of the candidate's."""

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


class SkillFigures(NamedTuple):
    """The candidate's share of points in a skill beside the median of others at the same position."""

    position: str
    skill: str
    mean: float
    n: int
    median: float | None
    """Of other candidates' means; None when there are none."""
    others: int


class AnswerLine(NamedTuple):
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


class FeedbackLine(NamedTuple):
    """What one interviewer recommends."""

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
    sessions: tuple[SessionLine, ...]
    """Oldest first; the newest hundred."""
    skills: tuple[SkillFigures, ...]
    answers: tuple[AnswerLine, ...]
    """Of the newest five sessions that have any."""
    feedback: tuple[FeedbackLine, ...]
    attendance: dict[str, int]
    """Sessions that had a time in the period: completed, abandoned, no_show, interviewer_no_show, cancelled, open;
    and ``late``: how many of them began more than five minutes after it."""
    show: Ratio
