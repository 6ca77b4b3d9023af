"""The data of an interview's report."""

from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from core.reports.data.dashboard import Totals, Week
from core.reports.data.measures import Spread, Stamp


class QuestionStats(NamedTuple):
    """One question: how many sessions reached and answered it, its difficulty, and its discrimination."""

    ordinal: int
    text: str
    skill: str
    required: bool
    reached: int
    """Sessions started in the period that answered it or a later one."""
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
    """Answers scored by both the AI and a person, as shares of the maximum."""

    n: int
    correlation: float | None
    mean_difference: float | None
    """AI minus human."""
    points: tuple[tuple[float, float, int], ...]
    """(AI, human, count), on a grid of 2 %; at most 51 × 51."""


@dataclass(frozen=True, slots=True)
class InterviewReport:
    """All data of one interview's analytics, from one snapshot."""

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
    questions: tuple[QuestionStats, ...]
    skills: tuple[SkillWeek, ...]
    ai_human: AiHuman
