"""A period, ratios that may be undefined, distributions and waits."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


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
