"""Feedback: in time or late, and when it was submitted."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from core.reports.data import FeedbackTimes, Ratio, Wait
from core.reports.metrics.moments import ENDED_LATE_ENOUGH, build_query, week, within

STEPS = 25
"""Points of the curve from the session's end to the deadline; the curve continues to three times that."""

MISSING = 30
WITHDRAWN = "candidate_id IN (SELECT id FROM candidates WHERE withdrawn_at IS NOT NULL)"

FEEDBACK = f"""
    WITH owed AS MATERIALIZED (
        SELECT id, due, deadline,
            submitted_at IS NULL AND due >= :start AND deleted_at IS NULL AND NOT {WITHDRAWN} AS missing,
            submitted_at <= due AS in_time, CASE
                WHEN submitted_at <= ended THEN 0
                WHEN deadline > 0
                    THEN ceil(least(date_part('epoch', submitted_at - ended) * {STEPS} / (deadline * 3600), 1000))
            END AS step
        FROM facts LEFT JOIN feedback
            ON feedback.session_id = facts.id AND feedback.interviewer_id = facts.interviewer_id
        WHERE {within("due", ":first")} AND due <= :as_of AND status = 'completed' AND {ENDED_LATE_ENOUGH}
    )
    SELECT week, deadline, step, count(*) AS n, count(*) FILTER (WHERE in_time) AS in_time,
        count(*) FILTER (WHERE missing) AS missing, CAST(NULL AS uuid) AS id, CAST(NULL AS timestamptz) AS due
    FROM (SELECT {week("due")} AS week, owed.* FROM owed) AS counted GROUP BY 1, 2, 3
    UNION ALL
    SELECT NULL, NULL, NULL, NULL, NULL, NULL, id, due
    FROM (SELECT id, due FROM owed WHERE missing ORDER BY due DESC, id LIMIT {MISSING}) AS newest
"""  # noqa: S608 - our constants
""""Feedback in time = on time / due; missing counts as late" (docs/domain.md, "Report definitions"): of the session's
interviewer, by the deadline, once that has passed; the first submission counts. And the newest missing feedback of the
period, unless the candidate withdrew."""


@dataclass(slots=True)
class FeedbackCounts:
    """Feedback that was due, by week: how much, how much in time, and when, in steps of the time to the deadline."""

    due: Counter[int] = field(default_factory=Counter)
    in_time: Counter[int] = field(default_factory=Counter)
    steps: dict[int, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    deadlines: dict[int, Counter[float]] = field(default_factory=lambda: defaultdict(Counter))
    missing: int = 0
    newest_missing: list[tuple[UUID, datetime]] = field(default_factory=list)
    """The sessions of the period whose feedback is missing, with its deadline; at most MISSING."""

    def times(self, weeks: Iterable[int]) -> FeedbackTimes:
        """When the feedback due in these weeks was submitted."""
        steps, deadlines, kept = Counter[int](), Counter[float](), list(weeks)
        for number in kept:
            steps.update(self.steps[number])
            deadlines.update(self.deadlines[number])
        ratio = Ratio(sum(self.in_time[number] for number in kept), sum(self.due[number] for number in kept))
        came = accumulate(steps[step] for step in range(3 * STEPS + 1))
        curve = ((step / STEPS, n / ratio.whole) for step, n in enumerate(came)) if ratio.whole else ()
        hours = [weighted_quantile(deadlines, share) for share in (0.5, 0.9)] if deadlines else []
        return FeedbackTimes(ratio, tuple(curve), Wait(ratio.whole, *hours))


def feedback(db: Session, given: Mapping[str, Any], only: str = "") -> FeedbackCounts:
    """The feedback of all sessions, or of those of the condition ``only``."""
    found = FeedbackCounts()
    for row in db.execute(build_query(FEEDBACK, only), given):
        if row.id is not None:
            found.newest_missing.append((row.id, row.due))
            continue
        found.due[row.week] += row.n
        found.in_time[row.week] += row.in_time
        found.missing += row.missing
        found.deadlines[row.week][float(row.deadline)] += row.n
        if row.step is not None:
            found.steps[row.week][int(row.step)] += row.n
    return found


def weighted_quantile(counts: Mapping[float, int], share: float) -> float:
    """A quantile of counted values, interpolated as by ``percentile_cont``."""
    place = share * (sum(counts.values()) - 1)
    below, above = (_at(counts, int(place)), _at(counts, -int(-place // 1)))
    return below + (above - below) * (place - int(place))


def _at(counts: Mapping[float, int], place: int) -> float:
    upto = 0
    for value in sorted(counts):
        upto += counts[value]
        if upto > place:
            return value
    raise IndexError(place)
