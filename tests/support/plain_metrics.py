"""The report's definitions once more, in slow and plain Python over rows: what the SQL is held against."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from core.models import Candidate, InterviewSession
from core.reports.data import Period, Ratio, Spread, Totals, Wait


@dataclass
class Row:
    """A session with what the definitions need of its surroundings."""

    session: InterviewSession
    candidate: Candidate
    pass_score: float
    deadline: int
    feedback_at: datetime | None = None

    @property
    def began(self) -> datetime | None:
        """When it began."""
        s = self.session
        if s.started_at is None and s.status == "completed":
            return s.scheduled_start or s.ended_at
        return s.started_at

    @property
    def due(self) -> datetime | None:
        """When its feedback was due."""
        s = self.session
        owed = s.status == "completed" and s.interviewer_id is not None and s.ended_at is not None
        return s.ended_at + timedelta(hours=self.deadline) if owed and s.ended_at else None

    @property
    def in_time(self) -> bool:
        """Whether feedback came by then."""
        return self.due is not None and self.feedback_at is not None and self.feedback_at <= self.due

    @property
    def over_at(self) -> datetime | None:
        """When it was known what became of the invitation."""
        expires = self.session.invitation_expires_at
        return None if expires is None else self.began or expires

    @property
    def slot(self) -> datetime:
        """Whose time it was."""
        s = self.session
        return s.scheduled_start or self.began or s.invitation_expires_at or s.created_at

    @property
    def score(self) -> float | None:
        """0 to 100."""
        return None if self.session.score is None else float(self.session.score)


@dataclass
class Plain:
    """All rows, as of a moment."""

    rows: Sequence[Row]
    candidates: Sequence[Candidate]
    as_of: datetime

    def totals(self, within: Callable[[datetime | None], bool]) -> Totals:
        """The figures of the moments that ``within`` lets in."""
        planned = [r for r in self.rows if within(r.session.scheduled_start)]
        begun = [r for r in self.rows if within(r.began)]
        over_at = [r for r in self.rows if within(r.over_at) and (r.began or _at(r.over_at) <= self.as_of)]
        due = [r for r in self.rows if within(r.due) and _at(r.due) <= self.as_of]
        came = sum(r.began is not None for r in planned)
        missed = sum(
            r.began is None and r.session.status == "no_show" and r.session.no_show_party == "candidate"
            for r in planned
        )
        completed = sum(r.session.status == "completed" for r in begun)
        abandoned = sum(r.session.status == "abandoned" for r in begun)
        scored = [r for r in begun if r.score is not None]
        decided = [(r.session.ended_at, r.session.decided_at) for r in self.rows if within(r.session.decided_at)]
        hired = [(c.applied_at, c.hired_at) for c in self.candidates if within(c.hired_at)]
        return Totals(
            planned=len(planned),
            completed=completed,
            show=Ratio(came, came + missed),
            no_show=Ratio(missed, came + missed),
            held=Ratio(sum(r.session.status == "completed" for r in planned), len(planned)),
            completion=Ratio(completed, completed + abandoned),
            conversion=Ratio(sum(r.began is not None for r in over_at), len(over_at)),
            passed=Ratio(sum(r.score >= r.pass_score for r in scored if r.score is not None), len(scored)),
            feedback_in_time=Ratio(
                sum(r.feedback_at is not None and r.feedback_at <= _at(r.due) for r in due), len(due)
            ),
            time_to_hire=wait(hired),
            scheduling_delay=wait([(r.session.created_at, r.session.scheduled_start) for r in planned]),
            time_to_decision=wait(decided),
        )

    def outcomes(self, within: Callable[[datetime | None], bool]) -> dict[str, int]:
        """What became of the sessions whose time it was."""
        known = ("completed", "abandoned", "no_show", "cancelled", "expired")
        counts = Counter(r.session.status if r.session.status in known else "open" for r in self.rows if within(r.slot))
        return {name: counts[name] for name in (*known, "open")}

    def n(self, within: Callable[[datetime | None], bool]) -> int:
        """The sessions of a period."""
        return sum(
            any(map(within, (s.created_at, s.scheduled_start, r.began, r.over_at, r.due, s.decided_at)))
            for r in self.rows
            if (s := r.session)
        )

    def funnel(self, within: Callable[[datetime | None], bool]) -> list[int]:
        """How far those invited got."""
        got = [0] * 6
        for r in self.rows:
            if not within(r.session.created_at):
                continue
            held = r.session.status == "completed"
            advanced = held and r.session.decision == "advance"
            steps = [advanced and r.candidate.hired_at, advanced, held, r.began, r.session.opened_at, True]
            reached = 6 - next(place for place, step in enumerate(steps) if step)
            for place in range(reached):
                got[place] += 1
        return got


def _at(moment: datetime | None) -> datetime:
    assert moment is not None
    return moment


def wait(pairs: Iterable[tuple[datetime | None, datetime | None]]) -> Wait:
    """Median and 90th percentile of those in the right order."""
    hours = sorted((b - a).total_seconds() / 3600 for a, b in pairs if a is not None and b is not None and b >= a)
    return Wait(len(hours), quantile(hours, 0.5), quantile(hours, 0.9)) if hours else Wait(0)


def quantile(values: Sequence[float], share: float) -> float:
    """Between the two values next to the place."""
    place = share * (len(values) - 1)
    low, high = values[math.floor(place)], values[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


def spread(values: Iterable[float]) -> Spread:
    """Quartiles and Tukey's whiskers."""
    ordered = sorted(values)
    if not ordered:
        return Spread(0)
    first, median, third = (quantile(ordered, share) for share in (0.25, 0.5, 0.75))
    reach = 1.5 * (third - first)
    inside = [value for value in ordered if first - reach <= value <= third + reach]
    return Spread(len(ordered), inside[0], first, median, third, inside[-1])


def monday(moment: datetime, zone: str) -> date:
    """The week a moment is in, by its local date."""
    day = moment.astimezone(ZoneInfo(zone)).date()
    return day - timedelta(days=day.weekday())


def before(period: Period) -> Period:
    """The period just before: by days when it is made of days, else by its length."""
    zone = ZoneInfo(period.zone)
    start, end = (at.astimezone(zone) for at in (period.start, period.end))
    if start.time() == end.time() == time(0) and start.fold == end.fold == 0:
        day = start.date() - (end.date() - start.date())
        return Period(datetime.combine(day, time(), zone).astimezone(UTC), period.start, period.zone)
    return Period(period.start - (period.end - period.start), period.start, period.zone)
