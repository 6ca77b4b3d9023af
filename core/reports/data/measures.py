"""Measures: periods, ratios that may be undefined, distributions and waiting times."""

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
    """Durations in hours: median and 90th percentile; None at n = 0."""

    n: int
    median: float | None = None
    p90: float | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """[``start``, ``end``), both aware; displayed in ``zone``."""

    start: datetime
    end: datetime
    zone: str


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every page shows: the period, when the data was read, and the number of sessions."""

    period: Period
    as_of: datetime
    n: int
