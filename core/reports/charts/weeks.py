"""Weeks as the axis of a chart: put together where they are many, beside the period before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from core.reports.data import Period, Ratio, Week
from core.reports.formatting import FEW

MOST = 53
"""Steps on an axis; more weeks than that are put together."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the axis: a week, or several; ``cut`` where the period has only a part of it."""

    monday: date
    weeks: tuple[Week, ...]
    cut: bool = False

    def count(self, of: Callable[[Week], int]) -> int:
        """The sum over its weeks."""
        return sum(of(week) for week in self.weeks)

    def ratio(self, of: Callable[[Week], Ratio]) -> Ratio:
        """The ratio over its weeks."""
        return Ratio(self.count(lambda week: of(week).part), self.count(lambda week: of(week).whole))

    def outcomes(self) -> dict[str, int]:
        """What became of its weeks' sessions."""
        found: dict[str, int] = {}
        for week in self.weeks:
            for kind, n in week.outcomes.items():
                found[kind] = found.get(kind, 0) + n
        return found


def steps(weeks: Sequence[Week], period: Period | None = None, size: int = 0) -> list[Step]:
    """The axis' steps, oldest first; of so many weeks each, or of as many as make the axis readable."""
    size = size or max(1, -(-len(weeks) // MOST))
    made = []
    for at in range(0, len(weeks), size):
        group = tuple(weeks[at : at + size])
        made.append(Step(group[0].monday, group, cut=len(group) < size or _cut(group, period)))
    return made


def enough(weeks: Sequence[Week], n: int) -> int:
    """How many weeks to put together so that n of something give about twenty a step."""
    return max(-(-len(weeks) // MOST), -(-len(weeks) * FEW // n), 1) if n else 1


def unit(found: Sequence[Step]) -> str:
    """What one step is: "week", "4 weeks"."""
    size = max((len(step.weeks) for step in found), default=1)
    return "week" if size == 1 else f"{size} weeks"


def labels(found: Sequence[Step]) -> list[str]:
    """The steps' Mondays: "06 Sep", or "Sep 26" where a day would not tell the year."""
    long = (found[-1].monday - found[0].monday).days > 365
    return [f"{step.monday:%b %y}" if long else f"{step.monday:%d %b}" for step in found]


def _cut(group: Sequence[Week], period: Period | None) -> bool:
    if period is None:
        return False
    zone = ZoneInfo(period.zone)
    start, end = period.start.astimezone(zone), period.end.astimezone(zone)
    begins = start.date() if start.time().isoformat() == "00:00:00" else start.date() + timedelta(days=1)
    return group[0].monday < begins or group[-1].monday + timedelta(days=7) > end.date()
