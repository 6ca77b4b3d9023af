"""Weeks as the axis of a chart, merged into longer steps where there are many."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from core.reports.data import Period, Ratio, Week
from core.reports.formatting import FEW

MOST = 53
"""Maximum steps on an axis; more weeks than that are merged."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the axis: one or more weeks; ``cut`` when the period contains only a part of it."""

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
        """The outcomes of the sessions of its weeks."""
        found: dict[str, int] = {}
        for week in self.weeks:
            for kind, n in week.outcomes.items():
                found[kind] = found.get(kind, 0) + n
        return found


def steps(weeks: Sequence[Week], period: Period | None = None, size: int = 0) -> list[Step]:
    """The steps of the axis, oldest first: of ``size`` weeks each, or (0) of so many that there are at most MOST."""
    size = size or max(1, -(-len(weeks) // MOST))
    result = []
    for at in range(0, len(weeks), size):
        group = tuple(weeks[at : at + size])
        result.append(Step(group[0].monday, group, cut=len(group) < size or _cut(group, period)))
    return result


def weeks_per_step(weeks: Sequence[Week], n: int) -> int:
    """How many weeks a step needs so that n things give about twenty a step."""
    return max(-(-len(weeks) // MOST), -(-len(weeks) * FEW // n), 1) if n else 1


def unit(found: Sequence[Step]) -> str:
    """The length of one step: "week", "4 weeks"."""
    size = max((len(step.weeks) for step in found), default=1)
    return "week" if size == 1 else f"{size} weeks"


def labels(found: Sequence[Step]) -> list[str]:
    """The steps' Mondays: "06 Sep", or "Sep 26" for axes longer than a year."""
    long = (found[-1].monday - found[0].monday).days > 365
    return [f"{step.monday:%b %y}" if long else f"{step.monday:%d %b}" for step in found]


def _cut(group: Sequence[Week], period: Period | None) -> bool:
    if period is None:
        return False
    zone = ZoneInfo(period.zone)
    start, end = period.start.astimezone(zone), period.end.astimezone(zone)
    begins = start.date() if start.time().isoformat() == "00:00:00" else start.date() + timedelta(days=1)
    return group[0].monday < begins or group[-1].monday + timedelta(days=7) > end.date()
