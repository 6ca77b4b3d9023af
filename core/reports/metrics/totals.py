"""A period's totals, those of the period before it, and of all their weeks."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from core.reports.data import FeedbackTimes, Ratio, Totals, Wait, Week
from core.reports.metrics.counts import Counts, count
from core.reports.metrics.feedback import FeedbackCounts, feedback
from core.reports.metrics.moments import ONE_INTERVIEW, OUTCOMES
from core.reports.metrics.periods import Slice, Span
from core.reports.metrics.waits import DECIDING, SCHEDULING, Waits, hiring, waits


@dataclass(frozen=True, slots=True)
class PeriodTotals:
    """The figures of a period and of the one before it, in total and by week."""

    now: Totals
    before: Totals
    weeks: tuple[Week, ...]
    weeks_before: tuple[Week, ...]
    feedback: FeedbackTimes
    feedback_counts: FeedbackCounts
    stages: Counter[int]
    n: int

    @property
    def outcomes(self) -> dict[str, int]:
        """The outcomes of all sessions of the period."""
        return {name: sum(week.outcomes[name] for week in self.weeks) for name in OUTCOMES}


def period_totals(db: Session, span: Span, given: Mapping[str, Any]) -> PeriodTotals:
    """The figures of all sessions, or of those of ``given["interview"]``."""
    only = ONE_INTERVIEW if "interview" in given else ""
    read = _PeriodStats(
        count(db, given, only),
        feedback(db, given, only),
        hiring(db, given),
        waits(db, SCHEDULING, given, only),
        waits(db, DECIDING, given, only),
    )
    before, now = range(1, 1 + len(span.before)), range(1 + len(span.before), 1 + len(span.before) + len(span.now))
    return PeriodTotals(
        now=read.totals(now, True),
        before=read.totals(before, False),
        weeks=read.weeks(span.now, now, True),
        weeks_before=read.weeks(span.before, before, False),
        feedback=read.feedback.times(now),
        feedback_counts=read.feedback,
        stages=read.counts.stages,
        n=read.counts.n,
    )


@dataclass(frozen=True, slots=True)
class _PeriodStats:
    counts: Counts
    feedback: FeedbackCounts
    hire: Waits
    delay: Waits
    decision: Waits

    def weeks(self, slices: Sequence[Slice], numbers: range, current: bool) -> tuple[Week, ...]:
        return tuple(
            Week(
                one.monday,
                {name: self.counts.outcomes[number][name] for name in OUTCOMES},
                self.totals([number], current, number),
            )
            for one, number in zip(slices, numbers, strict=True)
        )

    def totals(self, numbers: Iterable[int], current: bool, week: int | None = None) -> Totals:
        """The totals of the weeks with these numbers; ``week``: the week of the waits, None for the whole period."""
        n, due, in_time = Counter[str](), 0, 0
        for number in numbers:
            n.update(self.counts.weeks[number])
            due += self.feedback.due[number]
            in_time += self.feedback.in_time[number]
        key = current, week
        return Totals(
            planned=n["planned"],
            completed=n["completed"],
            show=Ratio(n["came"], n["came"] + n["missed"]),
            no_show=Ratio(n["missed"], n["came"] + n["missed"]),
            held=Ratio(n["held"], n["planned"]),
            completion=Ratio(n["completed"], n["completed"] + n["abandoned"]),
            conversion=Ratio(n["converted"], n["resolved"]),
            passed=Ratio(n["passed"], n["scored"]),
            feedback_in_time=Ratio(in_time, due),
            time_to_hire=self.hire.get(key, Wait(0)),
            scheduling_delay=self.delay.get(key, Wait(0)),
            time_to_decision=self.decision.get(key, Wait(0)),
        )
